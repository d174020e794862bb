//! Reading: paths, branches, compactions, rows written by hand.

use harness::model::api::session::{Compactions, Messages, MessagesRequest, SessionRef};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{UNUSED, entry, list};
use crate::session_rig::{Rig, T0, a, u};
use crate::support::three_ways;

three_ways! {
    c06_case_06_an_unknown_session_is_empty,
    c06_case_07_branches,
    c06_case_16_compactions,
    c06_case_17_compactions_come_in_time_order_from_all_branches,
    c06_case_38_rows_written_by_hand_follow_their_chain,
    metadata_of_an_entry_is_shown,
}

fn compaction(id: &str, parent: Option<&str>, timestamp: i64) -> Value {
    json!({"type": "compaction", "id": id, "parent_id": parent, "timestamp": timestamp, "summary": "s",
           "tokens_before": 12345, "tail_start_id": null, "details": {"read_files": ["a.rs"]}})
}

async fn c06_case_06_an_unknown_session_is_empty() {
    let rig = Rig::start().await;
    let request = json!({ "session_id": "ghost" });
    assert_eq!(
        rig.call("session-tree::messages", request.clone()).await,
        Ok(json!({"messages": []}))
    );
    assert_eq!(
        rig.call("session-tree::compactions", request).await,
        Ok(json!({"entries": []}))
    );
    assert_eq!(list(&rig, json!({})).await, json!({"sessions": [], "total": 0}));
    assert_eq!(rig.writes(), UNUSED);
}

async fn c06_case_07_branches() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let root = rig.append(&session, u("a"), None).await;
    let left = rig.append(&session, a("b"), Some(&root)).await;
    let right = rig.append(&session, a("c"), Some(&root)).await;
    for rig in [rig.clone(), rig.reborn().await] {
        let path = async |leaf: Value| -> Vec<Value> {
            let request = json!({"session_id": session, "branch_leaf": leaf});
            rig.messages(request)
                .await
                .into_iter()
                .map(|mut row| row["entry_id"].take())
                .collect()
        };
        assert_eq!(path(json!(left)).await, [json!(root), json!(left)]);
        assert_eq!(path(json!(right)).await, [json!(root), json!(right)]);
        assert_eq!(path(Value::Null).await, [json!(root), json!(right)]);
        assert_eq!(path(json!("nobody")).await, Vec::<Value>::new());
    }
}

async fn c06_case_16_compactions() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    for row in [
        entry("a", None, 10),
        entry("b", Some("a"), 20),
        compaction("k", Some("b"), 30),
        entry("c", Some("k"), 40),
    ] {
        rig.write_row(&session, row).await;
    }
    let reply = rig
        .call("session-tree::compactions", json!({ "session_id": session }))
        .await
        .unwrap();
    assert_eq!(
        reply,
        json!({"entries": [{"id": "k", "summary": "s", "tokens_before": 12345, "tail_start_id": null,
                            "details": {"read_files": ["a.rs"]}, "timestamp": 30, "on_path": true, "messages_before": 2}]})
    );
    assert_eq!(rig.texts(&session).await, ["a", "b", "c"]);
    let typed = rig
        .typed::<Compactions>(SessionRef {
            session_id: session.as_str().into(),
        })
        .await
        .unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), reply);
}

async fn c06_case_17_compactions_come_in_time_order_from_all_branches() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    for row in [
        compaction("late", Some("a"), 50),
        compaction("off", Some("a"), 30),
        entry("a", None, 10),
        json!({"type": "compaction", "id": "old", "timestamp": 20, "summary": "o"}),
    ] {
        rig.write_row(&session, row).await;
    }
    let reply = rig
        .call("session-tree::compactions", json!({ "session_id": session }))
        .await
        .unwrap();
    let rows: Vec<_> = reply["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            json!([
                row["id"],
                row["tokens_before"],
                row["details"],
                row["on_path"],
                row["messages_before"]
            ])
        })
        .collect();
    assert_eq!(
        rows,
        [
            json!(["old", 0, {}, false, null]),
            json!(["off", 12345, {"read_files": ["a.rs"]}, false, null]),
            json!(["late", 12345, {"read_files": ["a.rs"]}, true, 1]),
        ]
    );
}

async fn c06_case_38_rows_written_by_hand_follow_their_chain() {
    let rig = Rig::start().await;
    for row in [
        entry("e1", None, 100),
        entry("e3", Some("e2"), 100),
        entry("e2", Some("e1"), 300),
        entry("e4", Some("e3"), 99),
    ] {
        rig.write_row("X", row).await;
    }
    assert_eq!(rig.texts("X").await, ["e1", "e2", "e3", "e4"]);
    let next = rig.append("X", u("next"), None).await;
    assert_eq!(rig.texts("X").await, ["e1", "e2", "e3", "e4", "next"]);
    let stored = rig
        .rows("X")
        .await
        .into_iter()
        .find(|row| row["id"] == json!(next))
        .unwrap();
    assert_eq!(
        (&stored["parent_id"], &stored["timestamp"]),
        (&json!("e4"), &json!(T0))
    );
}

#[tokio::test]
async fn messages_are_shared_not_copied() {
    let rig = Rig::start().await;
    rig.append("s", u("x"), None).await;
    let request = MessagesRequest::all("s".into());
    let first = rig.typed::<Messages>(request.clone()).await.unwrap();
    let second = rig.typed::<Messages>(request).await.unwrap();
    assert!(std::ptr::eq(
        first.messages[0].message.object(),
        second.messages[0].message.object()
    ));
}

async fn metadata_of_an_entry_is_shown() {
    let rig = Rig::start().await;
    let mut row = entry("e", None, 1);
    row["metadata"] = json!({"compaction_continue": true});
    rig.write_row("s", row).await;
    let rows = rig.messages(json!({"session_id": "s"})).await;
    assert_eq!(
        rows,
        [json!({"entry_id": "e", "message": u("e"), "metadata": {"compaction_continue": true}})]
    );
}
