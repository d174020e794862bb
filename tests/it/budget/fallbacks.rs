//! A run that falls back to other models pays each of them for itself (field lessons B1, B3).

use harness::config::AtCeiling;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::runs::{budget, costs, last_text, numbers, rests, rig, start};
use crate::support::stub::{Door, Out, Stub};
use crate::turn::Rig;

/// A run on a model that costs a dollar at most and is not available, with others behind it: `cheap` costs a tenth of that,
/// `dear` ten times as much, and nobody knows what `odd` costs.
async fn chain(
    others: &[&str],
    at_ceiling: AtCeiling,
    first: Vec<Out>,
    answer: impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static,
) -> (Rig, Stub) {
    let others: Vec<String> = others.iter().map(|model| format!("other::{model}")).collect();
    let change = |options: &mut crate::support::TestOptions| {
        options.config.turn.fallback_models = others;
        options.config.budgets.at_ceiling = at_ceiling;
    };
    let rig = rig(change, move |_, _| first.clone()).await;
    let other = Stub::of(&rig.t, "other", answer);
    for (model, output) in [("cheap", 100), ("dear", 10_000)] {
        let model = json!({ "id": model, "provider": "other", "max_output_tokens": 1000,
            "pricing": {"input_per_1m": 0, "output_per_1m": output} });
        rig.t.ok("models::register", model).await;
    }
    (rig, other)
}

fn boom() -> Vec<Out> {
    vec![Out::Fail("boom")]
}

fn models(stub: &Stub) -> Vec<Value> {
    let requests = stub.requests().into_iter();
    requests.map(|mut request| request["model"].take()).collect()
}

#[tokio::test]
async fn what_was_set_aside_for_the_first_model_is_released_before_the_next_one_is_asked() {
    let door = Door::closed();
    let held = door.clone();
    let answer = move |_: usize, _: &Value| [vec![Out::Wait(held.clone())], costs(500)].concat();
    let (rig, other) = chain(&["cheap"], AtCeiling::End, boom(), answer).await;
    let id = budget(&rig, 1.0).await;
    start(&rig, "s", &id).await;
    other.asked(&rig.t, 1).await;
    assert_eq!(numbers(&rig, &id).await, (json!(0), vec![json!(0.1)]));
    door.open();
    rig.t.ended("s", 1).await;
    assert_eq!(last_text(&rig, "s").await, "assistant ok");
    assert_eq!(numbers(&rig, &id).await, (json!(0.05), vec![]));
}

#[tokio::test]
async fn a_model_that_is_too_dear_or_has_no_price_is_passed_over() {
    let answer = |_: usize, _: &Value| costs(500);
    let (rig, other) = chain(&["dear", "odd", "cheap"], AtCeiling::End, boom(), answer).await;
    let id = budget(&rig, 1.5).await;
    start(&rig, "s", &id).await;
    rig.t.ended("s", 1).await;
    assert_eq!(models(&other), ["cheap"]);
    assert_eq!(numbers(&rig, &id).await, (json!(0.05), vec![]));
}

#[tokio::test]
async fn a_run_ends_when_the_cap_keeps_every_other_model_away() {
    let (rig, other) = chain(&["dear"], AtCeiling::End, boom(), |_, _| costs(1)).await;
    let id = budget(&rig, 1.5).await;
    start(&rig, "s", &id).await;
    rig.t.ended("s", 1).await;
    assert_eq!(
        last_text(&rig, "s").await,
        "assistant budget exceeded: ceiling_exceeded"
    );
    assert_eq!((rig.stub.requests().len(), models(&other)), (1, vec![]));
    assert_eq!(numbers(&rig, &id).await, (json!(0), vec![]));
}

#[tokio::test]
async fn or_rests_and_goes_on_from_its_own_model_when_the_cap_is_raised() {
    let (rig, other) = chain(&["odd", "dear"], AtCeiling::Park, boom(), |_, _| costs(500)).await;
    let id = budget(&rig, 1.5).await;
    start(&rig, "s", &id).await;
    let view = rests(&rig, "s").await;
    assert_eq!(
        view["budget_wait"],
        json!({ "budget_id": id, "reason": "budget exceeded: ceiling_exceeded" })
    );
    assert_eq!(
        (&view["turn_count"], numbers(&rig, &id).await),
        (&json!(0), (json!(0), vec![]))
    );
    let raise = json!({"budget_id": id, "patch": {"ceiling_usd": 20}});
    rig.t.ok("budget::update", raise).await;
    rig.t.ended("s", 1).await;
    assert_eq!(
        (rig.stub.requests().len(), models(&other)),
        (2, vec![json!("dear")])
    );
    assert_eq!(last_text(&rig, "s").await, "assistant ok");
    assert_eq!(numbers(&rig, &id).await, (json!(5), vec![]));
}

/// It would be billed again each time the run looks whether there is money.
#[tokio::test]
async fn a_failure_that_was_billed_does_not_rest() {
    let counted = json!({ "type": "usage", "usage": { "input": 7, "output": 300 } });
    let first = vec![Out::Event(counted), Out::Fail("boom")];
    let (rig, other) = chain(&["dear"], AtCeiling::Park, first, |_, _| costs(1)).await;
    let id = budget(&rig, 1.5).await;
    start(&rig, "s", &id).await;
    rig.t.ended("s", 1).await;
    let last = rig.transcript("s").await.pop().unwrap();
    assert_eq!(
        (&last["error_message"], &last["usage"]["output"]),
        (&json!("boom"), &json!(300))
    );
    assert_eq!((rig.stub.requests().len(), models(&other)), (1, vec![]));
    assert_eq!(numbers(&rig, &id).await, (json!(0.3), vec![]));
    let usage = rig.t.ok("budget::usage", json!({ "budget_id": id })).await;
    assert_eq!(usage["spend_records"], 1);
}
