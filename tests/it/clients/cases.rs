//! Acceptance cases of the bus with the official Rust SDK, against an engine of this process.

use std::time::Duration;

use iii_sdk::channel::ChannelReader;
use iii_sdk::errors::Error;
use iii_sdk::protocol::{TriggerAction, TriggerRequest};
use iii_sdk::{RegisterFunction, helpers};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::worker::{Worker, bytes, failure};
use crate::listener::Open;
use crate::support::engine::within;

impl Worker {
    fn at(open: &Open, name: &str) -> Self {
        Self::join(&format!("ws://{}", open.address), name)
    }

    async fn void(&self, id: &str, payload: Value) {
        let call = TriggerRequest {
            action: Some(TriggerAction::Void),
            ..TriggerRequest::new(id, payload)
        };
        assert_eq!(self.sdk.trigger(call).await.unwrap(), Value::Null);
    }

    async fn enqueue(&self, queue: &str, id: &str, payload: Value) -> Result<Value, Error> {
        let queue = queue.to_owned();
        let call = TriggerRequest {
            action: Some(TriggerAction::Enqueue { queue }),
            ..TriggerRequest::new(id, payload)
        };
        within(self.sdk.trigger(call)).await
    }
}

#[tokio::test]
async fn c00_case_04_05_06_answers_without_a_value() {
    let open = Open::start().await;
    let worker = Worker::at(&open, "w");
    worker.void("no::such", json!({})).await;
    assert_eq!(
        worker.error("no::such", json!({})).await,
        json!({ "code": "function_not_found", "message": "Function no::such not found" })
    );
    let missing = json!({ "scope": "demo", "key": "k1" });
    assert_eq!(worker.ok("state::get", missing).await, Value::Null);
    assert_eq!(
        worker.error("state::set", json!({ "scope": "x" })).await,
        json!({
            "code": "deserialization_error",
            "message": "Failed to deserialize input for state::set: missing field `key`",
        })
    );
    worker.leave().await;
}

#[tokio::test]
async fn c00_case_07_13_state_and_its_events() {
    let open = Open::start().await;
    let worker = Worker::at(&open, "w");
    let mut events = worker.record("w::on");
    worker.bind("state", "w::on", json!({ "scope": "d" }));
    let key = json!({ "scope": "d", "key": "k" });
    let set = |key: &str, value: u8| json!({ "scope": "d", "key": key, "value": value });
    assert_eq!(
        worker.ok("state::set", set("k", 1)).await,
        json!({ "old_value": null, "new_value": 1 })
    );
    worker.ok("state::set", set("k", 2)).await;
    assert_eq!(worker.ok("state::delete", key.clone()).await, json!(2));
    assert_eq!(worker.ok("state::delete", key).await, Value::Null);
    for (kind, old, new) in [
        ("created", json!(null), json!(1)),
        ("updated", json!(1), json!(2)),
        ("deleted", json!(2), json!(null)),
        ("deleted", json!(null), json!(null)),
    ] {
        let event = events.next().await;
        assert_eq!(
            event,
            json!({
                "type": "state", "event_type": format!("state:{kind}"), "scope": "d", "key": "k", "old_value": old,
                "new_value": new,
            })
        );
    }
    worker.ok("state::set", set("b", 1)).await;
    worker.ok("state::set", set("a", 2)).await;
    let list = worker.ok("state::list", json!({ "scope": "d" })).await;
    assert_eq!(list, json!([1, 2]));
    let unknown = worker.ok("state::list", json!({ "scope": "none" })).await;
    assert_eq!(unknown, json!([]));
    worker.leave().await;
}

