//! The store is away for a moment, at the wrong one. The crash matrix found each of these.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::bus::{Batch, CallContext, CallOptions, Write};
use harness::model::api::session::{Ensure, EnsureRequest};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, of_type, run, said, user};
use crate::support::engine::within;
use crate::support::spy::{Op, Spy};
use crate::support::stub::{Door, Out, calls_then_ends, says};
use crate::support::{TestBus, TestOptions};

/// A save asks the store twice, and is repeated five times: after so many refusals its step is begun anew.
const ONE_STEP: usize = 12;

/// Refuses such operations, so many times; answers the count.
fn refuse(spy: &Spy, times: usize, such: impl Fn(&Op<'_>) -> bool + Send + 'static) -> Arc<AtomicUsize> {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    spy.fail_when(move |op| such(op) && count.fetch_add(1, Ordering::SeqCst) < times);
    refused
}

fn saves(op: &Op<'_>, such: impl Fn(&Value) -> bool) -> bool {
    let Op::Commit(writes) = op else { return false };
    writes.iter().any(
        |write| matches!(write, Write::StateSet { scope, value, .. } if scope == "turn_state" && such(value)),
    )
}

fn is_inbox(op: &Op<'_>, function: &str) -> bool {
    let Op::Call(call) = op else { return false };
    call.function_id.as_str() == function
        && call.payload["scope"]
            .as_str()
            .is_some_and(|scope| scope.starts_with("inbox"))
}

fn over(spy: &Spy, rules: &'static str) -> TestOptions {
    TestOptions {
        wrap: spy.wrap(),
        rules: Some(rules),
        ..TestOptions::default()
    }
}

/// Its step is begun anew from what is stored, not from what was loaded before the calls were marked as started.
#[tokio::test]
async fn a_step_begun_anew_does_not_run_started_calls_again() {
    let spy = Spy::default();
    let list = vec![("A", "f", json!({})), ("B", "g", json!({}))];
    let rig = Rig::new(over(&spy, "rules: ['*']"), calls_then_ends(list)).await;
    let quick = rig.t.record("f", json!({ "done": true }));
    let refused = refuse(&spy, ONE_STEP, |op| {
        saves(op, |record| record["work"]["executed"].get("A").is_some())
    });
    let slow = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&slow);
    rig.t.serve("g", move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let refused = Arc::clone(&refused);
        async move {
            // Under way until the step was begun anew.
            while refused.load(Ordering::SeqCst) < ONE_STEP {
                tokio::task::yield_now().await;
            }
            Ok(json!({}))
        }
    });
    rig.run("s1").await;
    assert_eq!((quick.count(), slow.load(Ordering::SeqCst)), (1, 1));
    let results: Vec<Value> = rig.transcript("s1").await[2..4]
        .iter()
        .map(|result| result["details"]["error"].clone())
        .collect();
    assert_eq!(results, ["interrupted", "interrupted"]);
    rig.t.stop().await;
}

/// The record that is read anew does not know yet how this wake of the session numbers its events.
#[tokio::test]
async fn a_step_begun_anew_keeps_the_numbering_of_events() {
    let spy = Spy::default();
    let list = vec![("A", "f", json!({}))];
    let rig = Rig::new(over(&spy, "rules: [free]"), calls_then_ends(list)).await;
    rig.t.record("f", json!({}));
    rig.start("s1").await;
    rig.t.reaches("s1", "function_awaiting_approval").await;
    refuse(&spy, ONE_STEP, |op| {
        saves(op, |record| record["work"]["started"].get("A").is_some())
    });
    rig.decide("s1", "A", "allow", None).await;
    let first = rig.t.ended("s1", 1).await;
    rig.t
        .eventually(async || (rig.t.ok("run::start", run("s1")).await["started"] == true).then_some(()))
        .await;
    let both = rig.t.ended("s1", 2).await;
    assert_eq!(both[..first.len()], first);
    rig.t.stop().await;
}

/// A run whose first answer waits until somebody has steered it.
async fn steered(spy: &Spy, function: &'static str) -> Vec<String> {
    let door = Door::closed();
    let held = door.clone();
    let rig = Rig::new(over(spy, "rules: ['*']"), move |number, _| match number {
        0 => [vec![Out::Wait(held.clone())], says(&["one"])].concat(),
        _ => says(&["two"]),
    })
    .await;
    rig.start("s1").await;
    rig.stub.asked(&rig.t, 1).await;
    let item = json!({ "name": "steering", "session_id": "s1", "item": user("wait") });
    rig.t.ok("session-inbox::push", item).await;
    let refused = refuse(spy, 1, move |op| is_inbox(op, function));
    door.open();
    rig.t.ended("s1", 1).await;
    assert!(
        refused.load(Ordering::SeqCst) > 1,
        "{function} was not asked again"
    );
    let transcript = rig.transcript("s1").await.iter().map(said).collect();
    rig.t.stop().await;
    transcript
}

const STEERED: [&str; 4] = ["user hi", "assistant one", "user wait", "assistant two"];

