//! Function results with other content.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::UNUSED;
use crate::session_rig::{Rig, T0, r, u};
use crate::support::three_ways;

three_ways! {
    c06_case_20_update_part,
    c06_case_21_update_part_without_output_or_without_a_result,
    c06_case_22_update_parts,
    c06_case_22_what_is_no_item_is_left_out,
}

async fn row(rig: &Rig, session: &str, id: &str) -> Value {
    let rows = rig.rows(session).await;
    rows.into_iter().find(|row| row["id"] == id).unwrap()
}

async fn c06_case_20_update_part() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.append(&session, u("a"), None).await;
    let mut result = r("long");
    result["details"] = json!({"keep": 1});
    let id = rig.append(&session, result, None).await;
    rig.append(&session, u("b"), None).await;
    let mut expected = row(&rig, &session, &id).await;
    rig.clock.advance(1_000);
    let request = json!({"session_id": session, "entry_id": id, "output": "short", "compacted_at": 7});
    let reply = rig.call("session-tree::update_part", request).await.unwrap();
    assert_eq!(reply, json!({"ok": true, "updated": 1}));
    expected["message"]["content"] = json!([{"type": "text", "text": "short"}]);
    expected["message"]["details"] = json!({"keep": 1, "compacted_at": 7});
    assert_eq!(row(&rig, &session, &id).await, expected);
    assert_eq!(rig.texts(&session).await, ["a", "short", "b"]);
    assert_eq!(rig.reborn().await.texts(&session).await, ["a", "short", "b"]);
    let meta = rig.meta(&session).await;
    assert_eq!(
        (
            &meta["updated_at"],
            &meta["entry_count"],
            &meta["last_message_summary"]
        ),
        (&json!(T0 + 1_000), &json!(3), &json!("b"))
    );
}

async fn c06_case_21_update_part_without_output_or_without_a_result() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let user = rig.append(&session, u("a"), None).await;
    let first = rig.append(&session, r("long"), None).await;
    let second = rig.append(&session, r("long"), None).await;
    for (id, output) in [(&first, Value::Null), (&second, json!(["no text"]))] {
        let request = json!({"session_id": session, "entry_id": id, "output": output});
        let reply = rig.call("session-tree::update_part", request).await.unwrap();
        assert_eq!(reply, json!({"ok": true, "updated": 1}));
        let message = &row(&rig, &session, id).await["message"];
        assert_eq!(
            message["content"],
            json!([{"type": "text", "text": "[output pruned]"}])
        );
        assert_eq!(message["details"], json!({}));
    }
    let request = json!({"session_id": session, "entry_id": first, "output": ""});
    rig.call("session-tree::update_part", request).await.unwrap();
    assert_eq!(rig.texts(&session).await, ["a", "", "[output pruned]"]);
    rig.clear();
    for (session, id) in [
        (session.as_str(), user.as_str()),
        (&session, "nobody"),
        ("ghost", &first),
    ] {
        let request = json!({"session_id": session, "entry_id": id, "output": "x"});
        let reply = rig.call("session-tree::update_part", request).await.unwrap();
        assert_eq!(reply, json!({"ok": true, "updated": 0}));
    }
    assert_eq!(rig.writes(), UNUSED);
    let request = json!({ "session_id": session });
    let text = rig.refusal("session-tree::update_part", request).await;
    assert_eq!(text, "missing required string field: entry_id");
}

async fn c06_case_22_update_parts() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let user = rig.append(&session, u("a"), None).await;
    let first = rig.append(&session, r("one"), None).await;
    let second = rig.append(&session, r("two"), None).await;
    rig.clear();
    let items = json!([
        {"entry_id": first, "output": null, "compacted_at": 5},
        {"entry_id": second, "output": "2"},
        {"entry_id": user, "output": "x"},
        {"entry_id": "nobody"},
        {"output": "x"},
    ]);
    let request = json!({"session_id": session, "items": items});
    let reply = rig.call("session-tree::update_parts", request).await.unwrap();
    assert_eq!(reply, json!({"updated": 2}));
    assert_eq!(rig.texts(&session).await, ["a", "[output pruned]", "2"]);
    assert_eq!(
        row(&rig, &session, &first).await["message"]["details"],
        json!({"compacted_at": 5})
    );
    for items in [json!("x"), Value::Null, json!({"entry_id": first}), json!([])] {
        let request = json!({"session_id": session, "items": items});
        let reply = rig.call("session-tree::update_parts", request).await.unwrap();
        assert_eq!(reply, json!({"updated": 0}));
    }
}

async fn c06_case_22_what_is_no_item_is_left_out() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let id = rig.append(&session, r("one"), None).await;
    let items = json!([
        null, 4, "x", [id], {"entry_id": ""}, {"entry_id": 7},
        {"entry_id": id, "output": "a", "compacted_at": 1},
        {"entry_id": id, "output": "b"},
    ]);
    let request = json!({"session_id": session, "items": items});
    let reply = rig.call("session-tree::update_parts", request).await.unwrap();
    assert_eq!(reply, json!({"updated": 1}));
    assert_eq!(rig.texts(&session).await, ["b"]);
    assert_eq!(
        row(&rig, &session, &id).await["message"]["details"],
        json!({"compacted_at": 1})
    );

    let deep = (0..118).fold(json!(1), |inner, _| json!([inner]));
    let request = json!({"session_id": session, "items": [{"entry_id": id, "compacted_at": deep}]});
    let text = rig.refusal("session-tree::update_parts", request).await;
    assert_eq!(text, "invalid compacted_at: nested deeper than 120 levels");
    assert_eq!(rig.texts(&session).await, ["b"]);
}

#[tokio::test]
async fn all_parts_are_one_commit_and_a_failure_is_told() {
    let rig = Rig::start().await;
    let mut items = Vec::new();
    for n in 0..20 {
        items.push(json!({"entry_id": rig.append("s", r(&n.to_string()), None).await}));
    }
    let request = json!({"session_id": "s", "items": items});
    rig.fail(Some("commit"));
    let text = rig.refusal("session-tree::update_parts", request.clone()).await;
    assert_eq!(text, "state::set updateEntry: disk on fire");
    rig.fail(None);
    assert_eq!(rig.texts("s").await[19], "19");
    rig.clear();
    rig.call("session-tree::update_parts", request).await.unwrap();
    assert_eq!(rig.writes(), ["commit"]);
    assert_eq!(rig.texts("s").await, vec!["[output pruned]"; 20]);
}