#[tokio::test]
async fn c00_case_14_15_16_17_18_streams_and_their_events() {
    const BURST: usize = 5000;
    let open = Open::start().await;
    let worker = Worker::at(&open, "w");
    let mut events = worker.record("w::on");
    // Without a name: refused, and everything else goes on.
    worker.bind("stream", "w::on", json!({ "group_id": "g" }));
    worker.bind("stream", "w::on", json!({ "stream_name": "s", "group_id": "g" }));
    let item = |data: Value| json!({ "stream_name": "s", "group_id": "g", "item_id": "i", "data": data });
    worker.ok("stream::set", item(json!("a"))).await;
    worker.ok("stream::set", item(json!("b"))).await;
    let sent = json!({ "stream_name": "s", "group_id": "g", "type": "delta", "data": "c" });
    assert_eq!(worker.ok("stream::send", sent).await, Value::Null);
    let missing = json!({ "stream_name": "s", "group_id": "g", "item_id": "none" });
    assert_eq!(
        worker.ok("stream::delete", missing).await,
        json!({ "old_value": null })
    );
    for (id, event) in [
        (json!("i"), json!({ "type": "create", "data": "a" })),
        (json!("i"), json!({ "type": "update", "data": "b" })),
        (
            json!(null),
            json!({ "type": "event", "event": { "type": "delta", "data": "c" } }),
        ),
    ] {
        let mut seen = events.next().await;
        assert!(seen["timestamp"].take().is_i64());
        assert_eq!(
            seen,
            json!({
                "type": "stream", "timestamp": null, "streamName": "s", "groupId": "g", "id": id, "event": event,
            })
        );
    }
    for n in 0..BURST {
        let item = json!({ "stream_name": "s", "group_id": "g", "item_id": n.to_string(), "data": n });
        worker.void("stream::set", item).await;
    }
    for n in 0..BURST {
        assert_eq!(events.next().await["event"]["data"], n);
    }
    worker.leave().await;
}

#[tokio::test]
async fn c00_case_23_24_channels() {
    let open = Open::start().await;
    let worker = Worker::at(&open, "w");
    let channel = within(helpers::create_channel(&worker.sdk, None)).await.unwrap();
    channel.writer.send_message("a").await.unwrap();
    channel.writer.write(&[1]).await.unwrap();
    channel.writer.close().await.unwrap();
    let (sender, mut texts) = tokio::sync::mpsc::channel(4);
    channel
        .reader
        .on_message(move |text| sender.try_send(text).unwrap())
        .await;
    let next = async || bytes(&channel.reader).await.unwrap();
    assert_eq!(next().await, Some(vec![1]));
    assert_eq!(texts.try_recv().as_deref(), Ok("a"));
    assert_eq!(next().await, None);

    // Who takes an end that somebody has is let in and closed at once.
    let channel = within(helpers::create_channel(&worker.sdk, None)).await.unwrap();
    channel.writer.write(&[2]).await.unwrap();
    assert_eq!(bytes(&channel.reader).await.unwrap(), Some(vec![2]));
    let late = ChannelReader::new(worker.sdk.address(), &channel.reader_ref);
    assert_eq!(bytes(&late).await.unwrap(), None);
    let mut wrong = channel.reader_ref.clone();
    wrong.access_key = "wrong".to_owned();
    let stranger = ChannelReader::new(worker.sdk.address(), &wrong);
    let refused = bytes(&stranger).await.unwrap_err().to_string();
    assert!(refused.contains("404"), "{refused}");
    worker.leave().await;
}

#[tokio::test]
async fn c00_case_25_a_full_channel_holds_its_writer() {
    const CHUNKS: u64 = 300;
    let open = Open::start().await;
    let worker = Worker::at(&open, "w");
    let channel = within(helpers::create_channel(&worker.sdk, Some(1)))
        .await
        .unwrap();
    let (sender, mut written) = tokio::sync::watch::channel(0);
    let writer = channel.writer;
    let writing = async move {
        for n in 0..CHUNKS {
            let mut chunk = vec![0; 64 * 1024];
            chunk[..8].copy_from_slice(&n.to_be_bytes());
            writer.write(&chunk).await.unwrap();
            sender.send_replace(n + 1);
        }
        writer.close().await.unwrap();
    };
    let reading = async {
        within(written.wait_for(|written| *written > 2)).await.unwrap();
        for n in 0..CHUNKS {
            let chunk = bytes(&channel.reader).await.unwrap().unwrap();
            assert_eq!(chunk[..8], n.to_be_bytes());
        }
        assert_eq!(bytes(&channel.reader).await.unwrap(), None);
    };
    tokio::join!(writing, reading);
    worker.leave().await;
}

