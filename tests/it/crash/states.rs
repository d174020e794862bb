//! Killed in each working state, and while a call runs.

use futures::FutureExt;
use harness::bus::{Bus, CallContext, CallOptions, WorkerDef};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::model::{Does, Model, half};
use super::outcome::outcome;
use super::place::{ALLOWING, Place, SESSION, appends, saves};
use crate::turn::{of_type, user};

fn has_result(record: &Value, call: &str) -> bool {
    record["work"]["executed"].get(call).is_some()
}

/// SIGKILL while the stored record is in a state that lasts only a moment: as soon as the program says that it has found
/// the open session. Another copy is taken when it was faster than the signal.
async fn killed_in(state: &str, place: &Place) -> Place {
    for _ in 0..100 {
        let copy = place.fork();
        let life = copy.start();
        life.says("sessions of an earlier run are open").await;
        life.kill();
        if copy.record()["state"] == state {
            return copy;
        }
    }
    panic!("the program was always faster than the signal");
}

#[tokio::test]
async fn killed_in_provisioning() {
    let model = Model::new(&[("A", Does::Mark)]);
    let place = Place::new(&model, ALLOWING);
    place.accept("go").await;
    let place = killed_in("provisioning", &place).await;
    place.finish().await;
    let outcome = outcome(&place, &model).await;
    assert_eq!(
        outcome.transcript,
        ["user go", "assistant calls A", "result A ok", "assistant Done."]
    );
    assert_eq!(outcome.marks, ["A"]);
}

#[tokio::test]
async fn killed_in_the_steering_check() {
    let model = Model::new(&[("A", Does::Mark)]);
    let place = Place::new(&model, ALLOWING);
    let mut checked = false;
    place
        .die("go", move |op| {
            checked |= saves(op, |record| record["state"] == "steering_check");
            checked && saves(op, |record| record["state"] == "assistant_streaming")
        })
        .await;
    let place = killed_in("steering_check", &place).await;
    place.finish().await;
    let outcome = outcome(&place, &model).await;
    assert_eq!(
        outcome.transcript,
        ["user go", "assistant calls A", "result A ok", "assistant Done."]
    );
    assert_eq!(outcome.marks, ["A"]);
}

#[tokio::test]
async fn killed_while_the_model_streams() {
    let model = Model::answering_first(Some(half("Half an ")), &[]);
    let place = Place::new(&model, ALLOWING);
    place.accept("hello").await;
    let life = place.start();
    place.shows_text().await;
    life.kill();
    assert_eq!(place.record()["state"], "assistant_streaming");
    place.finish().await;
    assert_eq!(model.asked("gpt-5"), 2);
    let outcome = outcome(&place, &model).await;
    // What people have read stays.
    assert_eq!(
        outcome.transcript,
        ["user hello", "assistant Half an  (error)", "assistant Re: hello"]
    );
}

#[tokio::test]
async fn killed_before_a_call() {
    let model = Model::new(&[("A", Does::Mark), ("B", Does::Mark)]);
    let place = Place::new(&model, ALLOWING);
    place
        .die("go", |op| {
            saves(op, |record| record["work"].get("started").is_some())
        })
        .await;
    assert_eq!(place.record()["state"], "function_execute");
    place.finish().await;
    let mut outcome = outcome(&place, &model).await;
    outcome.marks.sort();
    assert_eq!(outcome.marks, ["A", "B"]);
    assert_eq!(
        outcome.transcript,
        [
            "user go",
            "assistant calls A, calls B",
            "result A ok",
            "result B ok",
            "assistant Done."
        ]
    );
}

#[tokio::test]
async fn killed_while_a_call_runs() {
    let model = Model::new(&[("A", Does::AskSlow)]);
    let place = Place::new(&model, ALLOWING);
    place.accept("go").await;
    let life = place.start();
    place
        .eventually(|| (model.asked("slow") == 1).then_some(()))
        .await;
    life.kill();
    assert_eq!(place.record()["state"], "function_execute");
    place.finish().await;
    assert_eq!(model.asked("slow"), 1);
    let outcome = outcome(&place, &model).await;
    assert_eq!(
        outcome.transcript,
        [
            "user go",
            "assistant calls A",
            "result A interrupted",
            "assistant Done."
        ]
    );
}

