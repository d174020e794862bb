//! Killed around `run::abort`, with a call under way that does not hear of the stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::boundaries::writes;
use super::model::{Does, Model, half};
use super::outcome::outcome;
use super::place::{ALLOWING, ASKING, Life, Place, SESSION, dying};
use crate::support::ws::Ws;
use crate::turn::of_type;

fn session() -> Value {
    json!({ "session_id": SESSION })
}

/// The end of a run that was stopped while A ran and B was done.
const STOPPED: [&str; 5] = [
    "user go",
    "assistant calls A, calls B",
    "result A interrupted",
    "result B ok",
    "assistant  (aborted)",
];

/// The end of one that was not.
const WENT_ON: [&str; 5] = [
    "user go",
    "assistant calls A, calls B",
    "result A interrupted",
    "result B ok",
    "assistant Done.",
];

/// A run whose call A waits for another model, and whose call B is done.
async fn accepted() -> (Model, Place) {
    let model = Model::new(&[("A", Does::AskSlow), ("B", Does::Mark)]);
    let place = Place::new(&model, ALLOWING);
    place.accept("go").await;
    (model, place)
}

fn is_under_way(record: &Value) -> bool {
    record["work"]["executed"].get("B").is_some() && record["work"]["started"].get("A").is_some()
}

#[tokio::test]
async fn killed_before_each_write_of_a_stop() {
    let (model, seed) = accepted().await;
    for fatal in 1.. {
        let place = seed.fork();
        let asked = model.asked("slow");
        let (armed, seen) = (
            Arc::new(AtomicUsize::new(usize::MAX)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (at, count) = (Arc::clone(&armed), Arc::clone(&seen));
        let (spy, dead) = dying(move |op| {
            writes(op) && count.fetch_add(1, Ordering::SeqCst) + 1 >= at.load(Ordering::SeqCst)
        });
        let t = place
            .open_with(|options| {
                options.wrap = spy.wrap();
                options.config.turn.step_retries = 0;
            })
            .await;
        t.eventually(async || {
            let record = t.state("turn_state", SESSION).await;
            (is_under_way(&record) && model.asked("slow") > asked).then_some(())
        })
        .await;
        armed.store(seen.load(Ordering::SeqCst) + fatal, Ordering::SeqCst);
        let reply = t.call("run::abort", session()).await;
        let died = t
            .eventually(async || {
                if dead.load(Ordering::SeqCst) {
                    return Some(true);
                }
                let request = json!({ "stream_name": "agent::events", "group_id": SESSION });
                let events = t.call("stream::list", request).await.ok()?;
                let ended = !of_type(events.as_array()?, "agent_end").is_empty();
                ended.then_some(false)
            })
            .await;
        t.stop().await;

        let outcome = outcome(&place, &model).await;
        match reply {
            Ok(reply) => {
                let expected = json!({ "session_id": SESSION, "aborted": true, "state": "function_execute" });
                assert_eq!(reply, expected);
                assert_eq!(outcome.transcript, STOPPED, "before write {fatal}");
            }
            Err(_) => assert_eq!(outcome.transcript, WENT_ON, "before write {fatal}"),
        }
        if !died {
            assert!(fatal > 2, "only {} writes", fatal - 1);
            break;
        }
    }
}

async fn connect(life: &Life) -> Ws {
    let address = life.listens().await;
    Ws::join(address).await
}

/// SIGKILL as soon as the stop was accepted, and as soon as it was asked for.
#[tokio::test]
async fn killed_right_after_a_stop() {
    let (model, seed) = accepted().await;
    for waits in [true, true, true, false, false, false] {
        let place = seed.fork();
        let asked = model.asked("slow");
        let life = place.start();
        place.reaches(is_under_way).await;
        place
            .eventually(|| (model.asked("slow") > asked).then_some(()))
            .await;
        let mut client = connect(&life).await;
        let call = client.begin("run::abort", session()).await;
        if waits {
            let reply = client.result(&call).await;
            assert_eq!(reply["result"]["aborted"], true, "{reply}");
        }
        life.kill();
        place.finish().await;
        let transcript = outcome(&place, &model).await.transcript;
        if waits || transcript != WENT_ON {
            assert_eq!(transcript, STOPPED);
        }
    }
}

#[tokio::test]
async fn killed_right_after_a_stream_was_stopped() {
    let model = Model::answering_first(Some(half("Half an ")), &[]);
    let place = Place::new(&model, ALLOWING);
    place.accept("hello").await;
    let life = place.start();
    place.shows_text().await;
    let mut client = connect(&life).await;
    let reply = client.ok("run::abort", session()).await;
    assert_eq!(reply["state"], "assistant_streaming");
    life.kill();
    let life = place.start();
    life.says(" ready").await;
    life.kill();
    assert_eq!(
        outcome(&place, &model).await.transcript,
        ["user hello", "assistant Half an  (aborted)"]
    );
}

#[tokio::test]
async fn killed_right_after_a_parked_run_was_stopped() {
    let model = Model::new(&[("A", Does::Mark)]);
    let place = Place::new(&model, ASKING);
    place.accept("go").await;
    let life = place.start();
    place
        .reaches(|record| record["state"] == "function_awaiting_approval")
        .await;
    let mut client = connect(&life).await;
    let reply = client.ok("run::abort", session()).await;
    assert_eq!(reply["state"], "function_awaiting_approval");
    life.kill();
    let life = place.start();
    life.says(" ready").await;
    life.kill();
    let outcome = outcome(&place, &model).await;
    assert_eq!(
        outcome.transcript,
        [
            "user go",
            "assistant calls A",
            "result A denied",
            "assistant  (aborted)"
        ]
    );
    assert_eq!(outcome.marks, Vec::<String>::new());
}