#[tokio::test]
async fn c00_case_26_27_33_39_calls_that_fail_and_calls_that_do_not() {
    let open = Open::start().await;
    open.engine
        .serve("p::panics", |_, _| async { panic!("on purpose") });
    let mut strict = open.engine.record("p::strict");
    let (host, caller) = (Worker::at(&open, "host"), Worker::at(&open, "caller"));
    let mut jobs = host.record("host::job");
    let never = |_: Value| futures::future::pending::<Result<Value, Error>>();
    host.sdk
        .register_function("host::never", RegisterFunction::new_async(never));
    assert_eq!(host.ok("state::list", json!({ "scope": "x" })).await, json!([]));

    assert_eq!(
        caller.error("p::panics", json!({})).await,
        json!({ "code": "invocation_failed", "message": "p::panics panicked: on purpose" })
    );
    caller.void("p::strict", json!({ "a": 1 })).await;
    assert_eq!(strict.next().await, json!({ "a": 1 }));
    assert_eq!(
        failure(caller.enqueue("nowhere", "host::job", json!({})).await),
        json!({ "code": "enqueue_error", "message": "Queue 'nowhere' not found" })
    );
    let fifo = json!({ "queue": "f", "config": { "type": "fifo", "message_group_field": "session" } });
    caller.ok("queue::define", fifo).await;
    let without = failure(caller.enqueue("f", "host::job", json!({})).await);
    assert_eq!(
        without,
        json!({
            "code": "enqueue_error",
            "message": "FIFO queue 'f' requires field 'session' in data, but it was not found",
        })
    );
    caller
        .enqueue("f", "host::job", json!({ "session": "s" }))
        .await
        .unwrap();
    assert_eq!(jobs.next().await, json!({ "session": "s" }));

    // The executor goes before it answers.
    let call = caller.error("host::never", json!({}));
    let leave = async {
        within(async {
            // Gives way: the engine runs on this thread too.
            while active(&open, "host").await != 1 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        host.leave().await;
    };
    let (outcome, ()) = tokio::join!(call, leave);
    assert_eq!(
        outcome,
        json!({ "code": "invocation_stopped", "message": "Invocation stopped" })
    );
    open.workers(1).await;
    assert_eq!(
        caller.error("host::never", json!({})).await["code"],
        "function_not_found"
    );
    caller.leave().await;
}

/// Calls that a worker has yet to answer.
async fn active(open: &Open, worker: &str) -> u64 {
    let list = open
        .engine
        .ok("engine::workers::list", json!({ "search": worker }))
        .await;
    list["workers"][0]["active_invocations"].as_u64().unwrap()
}

#[tokio::test]
async fn c00_case_35_what_is_too_large_is_said_at_once() {
    let open = Open::start().await;
    let worker = Worker::at(&open, "w");
    let mut seen = worker.record("w::f");
    worker.ok("w::f", json!(1)).await;
    let text = |bytes: usize| Value::String("x".repeat(bytes));
    let error = worker.call("w::f", text(70 * 1024 * 1024)).await.unwrap_err();
    assert!(error.to_string().contains("payload_too_large"), "{error}");
    worker.ok("w::f", text(17 * 1024 * 1024)).await;
    assert_eq!(seen.next().await, 1);
    assert_eq!(seen.next().await.as_str().map(str::len), Some(17 * 1024 * 1024));
    worker.leave().await;
}

#[tokio::test]
async fn an_engine_without_observers_says_so() {
    let open = Open::start().await;
    let worker = Worker::at(&open, "w");
    let registered = worker.sdk.wait_until_registered(Duration::from_secs(20));
    within(registered).await.unwrap();
    assert_eq!(worker.sdk.engine_supports_observe(), Some(false));
    worker.leave().await;
}
