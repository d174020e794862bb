//! Killed at moments spread over a whole run, and again and again during one.

use std::time::{Duration, Instant};

use pretty_assertions::assert_eq;

use super::model::{Does, Model};
use super::outcome::{Outcome, outcome, push};
use super::place::{ALLOWING, Place};

const KILLS: u32 = 25;
/// Each life of the one killed again and again gets so much longer than the one before.
const STEP: Duration = Duration::from_millis(5);

/// Two parallel calls; then the model gets their results and a followup message, and answers.
async fn story() -> (Model, Place) {
    let model = Model::new(&[("A", Does::Mark), ("B", Does::Mark)]);
    let place = Place::new(&model, ALLOWING);
    place.accept("go").await;
    let t = place.open_idle().await;
    push(&t, "followup", "and then?").await;
    t.stop().await;
    (model, place)
}

fn check(outcome: &Outcome) {
    let lines = &outcome.transcript;
    let results = lines.get(2..4).unwrap_or_default();
    for (call, line) in ["A", "B"].iter().zip(results) {
        let known = [format!("result {call} ok"), format!("result {call} interrupted")];
        assert!(known.contains(line), "{line}");
    }
    assert_eq!(results.len(), 2);
    // An answer that was cut stays beside the one that replaced it.
    let is_other = |line: &&String| !line.starts_with("result") && !line.ends_with(" (error)");
    let others: Vec<_> = lines.iter().filter(is_other).collect();
    assert_eq!(
        others,
        [
            "user go",
            "assistant calls A, calls B",
            "user and then?",
            "assistant Re: and then?"
        ]
    );
}

/// How long a life needs to begin its work, and to end it.
async fn measure(place: &Place) -> (Duration, Duration) {
    let begin = Instant::now();
    let life = place.start();
    place.reaches(|record| record["state"] != "provisioning").await;
    let begins = begin.elapsed();
    place.ended().await;
    life.kill();
    (begins, begin.elapsed())
}

#[tokio::test]
async fn killed_at_any_moment() {
    let (model, seed) = story().await;
    let unhurt = seed.fork();
    let (begins, ends) = measure(&unhurt).await;
    check(&outcome(&unhurt, &model).await);
    let from = begins.mul_f64(0.8);
    let step = (ends.mul_f64(1.1).saturating_sub(from)) / KILLS;
    for kill in 0..KILLS {
        let place = seed.fork();
        let life = place.start();
        // The moment of death is what this test varies.
        tokio::time::sleep(from + step * kill).await;
        life.kill();
        place.finish().await;
        check(&outcome(&place, &model).await);
    }
}

#[tokio::test]
async fn killed_again_and_again() {
    let (model, place) = story().await;
    let (begins, _) = measure(&place.fork()).await;
    let mut lives = 0;
    while place.events().iter().all(|event| event["type"] != "agent_end") {
        let life = place.start();
        tokio::time::sleep(begins.mul_f64(0.8) + STEP * lives).await;
        life.kill();
        lives += 1;
        assert!(lives < 200, "the run does not get on");
    }
    check(&outcome(&place, &model).await);
}
