//! Killed in the steering check, with messages in the inboxes.

use pretty_assertions::assert_eq;

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

/// Died as a message was about to be taken out of its inbox: it is still there, and nowhere else.
async fn died_taking_a_message(model: &Model) -> Place {
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
    assert_eq!(inbox(&t, "steering", SESSION).await.len(), 1);
    assert_eq!(transcript(&t).await.1, ["user hello", "assistant Re: hello"]);
    t.stop().await;
    place
}

#[tokio::test]
async fn killed_while_a_steering_message_is_taken() {
    let model = Model::new(&[]);
    let place = died_taking_a_message(&model).await;
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
async fn steered_with_the_same_words_while_down() {
    let model = Model::new(&[]);
    let place = died_taking_a_message(&model).await;
    let t = place.open_idle().await;
    push(&t, "steering", "wait").await;
    t.stop().await;
    place.finish().await;
    assert_eq!(
        outcome(&place, &model).await.transcript,
        [
            "user hello",
            "assistant Re: hello",
            "user wait",
            "user wait",
            "assistant Re: wait"
        ]
    );
}
