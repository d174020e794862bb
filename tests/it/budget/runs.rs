//! Runs pay for their model calls (contract 07 §4, field lessons B3, B4, B7, B10).

use harness::config::{AtCeiling, Unpriced};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::stub::{Door, Out, calls_then_ends, done, message, says};
use crate::support::{TestOptions, three_ways};
use crate::turn::{Rig, of_type, run, said};

three_ways! {
    a_call_is_set_aside_then_paid,
    a_long_call_keeps_what_is_set_aside,
    every_call_of_a_run_is_paid,
    runs_that_name_no_budget_have_the_one_of_the_settings,
    at_the_ceiling_a_run_ends,
    a_run_that_rests_goes_on_when_the_ceiling_is_raised,
    a_run_that_rests_can_be_stopped,
    a_model_without_a_price,
    a_budget_that_cannot_be_asked_stops_the_run,
    a_stopped_stream_is_paid,
    a_failure_before_anything_came_costs_nothing,
    the_estimate_of_a_run_counts_when_it_is_higher,
    a_run_without_a_budget_asks_nobody,
}

/// A dollar at most: a thousand tokens at a tenth of a cent.
const PRICED: &str = "m";

fn options(change: impl FnOnce(&mut TestOptions)) -> TestOptions {
    let mut options = TestOptions {
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    };
    change(&mut options);
    options
}

/// A rig whose model has a price.
pub(super) async fn rig(
    change: impl FnOnce(&mut TestOptions),
    answer: impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static,
) -> Rig {
    let rig = Rig::new(options(change), answer).await;
    let model = json!({
        "id": PRICED, "provider": "stub", "max_output_tokens": 1000,
        "pricing": {"input_per_1m": 0, "output_per_1m": 1000},
    });
    rig.t.ok("models::register", model).await;
    rig
}

/// Says something that cost so many tokens.
pub(super) fn costs(tokens: u64) -> Vec<Out> {
    let mut whole = message(json!([{ "type": "text", "text": "ok" }]), "end");
    whole["usage"] = json!({ "input": 7, "output": tokens });
    vec![done(whole)]
}

pub(super) async fn budget(rig: &Rig, ceiling_usd: f64) -> String {
    let request = json!({ "ceiling_usd": ceiling_usd, "period": "month" });
    let answer = rig.t.ok("budget::create", request).await;
    answer["budget_id"].as_str().unwrap().to_owned()
}

/// Spent, and set aside.
pub(super) async fn numbers(rig: &Rig, id: &str) -> (Value, Vec<Value>) {
    let mut budget = rig.t.ok("budget::get", json!({ "budget_id": id })).await["budget"].take();
    let reserved = budget["reservations"].as_array().cloned().unwrap_or_default();
    let amounts = reserved
        .iter()
        .map(|reservation| reservation["amount_usd"].clone());
    (budget["spent_usd"].take(), amounts.collect())
}

pub(super) async fn start(rig: &Rig, session: &str, budget: &str) {
    let mut request = run(session);
    request["budget_id"] = json!(budget);
    rig.t.ok("run::start", request).await;
}

/// A rig whose model waits at a door before it says what costs half a dollar.
async fn at_a_door(change: impl FnOnce(&mut TestOptions)) -> (Rig, Door) {
    let door = Door::closed();
    let held = door.clone();
    let answer = move |_, _: &Value| [vec![Out::Wait(held.clone())], costs(500)].concat();
    (rig(change, answer).await, door)
}

/// Ten tokens of an answer whose end waits at a door.
pub(super) fn half(door: &Door) -> Vec<Out> {
    let mut out = says(&["forty characters are ten tokens, or so.."]);
    out.pop();
    out.push(Out::Wait(door.clone()));
    out
}

/// Waits until text of the model is there.
pub(super) async fn shows_text(rig: &Rig) {
    rig.t
        .eventually(async || {
            let events = rig.t.events("s").await;
            let is_text = |event: &Value| event["llm_event"]["type"] == "text_delta";
            events.iter().any(is_text).then_some(())
        })
        .await;
}

pub(super) async fn last_text(rig: &Rig, session: &str) -> String {
    said(rig.transcript(session).await.last().unwrap())
}

async fn a_call_is_set_aside_then_paid() {
    let (rig, door) = at_a_door(|_| {}).await;
    let id = budget(&rig, 1.0).await;
    start(&rig, "s", &id).await;
    rig.stub.asked(&rig.t, 1).await;
    assert_eq!(numbers(&rig, &id).await, (json!(0), vec![json!(1)]));
    door.open();
    rig.t.ended("s", 1).await;
    assert_eq!(numbers(&rig, &id).await, (json!(0.5), vec![]));
    // A dollar is more than what is left.
    start(&rig, "s", &id).await;
    rig.t.ended("s", 2).await;
    assert_eq!(
        last_text(&rig, "s").await,
        "assistant budget exceeded: ceiling_exceeded"
    );
    assert_eq!(rig.stub.requests().len(), 1);
}

