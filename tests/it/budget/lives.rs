//! What a killed program had asked of a model is paid once (field lesson B4).

use harness::bus::Write;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::runs::{budget, costs, half, numbers, rig, shows_text, start};
use crate::support::spy::{Op, Spy};
use crate::support::stub::{Door, Out, Stub, says};
use crate::support::{TestBus, TestOptions};
use crate::turn::{Rig, said};

/// A life of the program on a store, and its model.
async fn life(
    dir: &std::path::Path,
    spy: &Spy,
    answer: impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static,
) -> Rig {
    let (place, wrap) = (dir.to_owned(), spy.wrap());
    let change = |options: &mut TestOptions| {
        options.data_dir = Some(place);
        options.wrap = wrap;
        options.config.turn.step_retries = 0;
    };
    rig(change, answer).await
}

async fn ends(rig: &Rig) -> Vec<String> {
    rig.t.ended("s", 1).await;
    rig.transcript("s").await.iter().map(said).collect()
}

#[tokio::test]
async fn what_a_dead_life_had_streamed_is_paid_and_so_is_the_second_call() {
    let dir = tempfile::tempdir().unwrap();
    let (spy, door) = (Spy::default(), Door::closed());
    let held = door.clone();
    let first = life(dir.path(), &spy, move |_, _| half(&held)).await;
    let id = budget(&first, 5.0).await;
    start(&first, "s", &id).await;
    shows_text(&first).await;
    // From here on nothing is stored any more.
    spy.fail_when(|_| true);
    door.open();
    first.t.stop().await;
    let second = life(dir.path(), &Spy::default(), |_, _| costs(500)).await;
    assert_eq!(
        ends(&second).await,
        [
            "user hi",
            "assistant forty characters are ten tokens, or so..",
            "assistant ok"
        ]
    );
    let cut = &second.transcript("s").await[1];
    let output = cut["usage"]["output"].as_u64().unwrap();
    assert_eq!(output, 10);
    assert_eq!(numbers(&second, &id).await, (json!(0.51), vec![]));
    second.t.stop().await;
}

#[tokio::test]
async fn an_answer_that_was_paid_and_lost_is_not_paid_as_a_part_too() {
    let dir = tempfile::tempdir().unwrap();
    let spy = Spy::default();
    let first = life(dir.path(), &spy, |_, _| {
        let mut out = says(&["an answer that nobody will store"]);
        out.pop();
        [out, costs(300)].concat()
    })
    .await;
    let id = budget(&first, 5.0).await;
    // Money is recorded; no answer is stored.
    spy.fail_when(|op| match op {
        Op::Commit(writes) => writes.iter().any(|write| {
            matches!(write, Write::StateSet { value, .. } if value.to_string().contains("\"role\":\"assistant\""))
        }),
        Op::Call(_) => false,
    });
    start(&first, "s", &id).await;
    first
        .t
        .eventually(async || (numbers(&first, &id).await.0 == 0.3).then_some(()))
        .await;
    first.t.stop().await;
    let second = life(dir.path(), &Spy::default(), |_, _| costs(500)).await;
    ends(&second).await;
    assert_eq!(numbers(&second, &id).await, (json!(0.8), vec![]));
    second.t.stop().await;
}

/// A life that ends while a model has been asked and has said nothing.
async fn dies_waiting(dir: &std::path::Path) -> String {
    let (spy, door) = (Spy::default(), Door::closed());
    let held = door.clone();
    let rig = life(dir, &spy, move |_, _| vec![Out::Wait(held.clone())]).await;
    let id = budget(&rig, 5.0).await;
    start(&rig, "s", &id).await;
    rig.stub.asked(&rig.t, 1).await;
    spy.fail_when(|_| true);
    door.open();
    rig.t.stop().await;
    id
}

