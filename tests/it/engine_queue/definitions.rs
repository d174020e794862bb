//! Which queues there are, and requests that name none.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{define, enqueue, enqueue_error};
use crate::support::engine::Engine;

#[tokio::test]
async fn a_definition_is_idempotent_and_survives() {
    let home = tempfile::tempdir().unwrap();
    let engine = Engine::at(home.path().into()).await;
    let config = json!({"type": "fifo", "message_group_field": "g", "concurrency": 4});
    define(&engine, "mine", config.clone()).await;
    assert_eq!(
        engine
            .ok("queue::define", json!({"queue": "mine", "config": config}))
            .await,
        json!({"queue": "mine", "changed": false})
    );
    engine.stop().await;

    let engine = Engine::at(home.path().into()).await;
    assert_eq!(
        engine
            .ok("engine::queue::topic_stats", json!({"topic": "mine"}))
            .await,
        json!({"depth": 0, "consumer_count": 1, "dlq_depth": 0, "config": {"type": "fifo", "max_retries": 3,
            "concurrency": 4, "backoff_ms": 1000, "timeout_ms": 1_800_000, "message_group_field": "g"}})
    );
    assert_eq!(
        engine.ok("configuration::get", json!({"id": "queue"})).await,
        json!({"id": "queue", "value": {"queue_configs": {"mine": config}}})
    );
}

#[tokio::test]
async fn queues_follow_their_configuration() {
    let engine = Engine::memory().await;
    let declare = |configs: Value| json!({"id": "queue", "value": {"queue_configs": configs}});
    engine
        .ok(
            "configuration::set",
            declare(json!({"a": {}, "default": {"concurrency": 1}})),
        )
        .await;
    let mut calls = engine.record("t::f");
    enqueue(&engine, "a", "t::f", json!(1)).await;
    assert_eq!(calls.next().await, json!(1));
    enqueue(&engine, "a", "t::late", json!(2)).await;
    engine.ok("configuration::set", declare(json!({}))).await;
    assert_eq!(
        enqueue_error(&engine, "a", json!({})).await,
        ("enqueue_error".to_owned(), "Queue 'a' not found".to_owned())
    );
    let mut late = engine.record("t::late");
    enqueue(&engine, "default", "t::f", json!(3)).await;
    assert_eq!(calls.next().await, json!(3));
    assert!(late.is_empty());
    engine.ok("configuration::set", declare(json!({"a": {}}))).await;
    assert_eq!(late.next().await, json!(2));
    assert_eq!(
        engine
            .error("configuration::set", declare(json!({"f": {"type": "fifo"}})))
            .await
            .0,
        "SCHEMA_INVALID"
    );
}

#[tokio::test]
async fn wrong_requests_have_their_codes() {
    let engine = Engine::memory().await;
    let cases = [
        ("engine::queue::topic_stats", json!({}), "topic_required"),
        (
            "engine::queue::dlq_messages",
            json!({"topic": ""}),
            "topic_required",
        ),
        ("engine::queue::topic_stats", json!(null), "deserialization_error"),
        ("iii::queue::redrive", json!({}), "queue_not_set"),
        ("iii::queue::redrive", json!({"queue": "nope"}), "redrive_failed"),
        (
            "iii::queue::redrive_message",
            json!({"queue": "q"}),
            "message_id_not_set",
        ),
        (
            "iii::queue::discard_message",
            json!({"message_id": "m"}),
            "queue_not_set",
        ),
        (
            "queue::define",
            json!({"queue": "", "config": {}}),
            "queue_not_set",
        ),
        ("queue::define", json!({"queue": "q"}), "deserialization_error"),
        (
            "queue::define",
            json!({"queue": "q", "config": {"type": "fifo"}}),
            "SCHEMA_INVALID",
        ),
        (
            "queue::define",
            json!({"queue": "q", "config": {"concurrency": 0}}),
            "SCHEMA_INVALID",
        ),
    ];
    for (id, request, code) in cases {
        assert_eq!(engine.error(id, request.clone()).await.0, code, "{id} {request}");
    }
}
