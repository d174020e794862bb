//! Jobs that fail, and what becomes of them.

use pretty_assertions::assert_eq;
use serde_json::json;

use super::{controlled, define, enqueue, fifo, next, stats, until};
use crate::support::engine::{Engine, within};

#[tokio::test]
async fn c00_case_29_a_failed_job_goes_before_its_successors() {
    let engine = Engine::memory().await;
    fifo(&engine, json!({})).await;
    let mut attempts = controlled(&engine, "t::f");
    for n in [1, 2] {
        enqueue(&engine, "line", "t::f", json!({"g": "A", "n": n})).await;
    }
    for _ in 0..2 {
        let attempt = next(&mut attempts).await;
        assert_eq!(attempt.payload["n"], 1);
        attempt.fail("not yet");
    }
    let third = next(&mut attempts).await;
    assert_eq!(third.payload["n"], 1);
    third.succeed();
    let successor = next(&mut attempts).await;
    assert_eq!(successor.payload["n"], 2);
    successor.succeed();
    until(&engine, "line", (0, 0)).await;
}

#[tokio::test]
async fn attempts_end_as_a_dead_letter_that_can_be_driven_again() {
    let engine = Engine::memory().await;
    define(&engine, "q", json!({"max_retries": 2, "backoff_ms": 1})).await;
    let mut attempts = controlled(&engine, "t::f");
    let receipt = enqueue(&engine, "q", "t::f", json!({"n": 1})).await;
    next(&mut attempts).await.fail("first");
    next(&mut attempts).await.fail("second");
    until(&engine, "q", (0, 1)).await;
    let letters = engine
        .ok("engine::queue::dlq_messages", json!({"topic": "q"}))
        .await;
    assert_eq!(
        letters,
        json!([{"id": receipt, "payload": {"n": 1}, "error": "second", "failed_at": 1_780_000_000, "retries": 2,
            "size_bytes": 7}])
    );
    assert_eq!(
        engine.ok("engine::queue::dlq_topics", json!({})).await,
        json!([{"topic": "q", "broker_type": "builtin", "message_count": 1}])
    );
    assert_eq!(
        engine
            .ok("engine::queue::dlq_messages", json!({"topic": "q", "offset": 1}))
            .await,
        json!([])
    );

    let again = engine.ok("iii::queue::redrive", json!({"queue": "q"})).await;
    assert_eq!(again, json!({"queue": "q", "redriven": 1}));
    next(&mut attempts).await.fail("third");
    next(&mut attempts).await.fail("fourth");
    until(&engine, "q", (0, 1)).await;

    let one = json!({"queue": "q", "message_id": receipt});
    let answer = |redriven: u8| json!({"queue": "q", "message_id": receipt, "redriven": redriven});
    assert_eq!(
        engine.ok("iii::queue::redrive_message", one.clone()).await,
        answer(1)
    );
    assert_eq!(
        engine.ok("iii::queue::redrive_message", one.clone()).await,
        answer(0)
    );
    next(&mut attempts).await.succeed();
    until(&engine, "q", (0, 0)).await;

    enqueue(&engine, "q", "t::f", json!({"n": 2})).await;
    next(&mut attempts).await.fail("a");
    next(&mut attempts).await.fail("b");
    until(&engine, "q", (0, 1)).await;
    let letters = engine
        .ok("engine::queue::dlq_messages", json!({"topic": "q"}))
        .await;
    let two = json!({"queue": "q", "message_id": letters[0]["id"]});
    let answer = |redriven: u8| json!({"queue": "q", "message_id": letters[0]["id"], "redriven": redriven});
    assert_eq!(
        engine.ok("iii::queue::discard_message", two.clone()).await,
        answer(1)
    );
    assert_eq!(engine.ok("iii::queue::discard_message", two).await, answer(0));
    assert_eq!(stats(&engine, "q").await, (0, 0));
}

#[tokio::test]
async fn a_redriven_job_of_a_fifo_queue_goes_to_the_end_of_its_group() {
    let engine = Engine::memory().await;
    fifo(&engine, json!({"max_retries": 1})).await;
    let mut attempts = controlled(&engine, "t::f");
    for n in [1, 2, 3] {
        enqueue(&engine, "line", "t::f", json!({"g": "A", "n": n})).await;
    }
    next(&mut attempts).await.fail("dead");
    let second = next(&mut attempts).await;
    engine.ok("iii::queue::redrive", json!({"queue": "line"})).await;
    let mut order = vec![second.payload["n"].clone()];
    second.succeed();
    for _ in 0..2 {
        let attempt = next(&mut attempts).await;
        order.push(attempt.payload["n"].clone());
        attempt.succeed();
    }
    assert_eq!(order, [2, 3, 1]);
}

#[tokio::test]
async fn a_job_that_takes_too_long_is_cancelled_and_tried_again() {
    let engine = Engine::memory().await;
    define(
        &engine,
        "q",
        json!({"timeout_ms": 20, "backoff_ms": 1, "max_retries": 2}),
    )
    .await;
    let mut attempts = controlled(&engine, "t::f");
    enqueue(&engine, "q", "t::f", json!({})).await;
    let first = next(&mut attempts).await;
    within(first.context.cancelled()).await;
    let second = next(&mut attempts).await;
    within(second.context.cancelled()).await;
    until(&engine, "q", (0, 1)).await;
    let letters = engine
        .ok("engine::queue::dlq_messages", json!({"topic": "q"}))
        .await;
    assert_eq!(letters[0]["error"], "t::f timed out after 20 ms");
}