async fn a_long_call_keeps_what_is_set_aside() {
    let (rig, door) = at_a_door(|options| options.config.budgets.reservation_ttl_ms = 400).await;
    let id = budget(&rig, 1.0).await;
    start(&rig, "s", &id).await;
    rig.stub.asked(&rig.t, 1).await;
    let ends = async || {
        let budget = rig.t.ok("budget::get", json!({ "budget_id": id })).await["budget"].take();
        budget["reservations"][0]["expires_at"].as_i64()
    };
    let first = rig.t.eventually(ends).await;
    let later = first + 1000;
    rig.t
        .eventually(async || ends().await.filter(|end| *end > later))
        .await;
    door.open();
    rig.t.ended("s", 1).await;
    assert_eq!(numbers(&rig, &id).await, (json!(0.5), vec![]));
}

async fn every_call_of_a_run_is_paid() {
    let rig = rig(|_| {}, calls_then_ends(vec![("A", "f", json!({}))])).await;
    rig.t.record("f", json!({}));
    let id = budget(&rig, 2.0).await;
    start(&rig, "s", &id).await;
    rig.t.ended("s", 1).await;
    // One token each.
    assert_eq!(numbers(&rig, &id).await, (json!(0.002), vec![]));
    let usage = rig.t.ok("budget::usage", json!({ "budget_id": id })).await;
    assert_eq!(usage["spend_records"], 2);
}

async fn runs_that_name_no_budget_have_the_one_of_the_settings() {
    let rig = rig(|_| {}, |_, _| costs(250)).await;
    let id = budget(&rig, 2.0).await;
    let default = id.clone();
    rig.t
        .reconfigure(move |config| config.budgets.default_budget_id = Some(default));
    rig.run("s").await;
    assert_eq!(numbers(&rig, &id).await, (json!(0.25), vec![]));
}

async fn at_the_ceiling_a_run_ends() {
    let rig = rig(|_| {}, |_, _| costs(1)).await;
    let id = budget(&rig, 0.99).await;
    start(&rig, "s", &id).await;
    let events = rig.t.ended("s", 1).await;
    let last = rig.transcript("s").await.pop().unwrap();
    assert_eq!(
        (&last["stop_reason"], &last["error_message"]),
        (&json!("error"), &json!("budget exceeded: ceiling_exceeded"))
    );
    assert_eq!(of_type(&events, "turn_end").len(), 1);
    assert_eq!(rig.record("s").await["state"], "stopped");
    assert_eq!(rig.stub.requests(), [] as [Value; 0]);
    assert_eq!(numbers(&rig, &id).await, (json!(0), vec![]));
}

pub(super) async fn rests(rig: &Rig, session: &str) -> Value {
    rig.t
        .eventually(async || {
            let view = rig
                .t
                .ok("turn::get_state", json!({ "session_id": session }))
                .await;
            view["budget_wait"].is_object().then_some(view)
        })
        .await
}

async fn a_run_that_rests_goes_on_when_the_ceiling_is_raised() {
    let rig = rig(
        |options| options.config.budgets.at_ceiling = AtCeiling::Park,
        |_, _| costs(100),
    )
    .await;
    let id = budget(&rig, 0.5).await;
    start(&rig, "s", &id).await;
    assert_eq!(
        rests(&rig, "s").await,
        json!({"session_id": "s", "state": "assistant_streaming", "turn_count": 0,
               "budget_wait": {"budget_id": id, "reason": "budget exceeded: ceiling_exceeded"}})
    );
    let again = rig.t.ok("run::start", run("s")).await;
    assert_eq!(again["started"], false);
    assert_eq!(rig.stub.requests().len(), 0);
    let raise = json!({"budget_id": id, "patch": {"ceiling_usd": 5}});
    rig.t.ok("budget::update", raise).await;
    let events = rig.t.ended("s", 1).await;
    assert_eq!(last_text(&rig, "s").await, "assistant ok");
    assert_eq!(numbers(&rig, &id).await, (json!(0.1), vec![]));
    assert_eq!(of_type(&events, "turn_end").len(), 1);
    assert_eq!(rig.record("s").await.get("budget_wait"), None);
}

