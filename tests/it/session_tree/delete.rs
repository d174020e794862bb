//! Ids beyond the 86: delete and rename.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use harness::config::StoreBackend;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{entry, ids, list};
use crate::session_rig::{LATE, Rig, a, u};
use crate::support::three_ways;

three_ways! {
    a_deleted_session_is_gone,
    a_session_at_work_is_not_deleted,
    rename_changes_only_the_name,
    what_cannot_be_renamed,
}

async fn delete(rig: &Rig, session: &str) -> Value {
    let request = json!({ "session_id": session });
    rig.call("session-tree::delete", request).await.unwrap()
}

async fn a_deleted_session_is_gone() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let root = rig.append(&session, u("a"), None).await;
    rig.append(&session, a("b"), Some(&root)).await;
    rig.append(&session, a("c"), Some(&root)).await;
    rig.append("other", u("x"), None).await;
    assert_eq!(
        delete(&rig, &session).await,
        json!({"deleted": true, "entry_count": 3})
    );
    assert_eq!(rig.rows(&session).await, Vec::<Value>::new());
    assert_eq!(rig.meta(&session).await, Value::Null);
    for rig in [rig.clone(), rig.reborn().await] {
        assert_eq!(ids(&list(&rig, json!({})).await), ["other"]);
        assert_eq!(rig.texts(&session).await, Vec::<String>::new());
    }
    assert_eq!(
        delete(&rig, &session).await,
        json!({"deleted": false, "entry_count": 0})
    );
    assert_eq!(
        delete(&rig, "ghost").await,
        json!({"deleted": false, "entry_count": 0})
    );

    rig.append(&session, u("again"), None).await;
    assert_eq!(rig.texts(&session).await, ["again"]);
    assert_eq!(rig.rows(&session).await[0]["parent_id"], Value::Null);
    let empty = rig.session().await;
    assert_eq!(
        delete(&rig, &empty).await,
        json!({"deleted": true, "entry_count": 0})
    );
    assert_eq!(rig.meta(&empty).await, Value::Null);
}

async fn a_session_at_work_is_not_deleted() {
    let rig = Rig::start().await;
    rig.append("s", u("a"), None).await;
    let state = Arc::new(Mutex::new("function_execute"));
    let told = Arc::clone(&state);
    rig.turn_state(move |session| {
        assert_eq!(session, "s");
        let state = *told.lock().unwrap();
        json!({"session_id": session, "state": state, "turn_count": 1})
    });
    let text = rig
        .refusal("session-tree::delete", json!({"session_id": "s"}))
        .await;
    assert_eq!(
        text,
        "session s is at work: it can be deleted once the run is over"
    );
    assert_eq!(rig.texts("s").await, ["a"]);
    *state.lock().unwrap() = "stopped";
    assert_eq!(
        delete(&rig, "s").await,
        json!({"deleted": true, "entry_count": 1})
    );
}

async fn rename_changes_only_the_name() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.append(&session, u("a"), None).await;
    rig.append("newer", u("x"), None).await;
    let mut expected = rig.meta(&session).await;
    expected["display_name"] = json!("New");
    rig.clock.advance(500);
    let request = json!({"session_id": session, "display_name": "New"});
    let reply = rig.call("session-tree::rename", request).await.unwrap();
    assert_eq!(reply, json!({ "session_id": session }));
    assert_eq!(rig.meta(&session).await, expected);
    let reply = list(&rig, json!({})).await;
    assert_eq!(ids(&reply), ["newer", session.as_str()]);
    assert_eq!(reply["sessions"][1]["display_name"], json!("New"));
    rig.append(&session, u("b"), None).await;
    assert_eq!(rig.meta(&session).await["display_name"], json!("New"));
}

async fn what_cannot_be_renamed() {
    let rig = Rig::start().await;
    let rename = |session: &str, name: Value| json!({"session_id": session, "display_name": name});
    for (request, text) in [
        (rename("ghost", json!("N")), "session not found: ghost"),
        (
            rename("ghost", json!("")),
            "missing required string field: display_name",
        ),
        (
            rename("ghost", json!(7)),
            "missing required string field: display_name",
        ),
        (
            json!({"display_name": "N"}),
            "missing required string field: session_id",
        ),
    ] {
        assert_eq!(rig.refusal("session-tree::rename", request).await, text);
    }
    let request = json!({"scope": "session_tree_meta", "key": "s", "value": "precious"});
    rig.call("state::set", request).await.unwrap();
    let error = rig
        .call("session-tree::rename", rename("s", json!("N")))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the row of session s cannot be read");
    assert_eq!(rig.meta("s").await, json!("precious"));
}

#[tokio::test]
async fn a_failed_delete_can_be_repeated() {
    for rig in [Rig::start().await, Rig::on_shared_engine().await] {
        for n in 0..100 {
            rig.append("s", u(&n.to_string()), None).await;
        }
        for failing in ["commit", LATE] {
            rig.fail(Some(failing));
            let text = rig
                .refusal("session-tree::delete", json!({"session_id": "s"}))
                .await;
            assert!(text.starts_with("state::delete session: "), "{text}");
            rig.fail(None);
        }
        delete(&rig, "s").await;
        assert_eq!(
            (rig.rows("s").await, rig.meta("s").await),
            (Vec::new(), Value::Null)
        );
    }
}

#[tokio::test]
async fn rows_that_others_add_are_deleted_too() {
    let rig = Rig::start().await;
    let first = rig.append("s", u("ours"), None).await;
    rig.write_row("s", entry("theirs", Some(&first), 5)).await;
    let broken = json!({"type": "riddle", "id": "bad", "timestamp": 1});
    rig.write_row("s", broken).await;
    assert_eq!(
        delete(&rig, "s").await,
        json!({"deleted": true, "entry_count": 3})
    );
    assert_eq!(rig.rows("s").await, Vec::<Value>::new());
}

#[tokio::test]
async fn sessions_in_memory_are_renamed_and_deleted() {
    let rig = Rig::with(|config| config.session.store_backend = StoreBackend::Memory).await;
    rig.append("s", u("a"), None).await;
    rig.append("other", u("x"), None).await;
    let request = json!({"session_id": "s", "display_name": "N"});
    rig.call("session-tree::rename", request).await.unwrap();
    assert_eq!(
        list(&rig, json!({"order": "asc"})).await["sessions"][0]["display_name"],
        json!("N")
    );
    assert_eq!(
        delete(&rig, "s").await,
        json!({"deleted": true, "entry_count": 1})
    );
    assert_eq!(ids(&list(&rig, json!({})).await), ["other"]);
    rig.append("s", u("again"), None).await;
    assert_eq!(rig.texts("s").await, ["again"]);
    assert_eq!(list(&rig, json!({})).await["total"], json!(2));
    let asked = [("turn::get_state".to_owned(), 1), ("commit".to_owned(), 1)];
    assert_eq!(rig.counts(), HashMap::from(asked));
}