/// Where others write too: what was appended and could not be taken out of the inbox is not appended once more.
#[tokio::test]
async fn an_inbox_that_cannot_be_drained_at_first_is_taken_in_once() {
    assert_eq!(steered(&Spy::sharing(), "state::update").await, STEERED);
}

#[tokio::test]
async fn an_inbox_that_cannot_be_read_at_first_is_read_again() {
    assert_eq!(steered(&Spy::default(), "state::get").await, STEERED);
}

/// What waited in the batch held the batch: neither was let go, and the session stayed locked.
#[tokio::test]
async fn a_batch_that_is_given_up_lets_go_of_its_session() {
    let t = TestBus::with(TestOptions::default()).await;
    let batch = Batch::default();
    let request = EnsureRequest {
        session_id: "s1".into(),
        display_name: None,
        cwd: None,
    };
    let options = CallOptions::default().with_batch(&batch);
    t.bus()
        .call::<Ensure>(&CallContext::default(), request, options)
        .await
        .unwrap();
    drop(batch);
    let append = json!({ "session_id": "s1", "message": user("hi") });
    within(t.ok("session-tree::append", append)).await;
    t.stop().await;
}

/// Wakes a session that rests, as a decision would.
async fn wake(rig: &Rig) {
    let event = json!({ "event_type": "state:created", "key": "s1/x", "new_value": { "decision": "allow" } });
    rig.t.ok("turn::on_approval", event).await;
}

/// The store stays away for longer than a save is repeated, right after the model has answered.
async fn answered_in_vain(spy: Spy) {
    let mut options = over(&spy, "rules: ['*']");
    options.config.turn.step_retries = 0;
    let rig = Rig::new(options, |_, _| says(&["an ", "answer"])).await;
    let away = Arc::new(AtomicBool::new(true));
    let is_away = Arc::clone(&away);
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    spy.fail_when(move |op| {
        let fails = is_away.load(Ordering::SeqCst) && saves(op, |record| record["turn_count"] == 1);
        count.fetch_add(usize::from(fails), Ordering::SeqCst);
        fails
    });
    rig.start("s1").await;
    // The step is begun anew again and again; an attempt has up to two writes refused.
    rig.t
        .eventually(async || {
            wake(&rig).await;
            (refused.load(Ordering::SeqCst) >= 5).then_some(())
        })
        .await;
    away.store(false, Ordering::SeqCst);
    wake(&rig).await;
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(rig.stub.requests().len(), 1, "the model was paid twice");
    let complete = of_type(&events, "message_complete");
    assert_eq!((complete.len(), &complete[0]["body_streamed"]), (1, &json!(true)));
    let transcript: Vec<String> = rig.transcript("s1").await.iter().map(said).collect();
    assert_eq!(transcript, ["user hi", "assistant an answer"]);
    // Kept for that turn only.
    rig.start("s1").await;
    rig.t.ended("s1", 2).await;
    assert_eq!(rig.stub.requests().len(), 2);
    rig.t.stop().await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_stored_is_not_asked_for_again() {
    answered_in_vain(Spy::default()).await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_stored_is_not_asked_for_again_where_others_write_too() {
    answered_in_vain(Spy::sharing()).await;
}

/// How often each event came that a run has once.
fn once_each(events: &[Value]) -> [usize; 3] {
    ["message_complete", "turn_end", "agent_end"].map(|kind| of_type(events, kind).len())
}

#[tokio::test]
async fn an_end_that_cannot_be_marked_is_not_announced_again() {
    let spy = Spy::sharing();
    let rig = Rig::new(over(&spy, "rules: ['*']"), |_, _| says(&["ok"])).await;
    let refused = refuse(&spy, 3, |op| {
        saves(op, |record| record["agent_end_emitted"] == true)
    });
    let looked = async |times: usize| {
        let enough = || refused.load(Ordering::SeqCst) >= times;
        rig.t.eventually(async || enough().then_some(())).await;
    };
    rig.start("s1").await;
    for look in 1..=3 {
        looked(look).await;
        assert_eq!(rig.record("s1").await["agent_end_emitted"], false);
        wake(&rig).await;
    }
    let marked = async || (rig.record("s1").await["agent_end_emitted"] == true).then_some(());
    rig.t.eventually(marked).await;
    assert_eq!(once_each(&rig.t.events("s1").await), [1, 1, 1]);
    rig.t.stop().await;
}

#[tokio::test]
async fn an_end_that_was_lost_on_its_way_is_announced_with_the_next_look() {
    let spy = Spy::sharing();
    let rig = Rig::new(over(&spy, "rules: ['*']"), |_, _| says(&["ok"])).await;
    let is_end =
        |write: &Write| matches!(write, Write::StreamSet { data, .. } if data["type"] == "agent_end");
    let lost = refuse(
        &spy,
        1,
        move |op| matches!(op, Op::Commit(writes) if writes.iter().any(is_end)),
    );
    rig.start("s1").await;
    rig.t
        .eventually(async || (lost.load(Ordering::SeqCst) >= 1).then_some(()))
        .await;
    assert_eq!(rig.record("s1").await["agent_end_emitted"], false);
    wake(&rig).await;
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(of_type(&events, "agent_end").len(), 1);
    rig.t.stop().await;
}
