//! Entries that others add while a run is at work (field lessons R5, D10).

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, said, user};
use crate::support::stub::{Held, calls_then_ends};
use crate::support::three_ways;

three_ways! {
    no_branch_begins_under_a_run,
    no_branch_begins_under_a_parked_run,
}

async fn entries(rig: &Rig) -> Vec<Value> {
    let reply = rig
        .t
        .ok("session-tree::messages", json!({ "session_id": "s1" }))
        .await;
    let rows = reply["messages"].as_array().unwrap();
    rows.iter().map(|row| row["entry_id"].clone()).collect()
}

fn append(text: &str, parent: &Value) -> Value {
    json!({ "session_id": "s1", "message": user(text), "parent_id": parent })
}

const AT_WORK: &str =
    "session s1 is at work: only its end can be appended to; a branch can begin once the run is over";

async fn no_branch_begins_under_a_run() {
    let rig = Rig::allowing(calls_then_ends(vec![("A", "slow", json!({}))])).await;
    let held = Held::serve(&rig.t, "slow", json!({}));
    rig.start("s1").await;
    held.called().await;
    let before = entries(&rig).await;
    let refused = rig
        .t
        .error("session-tree::append", append("branch", &before[0]))
        .await;
    assert_eq!(refused, AT_WORK);
    // At its end there is room.
    rig.t
        .ok("session-tree::append", append("by the way", &before[1]))
        .await;
    held.answers();
    rig.t.ended("s1", 1).await;
    assert_eq!(
        rig.transcript("s1").await.iter().map(said).collect::<Vec<_>>(),
        [
            "user hi",
            "assistant calls slow",
            "user by the way",
            "A {}",
            "assistant done"
        ]
    );

    rig.t
        .ok("session-tree::append", append("branch", &before[0]))
        .await;
    assert_eq!(
        rig.transcript("s1").await.iter().map(said).collect::<Vec<_>>(),
        ["user hi", "user branch"]
    );
    rig.t.stop().await;
}

async fn no_branch_begins_under_a_parked_run() {
    let rig = Rig::asking(calls_then_ends(vec![("A", "ask", json!({}))])).await;
    rig.t.record("ask", json!({}));
    rig.start("s1").await;
    rig.t.reaches("s1", "function_awaiting_approval").await;
    let first = entries(&rig).await[0].clone();
    let refused = rig
        .t
        .error("session-tree::append", append("branch", &first))
        .await;
    assert_eq!(refused, AT_WORK);
    // Who wants to branch stops the run first.
    rig.t.ok("run::abort", json!({ "session_id": "s1" })).await;
    rig.t.ok("session-tree::append", append("branch", &first)).await;
    assert_eq!(
        rig.transcript("s1").await.iter().map(said).collect::<Vec<_>>(),
        ["user hi", "user branch"]
    );
    rig.t.stop().await;
}
