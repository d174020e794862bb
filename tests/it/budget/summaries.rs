//! Summaries are model calls too: who pays for a run pays for them (field lesson B3).

use harness::config::AtCeiling;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::runs::{budget, costs, last_text, numbers, rests, rig, start};
use crate::compaction::preflight::{history, is_summary};
use crate::support::TestOptions;
use crate::support::spy::{Op, Spy};
use crate::support::stub::{Door, Out, done, message, says};
use crate::turn::{Rig, of_type};

const BY_HAND: &str = "context-compaction::compact_session";

/// A long session `s1`. A summary costs 20 cents, an answer 50; either may cost a dollar.
async fn long(
    window: u64,
    change: impl FnOnce(&mut TestOptions),
    summary: impl Fn() -> Vec<Out> + Send + Sync + 'static,
) -> Rig {
    let answer = move |_: usize, request: &Value| if is_summary(request) { summary() } else { full() };
    let rig = rig(change, answer).await;
    let model = json!({
        "id": "m", "provider": "stub", "context_window": window, "max_output_tokens": 1000,
        "pricing": {"input_per_1m": 0, "output_per_1m": 1000},
    });
    rig.t.ok("models::register", model).await;
    history(&rig, 30_000).await;
    rig
}

/// An answer that fills a window of 200,000 tokens.
fn full() -> Vec<Out> {
    let mut whole = message(json!([{ "type": "text", "text": "ok" }]), "end");
    whole["usage"] = json!({ "input": 190_000, "output": 500 });
    vec![done(whole)]
}

async fn summaries(rig: &Rig) -> usize {
    let reply = rig
        .t
        .ok("session-tree::compactions", json!({ "session_id": "s1" }))
        .await;
    reply["entries"].as_array().unwrap().len()
}

async fn raise(rig: &Rig, id: &str) {
    let raise = json!({"budget_id": id, "patch": {"ceiling_usd": 50}});
    rig.t.ok("budget::update", raise).await;
}

#[tokio::test]
async fn a_summary_before_a_call_is_set_aside_and_paid_like_the_call() {
    let door = Door::closed();
    let held = door.clone();
    let rig = long(
        40_000,
        |_| {},
        move || [vec![Out::Wait(held.clone())], costs(200)].concat(),
    )
    .await;
    let id = budget(&rig, 5.0).await;
    start(&rig, "s1", &id).await;
    rig.stub.asked(&rig.t, 1).await;
    assert_eq!(numbers(&rig, &id).await, (json!(0), vec![json!(1)]));
    door.open();
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(of_type(&events, "compaction_done").len(), 1);
    assert_eq!(numbers(&rig, &id).await, (json!(0.7), vec![]));
    let usage = rig.t.ok("budget::usage", json!({ "budget_id": id })).await;
    assert_eq!(usage["spend_records"], 2);
}

#[tokio::test]
async fn at_the_ceiling_no_summary_is_made_and_the_run_rests() {
    let change = |options: &mut TestOptions| options.config.budgets.at_ceiling = AtCeiling::Park;
    let rig = long(40_000, change, || costs(200)).await;
    let id = budget(&rig, 0.5).await;
    start(&rig, "s1", &id).await;
    let view = rests(&rig, "s1").await;
    assert_eq!(
        (&view["state"], &view["turn_count"], &view["budget_wait"]),
        (
            &json!("assistant_streaming"),
            &json!(0),
            &json!({ "budget_id": id, "reason": "budget exceeded: ceiling_exceeded" })
        )
    );
    assert_eq!((rig.stub.requests().len(), summaries(&rig).await), (0, 0));
    raise(&rig, &id).await;
    rig.t.ended("s1", 1).await;
    assert_eq!(
        (last_text(&rig, "s1").await, summaries(&rig).await),
        ("assistant ok".to_owned(), 1)
    );
    assert_eq!(numbers(&rig, &id).await, (json!(0.7), vec![]));
}

