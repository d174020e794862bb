//! Contract 00 §6 on the embedded engine: named queues.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::bus::embedded::EmbeddedOptions;
use harness::bus::embedded::peer::Link;
use harness::bus::{Baggage, CallContext, CallFuture, FunctionInfo, Invocation};
use harness::config::MapEnv;
use harness::error::{Error, Result};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::{Barrier, Notify, mpsc};

use crate::support::engine::{Engine, within};
use crate::support::timed::{Frozen, timed_engine};

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
