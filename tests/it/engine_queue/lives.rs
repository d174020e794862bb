//! Jobs outlive the process.

use std::path::Path;
use std::time::Duration;

use harness::bus::embedded::EmbeddedOptions;
use pretty_assertions::assert_eq;
use serde_json::json;

use super::{controlled, define, enqueue, fifo, next, stats, until};
use crate::support::engine::{Engine, within};

/// What a killed process would leave behind: the files as they are while everything runs.
fn crash_image(directory: &Path) -> tempfile::TempDir {
    let image = tempfile::tempdir().unwrap();
    for name in ["harness.db", "harness.db-wal"] {
        std::fs::copy(directory.join(name), image.path().join(name)).unwrap();
    }
    image
}

#[tokio::test]
async fn c00_case_31_a_killed_process_redelivers_once_and_keeps_what_waits() {
    let home = tempfile::tempdir().unwrap();
    let first = Engine::at(home.path().into()).await;
    fifo(&first, json!({"max_retries": 1})).await;
    let mut attempts = controlled(&first, "t::f");
    for n in [1, 2] {
        enqueue(&first, "line", "t::f", json!({"g": "A", "n": n})).await;
    }
    let running = next(&mut attempts).await;
    assert_eq!(running.payload["n"], 1);
    let image = crash_image(home.path());

    let second = Engine::at(image.path().into()).await;
    let mut calls = second.record("t::f");
    for n in [1, 2] {
        assert_eq!(calls.next().await, json!({"g": "A", "n": n}));
    }
    until(&second, "line", (0, 0)).await;
    assert!(calls.is_empty());
    second.stop().await;

    let third = Engine::at(image.path().into()).await;
    assert_eq!(stats(&third, "line").await, (0, 0));
    running.succeed();
}

#[tokio::test]
async fn a_job_that_ends_too_many_processes_is_a_dead_letter() {
    let mut home = tempfile::tempdir().unwrap();
    let engine = Engine::at(home.path().into()).await;
    let receipt = enqueue(&engine, "default", "t::f", json!({"n": 1})).await;
    engine.stop().await;
    let mut lives = 0;
    let letters = loop {
        let engine = Engine::at(home.path().into()).await;
        let mut attempts = controlled(&engine, "t::f");
        let letters = engine
            .ok("engine::queue::dlq_messages", json!({"topic": "default"}))
            .await;
        if letters != json!([]) {
            break letters;
        }
        let running = next(&mut attempts).await;
        // The mark of a running job is written beside it; a later write comes after it.
        engine.set("s", "k", json!(1)).await;
        lives += 1;
        let image = crash_image(home.path());
        running.succeed();
        engine.stop().await;
        home = image;
    };
    assert_eq!(lives, 10);
    assert_eq!(letters[0]["id"], json!(receipt));
    assert_eq!(
        letters[0]["error"],
        "the process ended 10 times while the job ran"
    );
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_job_and_spends_no_attempt() {
    let home = tempfile::tempdir().unwrap();
    let first = Engine::at(home.path().into()).await;
    define(&first, "once", json!({"max_retries": 1})).await;
    let mut attempts = controlled(&first, "t::f");
    enqueue(&first, "once", "t::f", json!({"n": 1})).await;
    let running = next(&mut attempts).await;
    assert!(!first.bus.shutdown(Duration::from_millis(1)).await);
    drop((first, running, attempts));

    let second = within(async {
        loop {
            // The directory is free when the last task of the first life has ended.
            let options = EmbeddedOptions {
                data_dir: Some(home.path().into()),
                ..EmbeddedOptions::default()
            };
            match harness::bus::embedded::Embedded::open(options) {
                Ok(opened) => break drop(opened),
                Err(_) => tokio::task::yield_now().await,
            }
        }
        Engine::at(home.path().into()).await
    })
    .await;
    let mut calls = second.record("t::f");
    assert_eq!(calls.next().await, json!({"n": 1}));
    until(&second, "once", (0, 0)).await;
}