/// Nobody knows what it cost, and the cap must hold.
#[tokio::test]
async fn a_call_of_a_dead_life_of_which_nothing_is_known_is_paid_whole() {
    let dir = tempfile::tempdir().unwrap();
    let id = dies_waiting(dir.path()).await;
    let second = life(dir.path(), &Spy::default(), |_, _| costs(500)).await;
    assert_eq!(ends(&second).await, ["user hi", "assistant ok"]);
    assert_eq!(numbers(&second, &id).await, (json!(1.5), vec![]));
    second.t.stop().await;
}

#[tokio::test]
async fn also_when_the_next_life_only_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let id = dies_waiting(dir.path()).await;
    // Nobody serves the model here.
    let options = TestOptions {
        data_dir: Some(dir.path().to_owned()),
        ..TestOptions::default()
    };
    let t = TestBus::with(options).await;
    t.ok("run::abort", json!({ "session_id": "s" })).await;
    t.ended("s", 1).await;
    let mut budget = t.ok("budget::get", json!({ "budget_id": id })).await["budget"].take();
    assert_eq!(
        (budget["spent_usd"].take(), budget["reservations"].take()),
        (json!(1), Value::Null)
    );
    t.stop().await;
}

/// What another life of the process set aside under a session's name does not stay so until its time is over.
#[tokio::test]
async fn a_summary_of_a_dead_life_is_paid_by_the_next_run_of_its_session() {
    let rig = rig(|_| {}, |_, _| costs(500)).await;
    let id = budget(&rig, 5.0).await;
    for (session, epoch) in [("s", "dead"), ("t", "dead"), ("s", rig.t.bus().epoch())] {
        let name = json!(["model-call", session, "summary/1", epoch]).to_string();
        let aside =
            json!({ "budget_id": id, "estimated_cost_usd": 1, "reserve": true, "reservation_id": name });
        rig.t.ok("budget::check", aside).await;
    }
    start(&rig, "s", &id).await;
    rig.t.ended("s", 1).await;
    assert_eq!(numbers(&rig, &id).await, (json!(1.5), vec![json!(1), json!(1)]));
}

/// The part that was streamed is that of the second model, and costs what that costs.
#[tokio::test]
async fn what_a_dead_life_had_streamed_of_another_model_is_paid_at_its_price() {
    let dir = tempfile::tempdir().unwrap();
    let (spy, door) = (Spy::default(), Door::closed());
    let held = door.clone();
    let first = life(dir.path(), &spy, |_, _| vec![Out::Fail("boom")]).await;
    first
        .t
        .reconfigure(|config| config.turn.fallback_models = vec!["other::cheap".to_owned()]);
    let model = json!({ "id": "cheap", "provider": "other", "max_output_tokens": 1000,
        "pricing": {"input_per_1m": 0, "output_per_1m": 100} });
    first.t.ok("models::register", model).await;
    let _other = Stub::of(&first.t, "other", move |_, _| {
        let mut out = says(&["forty characters are ten tokens, or so.."]);
        out.pop();
        for event in &mut out {
            if let Out::Event(event) = event {
                event["partial"]["provider"] = json!("other");
                event["partial"]["model"] = json!("cheap");
            }
        }
        out.push(Out::Wait(held.clone()));
        out
    });
    let id = budget(&first, 5.0).await;
    start(&first, "s", &id).await;
    first
        .t
        .eventually(async || {
            let events = first.t.events("s").await;
            let is_text = |event: &Value| event["llm_event"]["type"] == "text_delta";
            events.iter().any(is_text).then_some(())
        })
        .await;
    spy.fail_when(|_| true);
    door.open();
    first.t.stop().await;
    let place = dir.path().to_owned();
    let change = |options: &mut TestOptions| {
        options.data_dir = Some(place);
        options.config.turn.fallback_models = vec!["other::cheap".to_owned()];
    };
    let second = rig(change, |_, _| costs(500)).await;
    ends(&second).await;
    assert_eq!(numbers(&second, &id).await, (json!(0.501), vec![]));
    second.t.stop().await;
}
