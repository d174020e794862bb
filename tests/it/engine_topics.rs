//! Contract 00 §6.5 on the embedded engine: durable topics.

use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::engine::{Engine, within};

async fn publish(engine: &Engine, data: Value) {
    let answer = engine
        .ok("iii::durable::publish", json!({"topic": "t", "data": data}))
        .await;
    assert_eq!(answer, Value::Null);
}

async fn stats(engine: &Engine) -> Value {
    engine
        .ok("engine::queue::topic_stats", json!({"topic": "t"}))
        .await
}

async fn until_depth(engine: &Engine, depth: i64, dead: i64) {
    within(async {
        loop {
            let stats = stats(engine).await;
            if stats["depth"] == depth && stats["dlq_depth"] == dead {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn each_function_gets_its_own_copy() {
    let engine = Engine::memory().await;
    let mut a = engine
        .watch("t::a", "durable:subscriber", json!({"topic": "t"}))
        .await;
    let mut b = engine
        .watch("t::b", "durable:subscriber", json!({"topic": "t"}))
        .await;
    // A second binding of the same function is the same subscriber.
    engine
        .bind("again", "durable:subscriber", "t::a", json!({"topic": "t"}))
        .await
        .unwrap();
    let mut other = engine
        .watch("t::c", "durable:subscriber", json!({"topic": "u"}))
        .await;
    publish(&engine, json!({"n": 1})).await;
    publish(&engine, json!("two")).await;
    for calls in [&mut a, &mut b] {
        let mut seen = [calls.next().await, calls.next().await];
        seen.sort_by_key(Value::to_string);
        assert_eq!(seen, [json!("two"), json!({"n": 1})]);
    }
    until_depth(&engine, 0, 0).await;
    assert!(a.is_empty() && b.is_empty());
    engine
        .ok("iii::durable::publish", json!({"topic": "u", "data": 3}))
        .await;
    assert_eq!(other.next().await, json!(3));
    assert_eq!(
        engine.ok("engine::queue::list_topics", json!({})).await,
        json!([{"subscriber_count": 2, "broker_type": "builtin", "name": "t"},
            {"subscriber_count": 1, "broker_type": "builtin", "name": "u"}])
    );
}

#[tokio::test]
async fn messages_before_any_subscription_stay_under_the_bare_topic() {
    let engine = Engine::memory().await;
    publish(&engine, json!(1)).await;
    assert_eq!(
        stats(&engine).await,
        json!({"depth": 1, "consumer_count": 0, "dlq_depth": 0, "config": null})
    );
    let mut calls = engine
        .watch("t::a", "durable:subscriber", json!({"topic": "t"}))
        .await;
    publish(&engine, json!(2)).await;
    assert_eq!(calls.next().await, json!(2));
    until_depth(&engine, 1, 0).await;
    assert!(calls.is_empty());
}

#[tokio::test]
async fn what_nobody_will_ever_get_is_bounded() {
    let engine = Engine::memory().await;
    for n in 0..1_003 {
        publish(&engine, json!(n)).await;
    }
    assert_eq!(stats(&engine).await["depth"], 1_000);
}

#[tokio::test]
async fn a_fifo_subscriber_gets_messages_in_order_and_failed_ones_first() {
    let engine = Engine::memory().await;
    let (sender, mut seen) = tokio::sync::mpsc::channel(100);
    engine.serve("t::a", move |payload, _| {
        let sent = sender.try_send(payload.clone());
        assert!(sent.is_ok());
        std::future::ready(if payload == json!(2) {
            Err(Error::invalid("two"))
        } else {
            Ok(Value::Null)
        })
    });
    let config =
        json!({"topic": "t", "queue_config": {"type": "fifo", "maxRetries": 1, "backoffDelayMs": 1}});
    engine
        .bind("b", "durable:subscriber", "t::a", config)
        .await
        .unwrap();
    for n in 1..=4 {
        publish(&engine, json!(n)).await;
    }
    let mut order = Vec::new();
    while order.len() < 5 {
        order.push(within(seen.recv()).await.unwrap());
    }
    assert_eq!(order, [1, 2, 2, 3, 4]);
    until_depth(&engine, 0, 1).await;
    assert_eq!(
        stats(&engine).await["config"],
        json!({"t::a": {"type": "fifo", "max_retries": 2, "concurrency": 10, "backoff_ms": 1, "timeout_ms": 1_800_000,
            "message_group_field": null}})
    );
    let letters = engine
        .ok("engine::queue::dlq_messages", json!({"topic": "t"}))
        .await;
    assert_eq!(letters[0]["payload"], json!(2));
    assert_eq!(
        engine.ok("iii::queue::redrive", json!({"queue": "t"})).await,
        json!({"queue": "t", "redriven": 1})
    );
    assert_eq!(within(seen.recv()).await, Some(json!(2)));
}

#[tokio::test]
async fn a_condition_keeps_a_message_away() {
    let engine = Engine::memory().await;
    engine.serve("t::odd", |payload, _| {
        std::future::ready(match payload.as_i64() {
            Some(n) if n % 2 == 0 => Ok(json!(false)),
            _ => Ok(Value::Null),
        })
    });
    let config = json!({"topic": "t", "condition_function_id": "t::odd", "queue_config": {"type": "fifo"}});
    let mut calls = engine.watch("t::a", "durable:subscriber", config).await;
    for n in 1..=3 {
        publish(&engine, json!(n)).await;
    }
    assert_eq!([calls.next().await, calls.next().await], [1, 3]);
    until_depth(&engine, 0, 0).await;
}

#[tokio::test]
async fn messages_wait_for_their_subscriber_across_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let engine = Engine::at(home.path().into()).await;
    engine
        .bind("b", "durable:subscriber", "t::a", json!({"topic": "t"}))
        .await
        .unwrap();
    publish(&engine, json!(1)).await;
    engine.stop().await;

    let engine = Engine::at(home.path().into()).await;
    let calls = engine.record("t::a");
    until_depth(&engine, 1, 0).await;
    assert!(calls.is_empty(), "nobody has subscribed in this life");
    engine
        .bind("b", "durable:subscriber", "t::a", json!({"topic": "t"}))
        .await
        .unwrap();
    let mut calls = calls;
    assert_eq!(calls.next().await, json!(1));
    until_depth(&engine, 0, 0).await;
}

#[tokio::test]
async fn an_unbound_function_keeps_what_it_has_and_gets_no_more() {
    let engine = Engine::memory().await;
    engine
        .bind("b", "durable:subscriber", "t::late", json!({"topic": "t"}))
        .await
        .unwrap();
    publish(&engine, json!(1)).await;
    assert!(engine.embedded.unbind("b"));
    publish(&engine, json!(2)).await;
    let mut calls = engine.record("t::late");
    engine
        .bind("b", "durable:subscriber", "t::late", json!({"topic": "t"}))
        .await
        .unwrap();
    assert_eq!(calls.next().await, json!(1));
    until_depth(&engine, 1, 0).await;
    assert!(calls.is_empty());
}

#[tokio::test]
async fn wrong_requests_and_bindings_are_refused() {
    let engine = Engine::memory().await;
    assert_eq!(
        engine
            .error("iii::durable::publish", json!({"topic": "", "data": 1}))
            .await
            .0,
        "topic_not_set"
    );
    assert_eq!(
        engine.error("iii::durable::publish", json!({"data": 1})).await,
        (
            "deserialization_error".to_owned(),
            "Failed to deserialize input for iii::durable::publish: missing field `topic`".to_owned()
        )
    );
    for (config, text) in [
        (json!({}), "config: topic is required"),
        (json!({"topic": 1}), "config: topic must be a string"),
        (
            json!({"topic": "t", "queue_config": {"type": "x"}}),
            "config: queue_config: type: unknown queue type 'x'",
        ),
    ] {
        let error = engine
            .bind("b", "durable:subscriber", "t::a", config)
            .await
            .unwrap_err();
        assert_eq!(
            (error.wire_code(), error.to_string().as_str()),
            ("trigger_registration_failed", text)
        );
    }
}
