//! Contract 00 §10 on the embedded engine: `publish` and `subscribe`.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::engine::{Engine, within};

#[tokio::test]
async fn every_subscriber_of_the_topic_gets_the_data_as_it_is() {
    let engine = Engine::memory().await;
    let mut a = engine.watch("t::a", "subscribe", json!({"topic": "t"})).await;
    let mut b = engine.watch("t::b", "subscribe", json!({"topic": "t"})).await;
    let c = engine.watch("t::c", "subscribe", json!({"topic": "u"})).await;
    for data in [json!({"n": 1}), json!("x"), Value::Null] {
        assert_eq!(
            engine.ok("publish", json!({"topic": "t", "data": data})).await,
            Value::Null
        );
        assert_eq!(a.next().await, data);
        assert_eq!(b.next().await, data);
    }
    assert!(c.is_empty());
}

#[tokio::test]
async fn taking_one_subscriber_away_leaves_the_others() {
    let engine = Engine::memory().await;
    let a = engine.watch("t::a", "subscribe", json!({"topic": "t"})).await;
    let mut b = engine.watch("t::b", "subscribe", json!({"topic": "t"})).await;
    assert!(engine.embedded.unbind("t::a"));
    engine.ok("publish", json!({"topic": "t", "data": 1})).await;
    assert_eq!(b.next().await, json!(1));
    assert!(a.is_empty());
}

#[tokio::test]
async fn condition_and_metadata_do_not_count() {
    let engine = Engine::memory().await;
    engine.serve("t::no", |_, _| std::future::ready(Ok(json!(false))));
    let mut calls = engine.record("t::a");
    let config = json!({"topic": "t", "condition_function_id": "t::no"});
    engine
        .bind_with("b", "subscribe", "t::a", config, Some(json!({"m": 1})))
        .await
        .unwrap();
    engine.ok("publish", json!({"topic": "t", "data": 1})).await;
    let (payload, context) = calls.next_with_context().await;
    assert_eq!((payload, context.metadata), (json!(1), None));
}

#[tokio::test]
async fn a_subscriber_that_hangs_holds_up_nobody_and_is_bounded() {
    let engine = Engine::memory().await;
    let (sender, mut begun) = mpsc::channel(2_000);
    engine.serve("t::hangs", move |_, _| {
        sender.try_send(()).unwrap();
        std::future::pending()
    });
    engine
        .bind("h", "subscribe", "t::hangs", json!({"topic": "t"}))
        .await
        .unwrap();
    let mut calls = engine.watch("t::a", "subscribe", json!({"topic": "t"})).await;
    for n in 0..1_030 {
        engine.ok("publish", json!({"topic": "t", "data": n})).await;
        assert_eq!(calls.next().await, json!(n));
    }
    for _ in 0..1_024 {
        within(begun.recv()).await.unwrap();
    }
    assert!(begun.is_empty());
    assert_eq!(engine.embedded.dropped_events(), 6);
}

#[tokio::test]
async fn wrong_requests_and_bindings_are_refused() {
    let engine = Engine::memory().await;
    assert_eq!(
        engine.error("publish", json!({"topic": "", "data": 1})).await,
        ("topic_not_set".to_owned(), "Topic is not set".to_owned())
    );
    assert_eq!(
        engine.error("publish", json!({"topic": "t"})).await.0,
        "deserialization_error"
    );
    let error = engine
        .bind("b", "subscribe", "t::a", json!({}))
        .await
        .unwrap_err();
    assert_eq!(
        (error.wire_code(), error.to_string().as_str()),
        ("trigger_registration_failed", "config: topic is required")
    );
}
