//! Jobs find their functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::bus::embedded::EmbeddedOptions;
use harness::bus::embedded::peer::Link;
use harness::bus::{Baggage, CallContext, CallFuture, FunctionInfo, Invocation};
use harness::config::MapEnv;
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::{Barrier, Notify, mpsc};

use super::{Attempt, controlled, define, enqueue, enqueue_error, fifo, next, stats, until};
use crate::support::engine::{Engine, within};
use crate::support::timed::{Frozen, timed_engine};

#[tokio::test]
async fn a_job_gets_its_data_and_its_writers_trace() {
    let engine = Engine::memory().await;
    let mut calls = engine.record("t::f");
    let context = CallContext {
        baggage: Baggage {
            session_id: Some("s1".into()),
            message_id: Some("m1".into()),
            others: None,
        },
        metadata: Some(Arc::new(json!({"k": 1}))),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        cancel: None,
        batch: None,
    };
    let data = json!({"b": 1, "a": [null], "_caller_worker_id": "w"});
    engine
        .bus
        .enqueue(&context, "default", "t::f", data)
        .await
        .unwrap();
    let (payload, seen) = calls.next_with_context().await;
    assert_eq!(payload, json!({"b": 1, "a": [null]}));
    assert_eq!(seen.baggage, context.baggage);
    assert_eq!(seen.traceparent, context.traceparent);
    assert_eq!(seen.metadata, None);
    until(&engine, "default", (0, 0)).await;
    for data in [json!(7), json!("x"), Value::Null] {
        enqueue(&engine, "default", "t::f", data.clone()).await;
        assert_eq!(calls.next().await, data);
    }
}

#[tokio::test]
async fn c00_case_27_wrong_enqueues_are_refused() {
    let engine = Engine::memory().await;
    fifo(&engine, json!({})).await;
    let code = |text: &str| ("enqueue_error".to_owned(), text.to_owned());
    assert_eq!(
        enqueue_error(&engine, "line", json!({"x": 1})).await,
        code("FIFO queue 'line' requires field 'g' in data, but it was not found")
    );
    assert_eq!(
        enqueue_error(&engine, "line", json!({"g": null})).await,
        code("FIFO queue 'line': field 'g' must not be null")
    );
    assert_eq!(
        enqueue_error(&engine, "nope", json!({})).await,
        code("Queue 'nope' not found")
    );
    assert_eq!(stats(&engine, "line").await, (0, 0));
    assert_eq!(stats(&engine, "nope").await, (0, 0));
}

#[tokio::test]
async fn c00_case_28_groups_run_side_by_side_and_each_in_order() {
    let engine = Engine::memory().await;
    fifo(&engine, json!({})).await;
    // Nobody passes the barrier alone: the first jobs of both groups must run at the same time, and so the second ones.
    let barrier = Arc::new(Barrier::new(2));
    let (sender, mut order) = mpsc::channel(10);
    engine.serve("t::f", move |payload, _| {
        let (barrier, sender) = (Arc::clone(&barrier), sender.clone());
        async move {
            barrier.wait().await;
            sender.send(payload).await.unwrap();
            Ok(Value::Null)
        }
    });
    for (group, n) in [("A", 1), ("A", 2), ("B", 1), ("B", 2)] {
        enqueue(&engine, "line", "t::f", json!({"g": group, "n": n})).await;
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(within(order.recv()).await.unwrap());
    }
    let of = |group: &str| -> Vec<Value> {
        seen.iter()
            .filter(|job| job["g"] == group)
            .map(|job| job["n"].clone())
            .collect()
    };
    assert_eq!(of("A"), [1, 2]);
    assert_eq!(of("B"), [1, 2]);
    until(&engine, "line", (0, 0)).await;
}

#[tokio::test]
async fn c00_case_30_delivery_waits_for_no_timer() {
    let engine = timed_engine(EmbeddedOptions::default(), MapEnv::default()).await;
    let _frozen = Frozen::start();
    let before = tokio::time::Instant::now();
    let mut calls = engine.record("t::f");
    fifo(&engine, json!({})).await;
    for n in 0..20 {
        for queue in ["default", "line"] {
            enqueue(&engine, queue, "t::f", json!({"g": "A", "n": n, "q": queue})).await;
            assert_eq!(calls.next().await, json!({"g": "A", "n": n, "q": queue}));
        }
    }
    assert_eq!(tokio::time::Instant::now(), before);
}

