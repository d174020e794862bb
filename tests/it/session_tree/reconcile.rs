//! A flat transcript against the tree.

use std::sync::{Arc, Mutex};

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{UNUSED, compact, in_stored_order, list};
use crate::session_rig::{LATE, Rig, T0, a, u};
use crate::support::three_ways;

three_ways! {
    c06_case_23_missing_messages_are_added,
    c06_case_24_nothing_to_add,
    where_they_part_is_told,
    a_compaction_at_the_end_stays_on_the_path,
    a_message_that_is_none_adds_nothing,
    c06_4_15_nothing_is_added_while_a_run_is_at_work,
}

async fn reconcile(rig: &Rig, session: &str, snapshot: Value) -> Value {
    let request = json!({"session_id": session, "state_snapshot": snapshot});
    rig.call("session-tree::reconcile", request).await.unwrap()
}

fn counts(state: usize, before: usize, repaired: usize) -> Value {
    json!({"state_count": state, "tree_count_before": before, "tree_count_after": before + repaired, "repaired": repaired})
}

async fn c06_case_23_missing_messages_are_added() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let first = rig.append(&session, u("1"), None).await;
    let snapshot = json!([u("1"), a("2"), {"role": "user", "content": "3"}]);
    assert_eq!(reconcile(&rig, &session, snapshot.clone()).await, counts(3, 1, 2));
    assert_eq!(reconcile(&rig, &session, snapshot).await, counts(3, 3, 0));
    let rows = in_stored_order(rig.rows(&session).await);
    let third = json!({"role": "user", "content": [{"type": "text", "text": "3"}], "timestamp": T0});
    assert_eq!(
        rows[1..],
        [
            json!({"type": "message", "id": rows[1]["id"], "parent_id": first, "timestamp": T0 + 1, "message": a("2")}),
            json!({"type": "message", "id": rows[2]["id"], "parent_id": rows[1]["id"], "timestamp": T0 + 2,
                   "message": third}),
        ]
    );
    assert_eq!(rig.texts(&session).await, ["1", "2", "3"]);

    assert_eq!(reconcile(&rig, "ghost", json!([u("x")])).await, counts(1, 0, 1));
    let reply = list(&rig, json!({})).await;
    let row = &reply["sessions"][0];
    assert_eq!(
        (
            &row["session_id"],
            &row["entry_count"],
            &row["last_message_summary"]
        ),
        (&json!("ghost"), &json!(1), &json!("x"))
    );
}

async fn c06_case_24_nothing_to_add() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.append(&session, u("1"), None).await;
    rig.append(&session, u("2"), None).await;
    rig.clear();
    for snapshot in [Value::Null, json!({}), json!("x")] {
        let request = json!({"session_id": session, "state_snapshot": snapshot});
        let text = rig.refusal("session-tree::reconcile", request).await;
        assert_eq!(text, "missing required field: state_snapshot");
    }
    let request = json!({ "session_id": session });
    let text = rig.refusal("session-tree::reconcile", request).await;
    assert_eq!(text, "missing required field: state_snapshot");
    let text = rig
        .refusal("session-tree::reconcile", json!({"state_snapshot": []}))
        .await;
    assert_eq!(text, "missing required string field: session_id");

    assert_eq!(reconcile(&rig, &session, json!([u("1")])).await, counts(1, 2, 0));
    assert_eq!(reconcile(&rig, &session, json!([])).await, counts(0, 2, 0));
    assert_eq!(reconcile(&rig, "ghost", json!([])).await, counts(0, 0, 0));
    assert_eq!(rig.writes(), UNUSED);
}

