//! What the provider asks of the listing, and tells the catalog.

use harness::scripted::Reply;
use pretty_assertions::assert_eq;

use super::*;

three_ways! {
    c08_case_37_weakness_16_discovery_registers_and_prunes,
    without_a_credential_the_catalog_slice_is_emptied,
}

async fn c08_case_37_weakness_16_discovery_registers_and_prunes() {
    let listed = json!([{"id": "gpt-5", "provider": "openai"}, {"id": "gone", "provider": "openai"},
        {"id": "other", "provider": "kimi"}]);
    let ids = [
        "gpt-5",
        "o3",
        "text-embedding-3-small",
        "whisper-1",
        "gpt-4o-audio-preview",
        "chatgpt-4o-latest",
    ];
    let world = World {
        listed,
        ..World::default()
    };
    let rig = Rig::with(queue([]).with_models(Reply::fails(500, "")), world).await;
    assert_eq!(rig.calls("models::register"), Vec::<Value>::new());

    let refresh = async || {
        rig.test
            .ok("provider::openai::refresh_models", json!("ignored"))
            .await
    };
    rig.server.set_models(Reply::models(ids));
    assert_eq!(
        refresh().await,
        json!({"registered": ["gpt-5", "o3", "chatgpt-4o-latest"]})
    );
    let written = rig.calls("models::register");
    let mut ids: Vec<_> = written
        .iter()
        .map(|record| record["id"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, ["chatgpt-4o-latest", "gone", "gpt-5", "o3"]);
    assert_eq!(
        written[3],
        json!({"provider": "openai", "id": "gone", "removed": true})
    );

    for odd in [
        Reply::fails(500, ""),
        Reply::fails(200, "no json"),
        Reply::fails(200, "{}"),
    ] {
        rig.server.set_models(odd);
        assert_eq!(refresh().await, json!({"registered": []}));
        assert_eq!(rig.calls("models::register").len(), 4);
    }
    rig.server.set_models(Reply::fails(401, ""));
    assert_eq!(refresh().await, json!({"registered": []}));
    let removed: Vec<_> = rig.calls("models::register").split_off(4);
    assert_eq!(
        removed,
        [
            json!({"provider": "openai", "id": "gpt-5", "removed": true}),
            json!({"provider": "openai", "id": "gone", "removed": true})
        ]
    );
}

async fn without_a_credential_the_catalog_slice_is_emptied() {
    let world = World {
        credential: Value::Null,
        listed: json!([{"id": "gpt-5", "provider": "openai"}]),
        ..World::default()
    };
    let rig = Rig::with(queue([]), world).await;
    let answer = rig.test.ok("provider::openai::refresh_models", json!({})).await;
    assert_eq!(answer, json!({"registered": []}));
    let removed = json!({"provider": "openai", "id": "gpt-5", "removed": true});
    assert!(rig.calls("models::register").contains(&removed));
    assert_eq!(rig.server.listings(), 0);
}