#[tokio::test]
async fn without_its_function_a_job_waits_and_spends_no_attempt() {
    let engine = Engine::memory().await;
    define(&engine, "q", json!({"max_retries": 1})).await;
    enqueue(&engine, "q", "t::late", json!({"n": 1})).await;
    // Others are not held up.
    let mut others = engine.record("t::here");
    enqueue(&engine, "q", "t::here", json!({"n": 2})).await;
    assert_eq!(others.next().await, json!({"n": 2}));
    until(&engine, "q", (1, 0)).await;
    let mut calls = engine.record("t::late");
    assert_eq!(calls.next().await, json!({"n": 1}));
    until(&engine, "q", (0, 0)).await;
}

struct Worker(mpsc::Sender<Value>);

impl Link for Worker {
    fn call(&self, invocation: Invocation) -> CallFuture {
        let sent = self.0.try_send(invocation.payload).map(|()| Value::Null);
        Box::pin(std::future::ready(
            sent.map_err(|error| Error::Unavailable(error.to_string())),
        ))
    }
}

#[tokio::test]
async fn an_outside_function_that_registers_wakes_its_jobs_without_a_timer() {
    let engine = timed_engine(EmbeddedOptions::default(), MapEnv::default()).await;
    let _frozen = Frozen::start();
    enqueue(&engine, "default", "w::f", json!({"n": 1})).await;
    until(&engine, "default", (1, 0)).await;
    let (sender, mut calls) = mpsc::channel(10);
    let worker = engine.embedded.connect(Arc::new(Worker(sender)));
    let function = FunctionInfo {
        id: "w::f".into(),
        description: String::new(),
        request_schema: None,
        response_schema: None,
        metadata: None,
    };
    worker.register_function(function, 0);
    assert_eq!(within(calls.recv()).await, Some(json!({"n": 1})));
    until(&engine, "default", (0, 0)).await;
}

#[tokio::test]
async fn a_standard_queue_keeps_its_concurrency() {
    let engine = Engine::memory().await;
    define(&engine, "q", json!({"concurrency": 2})).await;
    let mut attempts = controlled(&engine, "t::f");
    let most = Arc::new(AtomicUsize::new(0));
    for n in 0..6 {
        enqueue(&engine, "q", "t::f", json!({"n": n})).await;
    }
    let mut open = Vec::new();
    let mut seen = Vec::new();
    while seen.len() < 6 {
        let attempt = next(&mut attempts).await;
        seen.push(attempt.payload["n"].as_i64().unwrap());
        open.push(attempt);
        most.fetch_max(open.len(), Ordering::Relaxed);
        if open.len() == 2 {
            // A third one would have come before this answer: it is one more trip through the same store.
            stats(&engine, "q").await;
            assert!(attempts.is_empty());
            open.remove(0).succeed();
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
    assert_eq!(most.load(Ordering::Relaxed), 2);
    open.into_iter().for_each(Attempt::succeed);
    until(&engine, "q", (0, 0)).await;
}

#[tokio::test]
async fn a_receipt_of_the_callers_own_makes_an_enqueue_repeatable() {
    let engine = Engine::memory().await;
    let request = json!({"queue": "default", "function_id": "t::f", "data": {"n": 1}, "messageReceiptId": "r-1",
        "traceparent": null, "baggage": "iii.session.id=s1"});
    for _ in 0..2 {
        assert_eq!(
            engine.ok("engine::queue::enqueue", request.clone()).await,
            json!({"messageReceiptId": "r-1"})
        );
    }
    let mut calls = engine.record("t::f");
    let (payload, context) = calls.next_with_context().await;
    assert_eq!(payload, json!({"n": 1}));
    assert_eq!(context.baggage.session_id.as_deref(), Some("s1"));
    until(&engine, "default", (0, 0)).await;
    assert!(calls.is_empty());
}

#[tokio::test]
async fn a_burst_is_worked_off_once_each() {
    let engine = Engine::memory().await;
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let done = Arc::new(Notify::new());
    let (kept, told) = (Arc::clone(&seen), Arc::clone(&done));
    engine.serve("t::f", move |payload, _| {
        let mut seen = kept.lock().unwrap();
        seen.push(payload["n"].as_i64().unwrap());
        if seen.len() == 500 {
            told.notify_one();
        }
        std::future::ready(Ok(Value::Null))
    });
    let context = CallContext::default();
    let jobs = (0..500).map(|n| engine.bus.enqueue(&context, "default", "t::f", json!({"n": n})));
    within(futures::future::try_join_all(jobs)).await.unwrap();
    within(done.notified()).await;
    until(&engine, "default", (0, 0)).await;
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, (0..500).collect::<Vec<i64>>());
}
