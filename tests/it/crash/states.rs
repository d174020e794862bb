//! Killed in each working state, and while a call runs.

use harness::scripted::{Gate, Reply, Step};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::place::{
    ALLOWING, ASKING, Does, Model, Place, SESSION, appends, inbox, outcome, push, saves, transcript,
};
use crate::turn::of_type;

/// Half an answer, then nothing until the gate opens.
pub(super) fn half(text: &str) -> Reply {
    let chunk = json!({ "id": "x", "object": "chat.completion.chunk", "created": 0, "model": "gpt-5",
        "choices": [{ "index": 0, "delta": { "role": "assistant", "content": text }, "finish_reason": null }] });
    Reply::raw([Step::send(format!("data: {chunk}\n\n")), Step::Wait(Gate::new())])
}

fn has_result(record: &Value, call: &str) -> bool {
    record["work"]["executed"].get(call).is_some()
}

#[tokio::test]
async fn killed_in_provisioning() {
    let model = Model::new(&[("A", Does::Mark)]);
    let place = Place::new(&model, ALLOWING);
    place.accept("go").await;
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
    place
        .eventually(|| (!of_type(&place.events(), "message_update").is_empty()).then_some(()))
        .await;
    life.kill();
    assert_eq!(place.record()["state"], "assistant_streaming");
    place.finish().await;
    assert_eq!(model.asked("gpt-5"), 2);
    let outcome = outcome(&place, &model).await;
    assert_eq!(outcome.transcript, ["user hello", "assistant Re: hello"]);
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
async fn killed_between_the_results_and_the_record() {
    let model = Model::new(&[("A", Does::Mark)]);
    let place = Place::new(&model, ALLOWING);
    place
        .die("go", |op| saves(op, |record| record["state"] == "steering_check"))
        .await;
    place.finish().await;
    let outcome = outcome(&place, &model).await;
    assert_eq!(outcome.marks, ["A"]);
    assert_eq!(
        outcome.transcript,
        ["user go", "assistant calls A", "result A ok", "assistant Done."]
    );
}

async fn parked(model: &Model) -> Place {
    let place = Place::new(model, ASKING);
    place.accept("go").await;
    let life = place.start();
    place
        .reaches(|record| record["state"] == "function_awaiting_approval")
        .await;
    life.kill();
    place
}

async fn decide(place: &Place, call: &str, decision: &str) {
    let t = place.open_idle().await;
    let row = json!({ "decision": decision, "reason": null });
    t.set_state("approvals", &format!("{SESSION}/{call}"), row).await;
    t.stop().await;
}

#[tokio::test]
async fn decided_while_down() {
    let model = Model::new(&[("A", Does::Mark), ("B", Does::Mark)]);
    let place = parked(&model).await;
    decide(&place, "B", "allow").await;
    decide(&place, "A", "deny").await;
    place.finish().await;
    let outcome = outcome(&place, &model).await;
    assert_eq!(outcome.marks, ["B"]);
    assert_eq!(
        outcome.transcript,
        [
            "user go",
            "assistant calls A, calls B",
            "result A denied",
            "result B ok",
            "assistant Done."
        ]
    );
}

#[tokio::test]
async fn killed_while_an_approved_call_runs() {
    let model = Model::new(&[("A", Does::AskSlow), ("B", Does::Mark)]);
    let place = Place::new(&model, "rules: []");
    place.accept("go").await;
    let life = place.start();
    place
        .reaches(|record| record["state"] == "function_awaiting_approval")
        .await;
    life.kill();
    decide(&place, "A", "allow").await;
    let life = place.start();
    place
        .eventually(|| (model.asked("slow") == 1).then_some(()))
        .await;
    life.kill();
    decide(&place, "B", "allow").await;
    place.finish().await;
    assert_eq!(model.asked("slow"), 1);
    let outcome = outcome(&place, &model).await;
    assert_eq!(outcome.marks, ["B"]);
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
}

/// A decision that came while a sibling still ran survives the crash: nobody is asked twice.
#[tokio::test]
async fn decided_before_the_batch_parked() {
    let model = Model::new(&[("A", Does::Mark), ("B", Does::AskSlow)]);
    let place = Place::new(&model, ASKING);
    place.accept("go").await;
    let life = place.start();
    place
        .eventually(|| (model.asked("slow") == 1).then_some(()))
        .await;
    life.kill();
    decide(&place, "A", "allow").await;
    place.finish().await;
    let outcome = outcome(&place, &model).await;
    assert_eq!(outcome.marks, ["A"]);
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

/// Field lesson: a session whose process died is listed and readable, its prompt stands, and it can be continued.
#[tokio::test]
async fn r4_parked_over_two_restarts() {
    let model = Model::new(&[("A", Does::Mark)]);
    let place = parked(&model).await;
    let before = (place.record()["awaiting_approval"].clone(), place.events());
    assert_eq!(before.0[0]["function_call_id"], "A");
    for _ in 0..2 {
        let mut life = place.start();
        life.says(" ready").await;
        life.signal("TERM");
        assert!(life.exit().await.success());
        assert_eq!(
            (place.record()["awaiting_approval"].clone(), place.events()),
            before
        );
    }
    let t = place.open().await;
    let view = t.ok("turn::get_state", json!({ "session_id": SESSION })).await;
    assert_eq!(view["state"], "function_awaiting_approval");
    assert_eq!(view["awaiting_approval"], before.0);
    let sessions = t.ok("session-tree::list", json!({})).await;
    assert!(
        sessions.to_string().contains("\"session_id\":\"s\""),
        "{sessions}"
    );
    assert_eq!(transcript(&t).await.1, ["user go", "assistant calls A"]);
    let decision = json!({ "session_id": SESSION, "function_call_id": "A", "decision": "allow" });
    t.ok("approval::resolve", decision).await;
    t.ended(SESSION, 1).await;
    t.stop().await;
    assert_eq!(outcome(&place, &model).await.marks, ["A"]);
}

#[tokio::test]
async fn steered_while_down() {
    let model = Model::new(&[]);
    let place = Place::new(&model, ALLOWING);
    place
        .die("hello", |op| saves(op, |record| record["state"] == "stopped"))
        .await;
    assert_eq!(place.record()["state"], "steering_check");
    let t = place.open_idle().await;
    push(&t, "steering", "wait").await;
    push(&t, "followup", "later").await;
    t.stop().await;
    place.finish().await;
    assert_eq!(
        outcome(&place, &model).await.transcript,
        [
            "user hello",
            "assistant Re: hello",
            "user wait",
            "assistant Re: wait",
            "user later",
            "assistant Re: later"
        ]
    );
}

/// The inbox is empty already, the record does not say yet that its message was taken.
async fn died_with_the_message_taken(model: &Model) -> Place {
    let place = Place::new(model, ALLOWING);
    let t = place.open_idle().await;
    push(&t, "steering", "wait").await;
    t.stop().await;
    let mut answered = false;
    place
        .die("hello", move |op| {
            answered |= saves(op, |record| record["state"] == "steering_check");
            answered && saves(op, |record| record["state"] == "assistant_streaming")
        })
        .await;
    assert_eq!(place.record()["state"], "steering_check");
    let t = place.open_idle().await;
    assert_eq!(inbox(&t, "steering", SESSION).await, Vec::<Value>::new());
    assert_eq!(
        transcript(&t).await.1,
        ["user hello", "assistant Re: hello", "user wait"]
    );
    t.stop().await;
    place
}

#[tokio::test]
async fn killed_after_a_steering_message_was_taken() {
    let model = Model::new(&[]);
    let place = died_with_the_message_taken(&model).await;
    place.finish().await;
    assert_eq!(
        outcome(&place, &model).await.transcript,
        [
            "user hello",
            "assistant Re: hello",
            "user wait",
            "assistant Re: wait"
        ]
    );
}

#[tokio::test]
async fn steered_again_after_a_steering_message_was_taken() {
    let model = Model::new(&[]);
    let place = died_with_the_message_taken(&model).await;
    let t = place.open_idle().await;
    push(&t, "steering", "no, go").await;
    t.stop().await;
    place.finish().await;
    assert_eq!(
        outcome(&place, &model).await.transcript,
        [
            "user hello",
            "assistant Re: hello",
            "user wait",
            "user no, go",
            "assistant Re: no, go"
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
