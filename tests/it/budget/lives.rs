//! What a killed program had asked of a model is paid once (field lesson B4).

use harness::bus::Write;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::runs::{budget, costs, half, numbers, rig, shows_text, start};
use crate::support::TestOptions;
use crate::support::spy::{Op, Spy};
use crate::support::stub::{Door, Out, says};
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
