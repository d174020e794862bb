//! Contract 00 §6 on the embedded engine: named queues.

mod definitions;
mod delivery;
mod failures;
mod lives;

use harness::bus::CallContext;
use harness::error::{Error, Result};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::engine::{Engine, within};

async fn define(engine: &Engine, queue: &str, config: Value) {
    let answer = engine
        .ok("queue::define", json!({"queue": queue, "config": config}))
        .await;
    assert_eq!(answer, json!({"queue": queue, "changed": true}));
}

async fn fifo(engine: &Engine, more: Value) {
    let mut config = json!({"type": "fifo", "message_group_field": "g", "backoff_ms": 5});
    config
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    define(engine, "line", config).await;
}

async fn try_enqueue(engine: &Engine, queue: &str, function: &str, data: Value) -> Result<Value> {
    within(engine.bus.enqueue(&CallContext::default(), queue, function, data)).await
}

/// Enqueues; answers the receipt.
async fn enqueue(engine: &Engine, queue: &str, function: &str, data: Value) -> String {
    let answer = try_enqueue(engine, queue, function, data).await.unwrap();
    let receipt = answer["messageReceiptId"].as_str().unwrap().to_owned();
    assert_eq!(answer, json!({"messageReceiptId": receipt}));
    assert_eq!(receipt.len(), 36);
    receipt
}

async fn enqueue_error(engine: &Engine, queue: &str, data: Value) -> (String, String) {
    let error = try_enqueue(engine, queue, "t::f", data).await.unwrap_err();
    (error.wire_code().to_owned(), error.to_string())
}

async fn stats(engine: &Engine, topic: &str) -> (i64, i64) {
    let stats = engine
        .ok("engine::queue::topic_stats", json!({"topic": topic}))
        .await;
    (
        stats["depth"].as_i64().unwrap(),
        stats["dlq_depth"].as_i64().unwrap(),
    )
}

/// Waits until a queue has so many jobs and dead letters.
async fn until(engine: &Engine, topic: &str, wanted: (i64, i64)) {
    within(async {
        while stats(engine, topic).await != wanted {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A function whose calls are seen when they begin and end when they are told how.
fn controlled(engine: &Engine, id: &str) -> mpsc::Receiver<Attempt> {
    let (sender, receiver) = mpsc::channel(1_000);
    engine.serve(id, move |payload, context| {
        let sender = sender.clone();
        async move {
            let (answer, told) = tokio::sync::oneshot::channel();
            sender
                .send(Attempt {
                    payload,
                    context,
                    answer,
                })
                .await
                .unwrap();
            told.await
                .unwrap_or_else(|_| Err(Error::invalid("the test let it go")))
        }
    });
    receiver
}

struct Attempt {
    payload: Value,
    context: CallContext,
    answer: tokio::sync::oneshot::Sender<Result<Value>>,
}

impl Attempt {
    fn succeed(self) {
        self.answer.send(Ok(Value::Null)).unwrap();
    }

    fn fail(self, why: &str) {
        self.answer.send(Err(Error::invalid(why))).unwrap();
    }
}

async fn next(attempts: &mut mpsc::Receiver<Attempt>) -> Attempt {
    within(attempts.recv()).await.unwrap()
}