async fn where_they_part_is_told() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    for message in [u("1"), a("2"), u("3")] {
        rig.append(&session, message, None).await;
    }
    let cases = [
        (
            json!([{"role": "user", "content": "1"}, a("2"), u("3")]),
            Value::Null,
        ),
        (json!([u("1"), u("2"), u("3")]), json!(1)),
        (json!([u("1"), a("2"), u("other")]), json!(2)),
        (json!([7]), json!(0)),
    ];
    for (snapshot, diverged_at) in cases {
        assert_eq!(
            reconcile(&rig, &session, snapshot).await["diverged_at"],
            diverged_at
        );
    }
    let reply = reconcile(&rig, &session, json!([u("x"), a("2"), u("3"), a("4")])).await;
    let mut expected = counts(4, 3, 1);
    expected["diverged_at"] = json!(0);
    assert_eq!(reply, expected);
    assert_eq!(rig.texts(&session).await, ["1", "2", "3", "4"]);
}

async fn a_compaction_at_the_end_stays_on_the_path() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.append(&session, u("1"), None).await;
    let compaction = compact(&rig, &session, None).await;
    reconcile(&rig, &session, json!([u("1"), u("2")])).await;
    let rows = in_stored_order(rig.rows(&session).await);
    assert_eq!(rows[2]["parent_id"], json!(compaction));
    assert_eq!(rig.texts(&session).await, ["1", "2"]);
}

async fn a_message_that_is_none_adds_nothing() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    for bad in [
        json!("hi"),
        json!({"role": "robot", "content": []}),
        json!({"role": "user"}),
    ] {
        let request = json!({"session_id": session, "state_snapshot": [u("1"), bad]});
        let text = rig.refusal("session-tree::reconcile", request).await;
        assert!(text.starts_with("invalid message: "), "{text}");
    }
    assert_eq!(rig.rows(&session).await, Vec::<Value>::new());
}

#[tokio::test]
async fn they_go_into_one_commit_or_in_order() {
    let snapshot = json!([u("1"), u("2"), u("3")]);
    let rig = Rig::start().await;
    rig.clear();
    reconcile(&rig, "s", snapshot.clone()).await;
    assert_eq!(rig.writes(), ["commit"]);

    // Where a commit may be stored in part, no entry is there without the one before it, and a repetition goes on.
    let rig = Rig::on_shared_engine().await;
    rig.append("s", u("1"), None).await;
    rig.fail(Some(LATE));
    let request = json!({"session_id": "s", "state_snapshot": snapshot});
    let text = rig.refusal("session-tree::reconcile", request).await;
    assert_eq!(text, "state::set entry: no answer");
    rig.fail(None);
    assert_eq!(rig.texts("s").await, ["1", "2"]);
    assert_eq!(reconcile(&rig, "s", snapshot).await, counts(3, 2, 1));
    assert_eq!(rig.texts("s").await, ["1", "2", "3"]);
    assert_eq!(rig.reborn().await.texts("s").await, ["1", "2", "3"]);
    assert_eq!(rig.meta("s").await["entry_count"], json!(3));
}

/// A page that shows half of a run must not become the transcript of that run.
async fn c06_4_15_nothing_is_added_while_a_run_is_at_work() {
    let rig = Rig::start().await;
    rig.append("s", u("1"), None).await;
    let state = Arc::new(Mutex::new("assistant_streaming"));
    let told = Arc::clone(&state);
    rig.turn_state(
        move |session| json!({"session_id": session, "state": *told.lock().unwrap(), "turn_count": 1}),
    );
    let request = json!({"session_id": "s", "state_snapshot": [u("1"), a("half a")]});
    assert_eq!(
        rig.refusal("session-tree::reconcile", request.clone()).await,
        "session s is at work: its messages come from the run"
    );
    assert_eq!(rig.texts("s").await, ["1"]);
    // What adds nothing is answered all the same.
    assert_eq!(reconcile(&rig, "s", json!([u("1")])).await, counts(1, 1, 0));
    *state.lock().unwrap() = "stopped";
    assert_eq!(
        reconcile(&rig, "s", request["state_snapshot"].clone()).await,
        counts(2, 1, 1)
    );
    assert_eq!(rig.texts("s").await, ["1", "half a"]);
}
