//! What the provider tells of itself and of its models.

use harness::scripted::Reply;
use pretty_assertions::assert_eq;

use super::*;

three_ways! {
    c08_case_38_weakness_15_discovery_reads_all_pages_and_keeps_on_failure,
}

async fn c08_case_38_weakness_15_discovery_reads_all_pages_and_keeps_on_failure() {
    let page = |ids: &[&str], next: Option<&str>| {
        let data: Vec<_> = ids
            .iter()
            .map(|id| json!({"type": "model", "id": id, "display_name": "A model"}))
            .collect();
        let listing = json!({"data": data, "has_more": next.is_some(), "first_id": ids[0], "last_id": next});
        Reply::fails(200, listing.to_string())
    };
    let world = World {
        listed: json!([{"id": "claude-opus-5", "provider": "anthropic"}, {"id": "gone", "provider": "anthropic"}]),
        ..world()
    };
    let rig = Rig::with(queue([]).with_models(Reply::fails(500, "")), world).await;
    let refresh = async || rig.test.ok(&rig.id("refresh_models"), Value::Null).await;
    let nothing = json!({"registered": []});
    assert_eq!(refresh().await, nothing);
    // A page that fails makes the whole listing fail; so does one without an end.
    rig.server
        .set_model_pages([page(&["claude-opus-5"], Some("1")), Reply::fails(500, "")]);
    assert_eq!(refresh().await, nothing);
    rig.server.set_model_pages([page(&["claude-opus-5"], Some("0"))]);
    assert_eq!(refresh().await, nothing);
    assert_eq!(rig.calls("models::register"), Vec::<Value>::new());

    rig.server.set_model_pages([
        page(&["claude-opus-5", "claude-haiku-4-5-20251001"], Some("1")),
        page(&["claude-next"], None),
    ]);
    let all = ["claude-opus-5", "claude-haiku-4-5-20251001", "claude-next"];
    assert_eq!(refresh().await, json!({ "registered": all }));
    let written = rig.calls("models::register");
    assert_eq!(written.len(), 4);
    assert_eq!(
        written[3],
        json!({"provider": "anthropic", "id": "gone", "removed": true})
    );
    let next = written
        .iter()
        .find(|record| record["id"] == "claude-next")
        .unwrap();
    assert_eq!(
        *next,
        json!({"id": "claude-next", "provider": "anthropic", "api": "anthropic-messages", "display_name": "A model",
            "context_window": 200_000, "max_output_tokens": 8192, "supports_tools": true, "transports": ["sse"]})
    );
    let headers = rig.server.listing_headers();
    let last = headers.last().unwrap();
    assert_eq!(
        (&last["x-api-key"], &last["anthropic-version"]),
        (&KEY.parse().unwrap(), &"2023-06-01".parse().unwrap())
    );
    rig.server.set_models(Reply::fails(500, ""));
    assert_eq!(refresh().await, nothing);
    assert_eq!(rig.calls("models::register").len(), 4);

    let token = World {
        credential: json!({"type": "oauth", "access_token": "tok"}),
        ..self::world()
    };
    let rig = Rig::with(queue([]), token).await;
    let asked = rig.server.listing_headers().remove(0);
    assert_eq!(
        (asked.get("x-api-key"), &asked["authorization"]),
        (None, &"Bearer tok".parse().unwrap())
    );
}
