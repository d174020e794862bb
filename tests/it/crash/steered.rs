//! Killed in the steering check, with messages in the inboxes.

use pretty_assertions::assert_eq;
use serde_json::Value;

use super::model::Model;
use super::outcome::{inbox, outcome, push, transcript};
use super::place::{ALLOWING, Place, SESSION, saves};

#[tokio::test]
async fn steered_while_down() {
    let model = Model::new(&[]);
    let place = Place::new(&model, ALLOWING);
    place
        .die("hello", |op| saves(op, |record| record["state"] == "stopped"))
        .await;
    // The answer and the end of the run are one commit: neither is stored.
    assert_eq!(place.record()["state"], "assistant_streaming");
    let t = place.open_idle().await;
    push(&t, "steering", "wait").await;
    push(&t, "followup", "later").await;
    t.stop().await;
    place.finish().await;
    // What was streamed of the lost answer may have been stored.
    let mut transcript = outcome(&place, &model).await.transcript;
    transcript.retain(|line| !line.ends_with(" (error)"));
    assert_eq!(
        transcript,
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