#[tokio::test]
async fn killed_when_the_second_of_two_parallel_calls_has_ended() {
    let model = Model::new(&[("A", Does::AskSlow), ("B", Does::Mark)]);
    let place = Place::new(&model, ALLOWING);
    place.accept("go").await;
    let life = place.start();
    place.reaches(|record| has_result(record, "B")).await;
    place
        .eventually(|| (model.asked("slow") == 1).then_some(()))
        .await;
    life.kill();
    place.finish().await;
    assert_eq!(model.asked("slow"), 1);
    let outcome = outcome(&place, &model).await;
    assert_eq!(
        outcome.transcript,
        [
            "user go",
            "assistant calls A, calls B",
            "result A interrupted",
            "result B ok",
            "assistant Done."
        ]
    );
    assert_eq!(outcome.marks, ["B"]);
}

#[tokio::test]
async fn killed_when_the_first_of_two_parallel_calls_has_ended() {
    let model = Model::new(&[("A", Does::Mark), ("B", Does::AskSlow)]);
    let place = Place::new(&model, ALLOWING);
    place.accept("go").await;
    let life = place.start();
    place.reaches(|record| has_result(record, "A")).await;
    place
        .eventually(|| (model.asked("slow") == 1).then_some(()))
        .await;
    life.kill();
    place.finish().await;
    assert_eq!(model.asked("slow"), 1);
    let outcome = outcome(&place, &model).await;
    assert_eq!(
        outcome.transcript,
        [
            "user go",
            "assistant calls A, calls B",
            "result A ok",
            "result B interrupted",
            "assistant Done."
        ]
    );
}

/// Field lesson: killed between "the target returned" and "its result is saved".
#[tokio::test]
async fn d1_killed_after_a_call_before_its_result_is_stored() {
    let model = Model::new(&[("A", Does::Mark)]);
    let place = Place::new(&model, ALLOWING);
    place.die("go", |op| appends(op, "function_result")).await;
    assert!(place.record()["work"]["started"].get("A").is_some());
    place.finish().await;
    let outcome = outcome(&place, &model).await;
    assert_eq!(
        outcome.marks,
        ["A"],
        "the target ran before the crash, and not again"
    );
    assert_eq!(
        outcome.transcript,
        [
            "user go",
            "assistant calls A",
            "result A interrupted",
            "assistant Done."
        ]
    );
}

#[tokio::test]
async fn killed_right_after_the_last_record() {
    let model = Model::new(&[("A", Does::Mark)]);
    let place = Place::new(&model, ALLOWING);
    place.accept("go").await;
    place.finish().await;
    let events = place.events();
    let mut life = place.start();
    life.says(" ready").await;
    life.signal("TERM");
    assert!(life.exit().await.success());
    assert_eq!(place.events(), events);
    assert_eq!(outcome(&place, &model).await.events, events);
}

/// An engine that cannot store record and event at once may leave the end of a run unsaid.
#[tokio::test]
async fn an_end_that_was_not_announced_is_announced_once() {
    let model = Model::new(&[]);
    let place = Place::new(&model, ALLOWING);
    place
        .die("hello", |op| saves(op, |record| record["state"] == "stopped"))
        .await;
    let mut record = place.record();
    record["state"] = json!("stopped");
    record["agent_end_emitted"] = json!(false);
    let t = place.open_idle().await;
    t.set_state("turn_state", SESSION, record).await;
    t.stop().await;
    place.finish().await;
    assert_eq!(place.record()["agent_end_emitted"], true);
    let life = place.start();
    life.says(" ready").await;
    life.kill();
    assert_eq!(of_type(&place.events(), "agent_end").len(), 1);
}

/// A client that sends its message before the open sessions are resumed hears that the session is busy, and it goes on.
#[tokio::test]
async fn a_start_ahead_of_the_recovery_does_not_keep_it_away() {
    let model = Model::new(&[("A", Does::Mark)]);
    let place = Place::new(&model, ALLOWING);
    place.accept("go").await;
    let t = place
        .open_with(|options| options.workers.insert(0, hasty()))
        .await;
    t.ended(SESSION, 1).await;
    t.stop().await;
    let transcript = outcome(&place, &model).await.transcript;
    assert_eq!(
        transcript,
        ["user go", "assistant calls A", "result A ok", "assistant Done."]
    );
}

/// Its background work comes before that of all others.
fn hasty() -> WorkerDef {
    let start = |bus: Bus| {
        async move {
            let request = json!({ "session_id": SESSION, "provider": "openai", "model": "gpt-5",
                "messages": [user("too early")] });
            let reply = bus
                .invoke(
                    &CallContext::default(),
                    "run::start",
                    request,
                    CallOptions::default(),
                )
                .await?;
            assert_eq!(reply["reason"], "session_busy");
            Ok(())
        }
        .boxed()
    };
    WorkerDef {
        name: "hasty",
        description: "Starts a run at once.",
        functions: Vec::new(),
        triggers: Vec::new(),
        prepare: Vec::new(),
        background: vec![Box::new(start)],
        reconnected: Vec::new(),
    }
}
