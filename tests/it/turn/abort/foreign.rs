//! Runs that another process has in hand: the wish goes through state.

use std::path::PathBuf;

use harness::bus::StreamItem;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{abort, aborted};
use crate::support::engine::within;
use crate::support::spy::Spy;
use crate::support::stub::{Door, Out, message, says};
use crate::support::{TestBus, TestOptions};
use crate::turn::{Rig, lines, of_type};

async fn sharing(data_dir: Option<PathBuf>, held: Door) -> Rig {
    let options = TestOptions {
        wrap: Spy::sharing().wrap(),
        data_dir,
        ..TestOptions::default()
    };
    Rig::new(options, move |number, _| match number {
        0 => vec![Out::Wait(held.clone())],
        _ => says(&["ok"]),
    })
    .await
}

/// Ends the other process's lease while no program is there that could be looking at it.
async fn forget_lease(data_dir: Option<PathBuf>) {
    let t = TestBus::with(TestOptions {
        data_dir,
        workers: Vec::new(),
        ..TestOptions::default()
    })
    .await;
    t.ok("state::delete", json!({ "scope": "turn_lease", "key": "s1" }))
        .await;
    t.stop().await;
}

fn wish(run: &str) -> Value {
    json!({ "decision": "aborted", "reason": null, "run_id": run })
}

#[tokio::test]
async fn the_wish_is_left_for_the_process_that_holds_the_lease() {
    let dir = TempDir::new().unwrap();
    let at = || Some(dir.path().join("data"));
    let rig = sharing(at(), Door::closed()).await;
    let record = json!({ "session_id": "s1", "state": "function_awaiting_approval", "turn_count": 1, "run_id": "r1",
        "awaiting_approval": [{ "function_call_id": "A", "function_id": "f", "args": {} }],
        "last_assistant": message(json!([]), "function_call"),
        "work": { "prepared": [{ "route": "dispatch", "call": { "id": "A", "function_id": "f", "arguments": {} } }],
            "executed": {} } });
    rig.t.set_state("turn_state", "s1", record.clone()).await;
    let lease = json!({ "nonce": "theirs", "ts": rig.t.bus().now_ms() + 3_600_000 });
    rig.t.set_state("turn_lease", "s1", lease).await;
    assert_eq!(
        abort(&rig.t, "s1").await,
        aborted("s1", "function_awaiting_approval")
    );
    assert_eq!(rig.t.state("approvals", "s1").await, wish("r1"));
    assert_eq!(rig.record("s1").await, record, "it is not ours to change");
    assert_eq!(rig.t.events("s1").await, Vec::<Value>::new());
    rig.t.stop().await;
    forget_lease(at()).await;

    // Whoever takes the session over ends the run.
    let rig = sharing(at(), Door::closed()).await;
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(
        lines(&events),
        [
            "end A error",
            "complete aborted",
            "turn_end 1",
            "updated stopped",
            "agent_end"
        ]
    );
    rig.t
        .eventually(async || (rig.t.state("approvals", "s1").await == Value::Null).then_some(()))
        .await;
    rig.t.stop().await;
}

#[tokio::test]
async fn a_wish_in_state_wakes_the_process_that_has_the_run() {
    let door = Door::closed();
    let rig = sharing(None, door.clone()).await;
    rig.start("s1").await;
    rig.stub.asked(&rig.t, 1).await;
    let run = rig.record("s1").await["run_id"].as_str().unwrap().to_owned();
    rig.t.set_state("approvals", "s1", wish("another run")).await;
    rig.t.set_state("approvals", "s1", wish(&run)).await;
    let events = rig.t.ended("s1", 1).await;
    door.open();
    assert_eq!(
        of_type(&events, "message_complete")[0]["message"]["stop_reason"],
        "aborted"
    );
    rig.t
        .eventually(async || (rig.t.state("approvals", "s1").await == Value::Null).then_some(()))
        .await;
    assert_eq!(rig.start("s1").await["started"], true);
    rig.t.ended("s1", 2).await;
    rig.t.stop().await;
}

/// A run may follow as soon as the one before has ended, also where leases are asked for.
#[tokio::test]
async fn c02_case_40_the_session_is_free_although_its_lease_is_still_held() {
    let door = Door::closed();
    let rig = sharing(None, door.clone()).await;
    let (sender, mut ends) = tokio::sync::mpsc::channel(8);
    rig.t.bus().tap_stream(
        "agent::events",
        std::sync::Arc::new(move |item: &StreamItem| {
            if item.data["type"] == "agent_end" {
                sender.try_send(()).unwrap();
            }
        }),
    );
    rig.start("s1").await;
    rig.stub.asked(&rig.t, 1).await;
    abort(&rig.t, "s1").await;
    for _ in 0..5 {
        within(ends.recv()).await.unwrap();
        assert_eq!(rig.start("s1").await["started"], true);
    }
    within(ends.recv()).await.unwrap();
    door.open();
    rig.t.stop().await;
}

#[tokio::test]
async fn a_wish_for_another_run_stops_nothing() {
    let door = Door::closed();
    let rig = sharing(None, door.clone()).await;
    rig.start("s1").await;
    rig.stub.asked(&rig.t, 1).await;
    rig.t.set_state("approvals", "s1", wish("an earlier run")).await;
    // The event of the row has been handled when that of a later one has.
    let woken = || rig.t.calls_of("turn::on_approval");
    rig.t.eventually(async || (woken() == 1).then_some(())).await;
    assert_eq!(rig.record("s1").await["state"], "assistant_streaming");
    door.open();
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(
        of_type(&events, "message_complete")[0]["message"]["stop_reason"],
        "error",
        "the stub ends without a final message"
    );
    rig.t.stop().await;
}
