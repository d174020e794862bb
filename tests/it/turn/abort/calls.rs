//! While calls are under way, or wait for a person.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::bus::{CallContext, FunctionDef, StreamItem};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{abort, aborted, shows};
use crate::support::stub::{Door, Held, calls_then_ends};
use crate::support::timed::Frozen;
use crate::support::ws::Ws;
use crate::support::{TestOptions, three_ways};
use crate::turn::{Rig, lines, of_type, said};

three_ways! {
    c02_abort_05_parked_calls_are_answered_and_late_decisions_run_nothing,
    c02_abort_06_an_approved_call_under_way,
}

/// A: done. B: running, deaf. C: running, listening. D: waits for its turn.
#[tokio::test]
async fn c02_abort_04_every_call_of_a_batch_gets_a_result() {
    let mut options = TestOptions {
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    };
    options.config.turn.parallel_calls = 2;
    let list = ["done", "deaf", "listens", "late"].map(|id| (id, id, json!({ "n": 1 })));
    let rig = Rig::new(options, calls_then_ends(list.to_vec())).await;
    let (done, late) = (
        rig.t.record("done", json!({ "ok": true })),
        rig.t.record("late", json!({})),
    );
    let deaf = Held::serve(&rig.t, "deaf", json!({ "ok": true }));
    let listening = Door::closed();
    let begun = listening.clone();
    let handler = move |_: Value, context: CallContext| {
        let begun = begun.clone();
        async move {
            begun.open();
            context.cancelled().await;
            Ok(json!({ "ok": true }))
        }
    };
    rig.t
        .bus()
        .register(FunctionDef::ad_hoc("listens", handler))
        .unwrap();
    rig.start("s1").await;
    listening.pass().await;
    assert_eq!(abort(&rig.t, "s1").await, aborted("s1", "function_execute"));
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(
        lines(&events)[3..],
        [
            "updated function_execute",
            "start done",
            "end done",
            "start deaf",
            "end deaf error",
            "start listens",
            "end listens error",
            "start late",
            "end late error",
            "complete aborted",
            "turn_end 4",
            "updated stopped",
            "agent_end"
        ]
    );
    let details: Vec<Value> = of_type(&events, "function_execution_end")
        .iter()
        .map(|end| end["result"]["details"].clone())
        .collect();
    assert_eq!(details[0], json!({ "ok": true }));
    assert_eq!(
        (&details[1]["error"], &details[2]["error"]),
        (&json!("interrupted"), &json!("interrupted"))
    );
    assert_eq!(
        details[3],
        json!({ "schema_version": 1, "status": "denied", "denied_by": "user", "function_id": "late",
            "approval_denied": true, "decision": "aborted", "reason": "session_aborted", "args_excerpt": { "n": 1 } })
    );
    let transcript = rig.transcript("s1").await;
    let roles: Vec<String> = transcript
        .iter()
        .map(|message| {
            let id = message["function_call_id"].as_str().unwrap_or_default();
            format!("{} {id}", message["role"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        roles,
        [
            "user ",
            "assistant ",
            "function_result done",
            "function_result deaf",
            "function_result listens",
            "function_result late",
            "assistant "
        ]
    );
    assert_eq!(transcript[6]["stop_reason"], "aborted");
    assert_eq!(of_type(&events, "turn_end")[0]["message"], transcript[6]);

    // A late answer changes nothing.
    deaf.answers();
    rig.start("s1").await;
    rig.t.ended("s1", 2).await;
    assert_eq!(rig.transcript("s1").await[..7], transcript);
    assert_eq!((done.count(), late.count()), (1, 0));
    let asked = rig.stub.requests().pop().unwrap()["messages"].clone();
    let asked: Vec<String> = asked.as_array().unwrap().iter().map(said).collect();
    assert_eq!(asked.len(), 8, "the empty message is left out: {asked:?}");
    assert!(asked[6].contains("stopped"), "{asked:?}");
    rig.t.stop().await;
}

/// Field lesson: a call that hears of the stop has ended before the run does, without any timer.
#[tokio::test]
async fn c2_a_call_that_listens_is_waited_for() {
    let rig = Rig::allowing(calls_then_ends(vec![("A", "listens", json!({}))])).await;
    let (listening, heard) = (Door::closed(), Arc::new(AtomicBool::new(false)));
    let (begun, told) = (listening.clone(), Arc::clone(&heard));
    let handler = move |_: Value, context: CallContext| {
        let (begun, told) = (begun.clone(), Arc::clone(&told));
        async move {
            begun.open();
            context.cancelled().await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            told.store(true, Ordering::SeqCst);
            Ok(Value::Null)
        }
    };
    rig.t
        .bus()
        .register(FunctionDef::ad_hoc("listens", handler))
        .unwrap();
    let (sender, mut ends) = tokio::sync::mpsc::channel(1);
    rig.t.bus().tap_stream(
        "agent::events",
        Arc::new(move |item: &StreamItem| {
            if item.data["type"] == "agent_end" {
                sender.try_send(heard.load(Ordering::SeqCst)).unwrap();
            }
        }),
    );
    rig.start("s1").await;
    listening.pass().await;
    let frozen = Frozen::start();
    let now = tokio::time::Instant::now();
    abort(&rig.t, "s1").await;
    assert_eq!(ends.recv().await, Some(true));
    assert_eq!(tokio::time::Instant::now(), now);
    drop(frozen);
    tokio::time::resume();
    rig.t.stop().await;
}

async fn c02_abort_05_parked_calls_are_answered_and_late_decisions_run_nothing() {
    let list = vec![
        ("A", "ask", json!({})),
        ("B", "free", json!({})),
        ("C", "ask", json!({})),
    ];
    let rig = Rig::asking(calls_then_ends(list)).await;
    let (asked, _free) = (rig.t.record("ask", json!({})), rig.t.record("free", json!({})));
    rig.start("s1").await;
    shows(&rig.t, "s1", |event| {
        event["new_value"]["state"] == "function_awaiting_approval"
    })
    .await;
    let before = rig.t.events("s1").await.len();
    assert_eq!(
        abort(&rig.t, "s1").await,
        aborted("s1", "function_awaiting_approval")
    );
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(
        lines(&events)[before..],
        [
            "end A error",
            "end C error",
            "complete aborted",
            "turn_end 3",
            "updated stopped",
            "agent_end"
        ]
    );
    let view = rig.t.ok("turn::get_state", json!({ "session_id": "s1" })).await;
    assert_eq!(
        view,
        json!({ "session_id": "s1", "state": "stopped", "turn_count": 1 })
    );

    rig.decide("s1", "A", "allow", None).await;
    let step = rig
        .t
        .ok("turn::function_awaiting_approval", json!({ "session_id": "s1" }))
        .await;
    assert_eq!(step["reason"], "stale");
    assert_eq!(asked.count(), 0);
    assert_eq!(rig.t.events("s1").await, events);
    rig.t.stop().await;
}

/// An approved call runs while its sibling still waits.
async fn c02_abort_06_an_approved_call_under_way() {
    let rig = Rig::asking(calls_then_ends(vec![
        ("A", "slow", json!({})),
        ("B", "ask", json!({})),
    ]))
    .await;
    let held = Held::serve(&rig.t, "slow", json!({}));
    rig.start("s1").await;
    rig.t.reaches("s1", "function_awaiting_approval").await;
    rig.decide("s1", "A", "allow", None).await;
    held.called().await;
    assert_eq!(
        abort(&rig.t, "s1").await,
        aborted("s1", "function_awaiting_approval")
    );
    let events = rig.t.ended("s1", 1).await;
    held.answers();
    let reasons: Vec<&Value> = of_type(&events, "function_execution_end")
        .iter()
        .map(|end| {
            let details = &end["result"]["details"];
            details.get("error").or_else(|| details.get("reason")).unwrap()
        })
        .collect();
    assert_eq!(reasons, ["interrupted", "session_aborted"]);
    assert_eq!(rig.t.state("approvals", "s1/A").await, Value::Null);
    rig.t.stop().await;
}

#[tokio::test]
async fn a_call_to_an_outside_worker_is_not_waited_for() {
    let rig = Rig::allowing(calls_then_ends(vec![("A", "far::f", json!({ "x": 1 }))])).await;
    let mut worker = Ws::join(rig.t.listen().await).await;
    worker.host(&["far::f"]).await;
    rig.start("s1").await;
    let call = worker.called("far::f").await;
    assert_eq!(call["data"], json!({ "x": 1 }));
    assert_eq!(abort(&rig.t, "s1").await, aborted("s1", "function_execute"));
    let events = rig.t.ended("s1", 1).await;
    let details = &of_type(&events, "function_execution_end")[0]["result"]["details"];
    assert_eq!(details["error"], "interrupted");
    worker.answer(&call, json!({})).await;
    rig.t.stop().await;
}
