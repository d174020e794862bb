//! Asked to stop, and two at once.

use pretty_assertions::assert_eq;

use super::model::{Does, Model, half};
use super::outcome::outcome;
use super::place::{ALLOWING, Place};

#[tokio::test]
async fn stopped_while_the_model_streams_the_turn_is_run_again() {
    let model = Model::answering_first(Some(half("Half an ")), &[]);
    let place = Place::new(&model, ALLOWING);
    place.accept("hello").await;
    let mut life = place.start();
    place.shows_text().await;
    life.signal("TERM");
    assert_eq!(life.exit().await.code(), Some(0), "{}", life.log());
    assert_eq!(place.record()["state"], "assistant_streaming");
    place.finish().await;
    assert_eq!(
        outcome(&place, &model).await.transcript,
        ["user hello", "assistant Half an  (error)", "assistant Re: hello"]
    );
}

#[tokio::test]
async fn stopped_while_a_call_runs_its_outcome_is_unknown() {
    let model = Model::new(&[("A", Does::AskSlow)]);
    let place = Place::new(&model, ALLOWING);
    place.accept("go").await;
    let mut life = place.start();
    place
        .eventually(|| (model.asked("slow") == 1).then_some(()))
        .await;
    life.signal("TERM");
    assert_eq!(life.exit().await.code(), Some(0), "{}", life.log());
    place.finish().await;
    assert_eq!(model.asked("slow"), 1);
    assert_eq!(
        outcome(&place, &model).await.transcript,
        [
            "user go",
            "assistant calls A",
            "result A interrupted",
            "assistant Done."
        ]
    );
}

#[tokio::test]
async fn a_call_that_ends_within_the_grace_keeps_its_result() {
    let model = Model::new(&[("A", Does::AskSlow)]);
    let place = Place::new(&model, ALLOWING);
    place.accept("go").await;
    place.configure(60_000);
    let mut life = place.start();
    place
        .eventually(|| (model.asked("slow") == 1).then_some(()))
        .await;
    life.signal("TERM");
    life.says("stopping").await;
    model.slow.release();
    assert_eq!(life.exit().await.code(), Some(0), "{}", life.log());
    place.finish().await;
    assert_eq!(model.asked("slow"), 1);
    assert_eq!(
        outcome(&place, &model).await.transcript,
        ["user go", "assistant calls A", "result A ok", "assistant Done."]
    );
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let model = Model::new(&[("A", Does::AskSlow)]);
    let place = Place::new(&model, ALLOWING);
    place.accept("go").await;
    // Longer than this test waits.
    place.configure(600_000);
    let mut life = place.start();
    place
        .eventually(|| (model.asked("slow") == 1).then_some(()))
        .await;
    life.signal("TERM");
    life.says("stopping").await;
    life.signal("INT");
    assert_eq!(life.exit().await.code(), Some(0), "{}", life.log());
    assert!(life.log().contains("ended at once"), "{}", life.log());
    place.finish().await;
    assert_eq!(model.asked("slow"), 1);
    assert_eq!(
        outcome(&place, &model).await.transcript,
        [
            "user go",
            "assistant calls A",
            "result A interrupted",
            "assistant Done."
        ]
    );
}

#[tokio::test]
async fn a_second_process_on_the_directory_is_refused() {
    let model = Model::new(&[]);
    let place = Place::new(&model, ALLOWING);
    let mut first = place.start();
    first.says(" ready").await;
    let mut second = place.start();
    assert_eq!(second.exit().await.code(), Some(1));
    let refusal = format!(
        "the data directory {} is in use by another process",
        place.data().display()
    );
    assert!(second.log().contains(&refusal), "{}", second.log());
    first.signal("TERM");
    assert!(first.exit().await.success());
    let third = place.start();
    third.says(" ready").await;
}
