//! Random histories of two sessions against a small model: start, push, decide (also wrongly, too early, too late, twice),
//! change of settings, stop, wakes delivered again, death at any moment. On an engine that is ours alone and takes commits
//! whole, and on one that others write to as well and that takes single writes.
//!
//! `INTERLEAVE_SEEDS=10000 cargo test --test it interleave` plays more of them, `INTERLEAVE_FROM` others. A history that
//! fails is told with its seed, shortened to what is needed.

mod judge;
mod ops;
mod play;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use harness::config::{Env, ProcessEnv};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use ops::Op;

use crate::matrix::line::Line;

const SEEDS: u64 = 200;
/// Histories played side by side.
const SIDE_BY_SIDE: usize = 4;
/// A shortened history must fail within so many attempts: a few moments are a matter of luck.
const ATTEMPTS: usize = 3;

fn number(name: &str) -> Option<u64> {
    ProcessEnv.var(name).map(|text| text.parse().unwrap())
}

/// Why a history fails.
fn failure(history: &[Op], line: fn() -> Line) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| play::play(history, line()))).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .or_else(|| Some("a panic without words".to_owned()))
}

/// Takes away what a failing history does not need in order to fail.
fn shortened(mut history: Vec<Op>, mut why: String, line: fn() -> Line) -> (Vec<Op>, String) {
    let mut place = history.len();
    while place > 0 {
        place -= 1;
        let mut shorter = history.clone();
        shorter.remove(place);
        if let Some(still) = (0..ATTEMPTS).find_map(|_| failure(&shorter, line)) {
            (history, why) = (shorter, still);
        }
    }
    (history, why)
}

/// The story of a failure, if the seed has one.
fn check(seed: u64, line: fn() -> Line) -> Option<String> {
    let history = ops::history(seed);
    let why = failure(&history, line)?;
    let (history, why) = shortened(history, why, line);
    let lines: Vec<String> = history.iter().map(|op| format!("    {op:?},")).collect();
    Some(format!("seed {seed}: {why}\n{}", lines.join("\n")))
}

async fn every_promise_holds(line: fn() -> Line) {
    let from = number("INTERLEAVE_FROM").unwrap_or(0);
    let turns = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let (mut playing, mut failed) = (JoinSet::new(), Vec::new());
    for seed in from..from + number("INTERLEAVE_SEEDS").unwrap_or(SEEDS) {
        let turn = Arc::clone(&turns).acquire_owned().await.unwrap();
        playing.spawn_blocking(move || {
            let story = check(seed, line);
            drop(turn);
            story
        });
        while let Some(ended) = playing.try_join_next() {
            failed.extend(ended.unwrap());
        }
        if !failed.is_empty() {
            break;
        }
    }
    failed.extend(playing.join_all().await.into_iter().flatten());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_histories_keep_every_promise() {
    every_promise_holds(Line::default).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_histories_on_a_shared_engine() {
    every_promise_holds(Line::shared).await;
}
