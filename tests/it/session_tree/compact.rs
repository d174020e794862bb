//! Compactions and synthetic messages.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{compact, list};
use crate::session_rig::{Rig, T0, a, u};
use crate::support::three_ways;

three_ways! {
    c06_case_16_compact,
    c06_case_17_compact_twice,
    c06_case_18_a_synthetic_message_on_an_empty_session,
    c06_case_19_a_synthetic_message_goes_under_the_tip,
    c06_case_31_both_make_the_session,
    what_cannot_be_stored_is_refused,
}

async fn compactions(rig: &Rig, session: &str) -> Value {
    let request = json!({ "session_id": session });
    rig.call("session-tree::compactions", request).await.unwrap()
}

async fn row(rig: &Rig, session: &str, id: &str) -> Value {
    let rows = rig.rows(session).await;
    rows.into_iter().find(|row| row["id"] == id).unwrap()
}

async fn c06_case_16_compact() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let tip = rig.append(&session, u("a"), None).await;
    let before = rig.messages(json!({ "session_id": session })).await;
    let details = json!({"read_files": ["a.rs"]});
    let request = json!({"session_id": session, "summary": "s", "tokens_before": 12345, "details": details});
    let id = rig.call("session-tree::compact", request).await.unwrap()["entry_id"].clone();
    assert_eq!(
        row(&rig, &session, id.as_str().unwrap()).await,
        json!({"type": "compaction", "id": id, "parent_id": tip, "timestamp": T0 + 1, "summary": "s",
               "tokens_before": 12345, "tail_start_id": null, "details": details})
    );
    assert_eq!(
        compactions(&rig, &session).await,
        json!({"entries": [{"id": id, "summary": "s", "tokens_before": 12345, "tail_start_id": null, "details": details,
                            "timestamp": T0 + 1, "on_path": true, "messages_before": 1}]})
    );
    assert_eq!(rig.messages(json!({ "session_id": session })).await, before);
    let reply = list(&rig, json!({})).await;
    assert_eq!(reply["sessions"][0]["entry_count"], json!(2));
    assert_eq!(reply["sessions"][0]["last_message_summary"], json!("a"));
    assert_eq!(rig.meta(&session).await["last_message_summary"], json!("a"));
}

async fn c06_case_17_compact_twice() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let first = compact(&rig, &session, None).await;
    let second = compact(&rig, &session, Some("anything")).await;
    let rows = compactions(&rig, &session).await;
    let rows: Vec<_> = rows["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["id"].clone(), row["tail_start_id"].clone()))
        .collect();
    assert_eq!(
        rows,
        [(json!(first), Value::Null), (json!(second), json!("anything"))]
    );
    for (request, text) in [
        (
            json!({ "session_id": session }),
            "missing required string field: summary",
        ),
        (
            json!({"session_id": session, "summary": ""}),
            "missing required string field: summary",
        ),
        (
            json!({"summary": "s"}),
            "missing required string field: session_id",
        ),
        (
            json!({"session_id": session, "summary": "s", "parent_id": "nobody"}),
            "entry not found: nobody",
        ),
    ] {
        assert_eq!(rig.refusal("session-tree::compact", request).await, text);
    }
    let odd = json!({"session_id": session, "summary": "s", "tokens_before": "9", "details": [1], "tail_start_id": 4,
                     "parent_id": first});
    let reply = rig.call("session-tree::compact", odd).await.unwrap();
    let row = row(&rig, &session, reply["entry_id"].as_str().unwrap()).await;
    assert_eq!(
        (
            &row["tokens_before"],
            &row["details"],
            &row["tail_start_id"],
            &row["parent_id"]
        ),
        (&json!(0), &json!({}), &Value::Null, &json!(first))
    );
}

async fn c06_case_18_a_synthetic_message_on_an_empty_session() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let request = json!({"session_id": session, "text": "go", "metadata": {"compaction_continue": true}});
    let reply = rig.call("session-tree::append_synthetic", request).await.unwrap();
    let message = json!({"role": "user", "content": [{"type": "text", "text": "go"}], "timestamp": T0});
    let metadata = json!({"compaction_continue": true});
    assert_eq!(
        rig.messages(json!({ "session_id": session })).await,
        [json!({"entry_id": reply["entry_id"], "message": message, "metadata": metadata})]
    );
    assert_eq!(
        rig.rows(&session).await,
        [
            json!({"type": "message", "id": reply["entry_id"], "parent_id": null, "timestamp": T0, "message": message,
                "metadata": metadata})
        ]
    );
    for (request, text) in [
        (
            json!({ "session_id": session }),
            "missing required string field: text",
        ),
        (
            json!({"session_id": session, "text": ""}),
            "missing required string field: text",
        ),
        (json!({"text": "x"}), "missing required string field: session_id"),
    ] {
        assert_eq!(rig.refusal("session-tree::append_synthetic", request).await, text);
    }
}

async fn c06_case_19_a_synthetic_message_goes_under_the_tip() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let first = rig.append(&session, u("a"), None).await;
    rig.append(&session, a("b"), None).await;
    rig.append(&session, u("c"), None).await;
    for parent in [Value::Null, json!(7)] {
        let request = json!({"session_id": session, "text": "go", "parent_id": parent});
        rig.call("session-tree::append_synthetic", request).await.unwrap();
    }
    assert_eq!(rig.texts(&session).await, ["a", "b", "c", "go", "go"]);
    let request = json!({"session_id": session, "text": "aside", "parent_id": first});
    rig.call("session-tree::append_synthetic", request).await.unwrap();
    assert_eq!(rig.texts(&session).await, ["a", "aside"]);
    let request = json!({"session_id": session, "text": "go", "parent_id": "nobody"});
    let text = rig.refusal("session-tree::append_synthetic", request).await;
    assert_eq!(text, "entry not found: nobody");
}

async fn c06_case_31_both_make_the_session() {
    let rig = Rig::start().await;
    compact(&rig, "c", None).await;
    let request = json!({"session_id": "s", "text": "go"});
    rig.call("session-tree::append_synthetic", request).await.unwrap();
    let reply = list(&rig, json!({})).await;
    let rows: Vec<_> = reply["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["session_id"], &row["entry_count"]))
        .collect();
    assert_eq!(rows, [(&json!("s"), &json!(1)), (&json!("c"), &json!(1))]);
}

async fn what_cannot_be_stored_is_refused() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let deep = (0..121).fold(json!(1), |inner, _| json!([inner]));
    let request = json!({"session_id": session, "text": "x", "metadata": deep});
    let text = rig.refusal("session-tree::append_synthetic", request).await;
    assert_eq!(text, "invalid metadata: nested deeper than 120 levels");
    let request = json!({"session_id": session, "summary": "x", "details": {"a": deep}});
    let text = rig.refusal("session-tree::compact", request).await;
    assert_eq!(text, "invalid details: nested deeper than 120 levels");
    let long = "i".repeat(201);
    let request = json!({"session_id": session, "summary": "x", "tail_start_id": long});
    let text = rig.refusal("session-tree::compact", request).await;
    assert_eq!(text, "invalid tail_start_id: not the id of an entry");
    assert_eq!(rig.rows(&session).await, Vec::<Value>::new());
}