#[tokio::test]
async fn or_the_run_ends() {
    let rig = long(40_000, |_| {}, || costs(200)).await;
    let id = budget(&rig, 0.5).await;
    start(&rig, "s1", &id).await;
    rig.t.ended("s1", 1).await;
    assert_eq!(
        last_text(&rig, "s1").await,
        "assistant budget exceeded: ceiling_exceeded"
    );
    assert_eq!((rig.stub.requests().len(), summaries(&rig).await), (0, 0));
    assert_eq!(numbers(&rig, &id).await, (json!(0), vec![]));
}

#[tokio::test]
async fn a_summary_behind_a_turn_is_paid_by_the_budget_of_that_run() {
    let rig = long(200_000, |_| {}, || costs(200)).await;
    let id = budget(&rig, 5.0).await;
    start(&rig, "s1", &id).await;
    rig.t.ended("s1", 1).await;
    rig.t
        .eventually(async || (summaries(&rig).await == 1).then_some(()))
        .await;
    assert_eq!(numbers(&rig, &id).await, (json!(0.7), vec![]));
}

#[tokio::test]
async fn a_summary_by_hand_is_paid_by_the_last_run_or_the_settings() {
    let rig = long(200_000, |_| {}, || costs(200)).await;
    let by_hand = async || rig.t.ok(BY_HAND, json!({ "session_id": "s1" })).await;
    assert_eq!(by_hand().await["status"], "ok");
    assert_eq!(rig.t.calls_of("budget::check"), 0);
    let (all, own) = (budget(&rig, 0.5).await, budget(&rig, 5.0).await);
    let default = all.clone();
    rig.t
        .reconfigure(move |config| config.budgets.default_budget_id = Some(default));
    history(&rig, 30_000).await;
    let asked = rig.stub.requests().len();
    let reason = "budget exceeded: ceiling_exceeded";
    assert_eq!(
        by_hand().await,
        json!({ "status": "overflow", "message": reason, "budget_wait": { "budget_id": all, "reason": reason } })
    );
    assert_eq!(rig.stub.requests().len(), asked);
    raise(&rig, &all).await;
    assert_eq!(by_hand().await["status"], "ok");
    assert_eq!(numbers(&rig, &all).await, (json!(0.2), vec![]));
    let request = json!({ "provider": "stub", "model": "m", "budget_id": own });
    rig.t.set_state("run_request", "s1", request).await;
    assert_eq!(by_hand().await["status"], "ok");
    assert_eq!(numbers(&rig, &all).await, (json!(0.2), vec![]));
    assert_eq!(numbers(&rig, &own).await, (json!(0.2), vec![]));
}

/// A cap that opens on an error caps nothing.
#[tokio::test]
async fn nobody_is_asked_when_it_is_not_known_who_pays() {
    let spy = Spy::default();
    let wrap = spy.wrap();
    let rig = long(200_000, |options| options.wrap = wrap, || costs(200)).await;
    spy.fail_when(|op| match op {
        Op::Call(call) => call.payload["scope"] == "run_request",
        Op::Commit(_) => false,
    });
    let model = json!({ "id": "m", "providerID": "stub", "limit": { "context": 200_000 } });
    let text = rig
        .t
        .error(BY_HAND, json!({ "session_id": "s1", "model": model }))
        .await;
    assert!(text.ends_with("the store is away"), "{text}");
    assert_eq!((rig.stub.requests().len(), summaries(&rig).await), (0, 0));
}

#[tokio::test]
async fn an_attempt_that_breaks_off_is_paid_as_far_as_it_came() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let broken = AtomicBool::new(false);
    let rig = long(
        40_000,
        |_| {},
        move || {
            if broken.swap(true, Ordering::SeqCst) {
                return costs(200);
            }
            let mut out = says(&["forty characters are ten tokens, or so.."]);
            out.pop();
            out.push(Out::Fail("overloaded"));
            out
        },
    )
    .await;
    let id = budget(&rig, 5.0).await;
    start(&rig, "s1", &id).await;
    rig.t.ended("s1", 1).await;
    assert_eq!(summaries(&rig).await, 1);
    assert_eq!(numbers(&rig, &id).await, (json!(0.71), vec![]));
}