async fn a_run_that_rests_can_be_stopped() {
    let rig = rig(
        |options| options.config.budgets.at_ceiling = AtCeiling::Park,
        |_, _| costs(100),
    )
    .await;
    let id = budget(&rig, 0.5).await;
    start(&rig, "s", &id).await;
    rests(&rig, "s").await;
    let stopped = rig.t.ok("run::abort", json!({ "session_id": "s" })).await;
    assert_eq!(
        stopped,
        json!({"session_id": "s", "aborted": true, "state": "assistant_streaming"})
    );
    rig.t.ended("s", 1).await;
    assert_eq!(numbers(&rig, &id).await, (json!(0), vec![]));
    assert_eq!(rig.record("s").await.get("budget_wait"), None);
}

async fn a_model_without_a_price() {
    let rig = Rig::new(options(|_| {}), |_, _| costs(1)).await;
    let id = budget(&rig, 5.0).await;
    let mut request = run("refused");
    request["budget_id"] = json!(id);
    request["estimated_cost_usd"] = json!(1);
    rig.t.ok("run::start", request).await;
    rig.t.ended("refused", 1).await;
    assert_eq!(numbers(&rig, &id).await, (json!(0), vec![]));
    assert_eq!(
        last_text(&rig, "refused").await,
        "assistant budget exceeded: model has no price"
    );
    // No budget that is raised would help, so nothing rests for it either.
    rig.t
        .reconfigure(|config| config.budgets.at_ceiling = AtCeiling::Park);
    start(&rig, "never", &id).await;
    rig.t.ended("never", 1).await;
    assert_eq!(
        last_text(&rig, "never").await,
        "assistant budget exceeded: model has no price"
    );
    // Where no cap holds, there is nothing to refuse for.
    rig.t
        .ok("budget::enforce", json!({"budget_id": id, "enforced": false}))
        .await;
    start(&rig, "free", &id).await;
    rig.t.ended("free", 1).await;
    assert_eq!(last_text(&rig, "free").await, "assistant ok");
    rig.t
        .ok("budget::enforce", json!({"budget_id": id, "enforced": true}))
        .await;
    rig.t
        .reconfigure(|config| config.budgets.unpriced = Unpriced::Allow);
    start(&rig, "allowed", &id).await;
    rig.t.ended("allowed", 1).await;
    assert_eq!(last_text(&rig, "allowed").await, "assistant ok");
    assert_eq!(numbers(&rig, &id).await.0, 0);
}

async fn a_budget_that_cannot_be_asked_stops_the_run() {
    let rig = rig(|_| {}, |_, _| costs(1)).await;
    start(&rig, "s", "gone").await;
    rig.t.ended("s", 1).await;
    assert_eq!(
        last_text(&rig, "s").await,
        "assistant budget exceeded: budget unavailable: budget not found: gone"
    );
    assert_eq!(rig.stub.requests().len(), 0);
}

async fn a_stopped_stream_is_paid() {
    let door = Door::closed();
    let held = door.clone();
    let rig = rig(|_| {}, move |_, _| half(&held)).await;
    let id = budget(&rig, 5.0).await;
    start(&rig, "s", &id).await;
    shows_text(&rig).await;
    rig.t.ok("run::abort", json!({ "session_id": "s" })).await;
    rig.t.ended("s", 1).await;
    door.open();
    let message = rig.transcript("s").await.pop().unwrap();
    let output = message["usage"]["output"].as_u64().unwrap();
    assert!(output > 0);
    let spent = numbers(&rig, &id).await;
    assert_eq!(
        spent,
        (json!(f64::from(u32::try_from(output).unwrap()) / 1000.0), vec![])
    );
}

async fn a_failure_before_anything_came_costs_nothing() {
    let rig = rig(|_| {}, |_, _| vec![Out::Fail("boom")]).await;
    let id = budget(&rig, 5.0).await;
    start(&rig, "s", &id).await;
    rig.t.ended("s", 1).await;
    assert_eq!(numbers(&rig, &id).await, (json!(0), vec![]));
}

async fn the_estimate_of_a_run_counts_when_it_is_higher() {
    let rig = rig(|_| {}, |_, _| costs(1)).await;
    let id = budget(&rig, 5.0).await;
    for (estimate, text) in [
        (5.0, "assistant ok"),
        (5.5, "assistant budget exceeded: ceiling_exceeded"),
    ] {
        let session = format!("s{estimate}");
        let mut request = run(&session);
        request["budget_id"] = json!(id);
        request["estimated_cost_usd"] = json!(estimate);
        rig.t.ok("run::start", request).await;
        rig.t.ended(&session, 1).await;
        assert_eq!(last_text(&rig, &session).await, text);
        rig.t.ok("budget::reset", json!({ "budget_id": id })).await;
    }
}

async fn a_run_without_a_budget_asks_nobody() {
    let rig = rig(|_| {}, |_, _| costs(1)).await;
    budget(&rig, 5.0).await;
    rig.run("s").await;
    assert_eq!(
        (rig.t.calls_of("budget::check"), rig.t.calls_of("budget::record")),
        (0, 0)
    );
}
