//! A worker that reads nothing of what is sent to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use harness::bus::embedded::EmbeddedOptions;
use harness::bus::embedded::listener::Limits;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;

use super::{Rig, channel, channel_path};
use crate::listener::eventually;
use crate::support::engine::{Engine, within};
use crate::support::ws::{end_of, open};

#[tokio::test]
async fn a_subscriber_that_never_reads_delays_nobody() {
    const ITEMS: usize = 400;
    let rig = Rig::start().await;
    let mut ours = rig
        .open
        .engine
        .watch("p::on", "stream", json!({"stream_name": "s"}))
        .await;
    let (mut deaf, mut live, mut writer) = (rig.join().await, rig.join().await, rig.join().await);
    for (worker, function) in [(&mut deaf, "w::deaf"), (&mut live, "w::live")] {
        worker.host(&[function]).await;
        worker
            .bind(function, "stream", function, json!({"stream_name": "s"}))
            .await;
    }
    let data = "x".repeat(64 * 1024);
    let writing = async {
        for n in 0..ITEMS {
            let item = json!({
                "stream_name": "s", "group_id": "g", "item_id": format!("{n:04}"), "data": {"n": n, "text": data},
            });
            writer.ok("stream::set", item).await;
        }
    };
    let reading = async {
        for n in 0..ITEMS {
            assert_eq!(live.event("w::live").await["event"]["data"]["n"], json!(n));
        }
    };
    let watching = async {
        for n in 0..ITEMS {
            assert_eq!(ours.next().await["event"]["data"]["n"], json!(n));
        }
    };
    tokio::join!(writing, reading, watching);
    // What it has not read waits for it: one event after the other, as it never answers.
    assert_eq!(
        deaf.called("w::deaf").await["data"]["event"]["data"]["n"],
        json!(0)
    );
    assert_eq!(rig.open.engine.embedded.dropped_events(), 0);
}

#[tokio::test]
async fn events_that_wait_keep_a_bounded_memory() {
    let engine = Engine::start(EmbeddedOptions {
        waiting_event_bytes: 10_000,
        ..EmbeddedOptions::default()
    })
    .await;
    let (release, released) = watch::channel(false);
    let (seen, mut saw) = mpsc::channel(16);
    engine.serve("p::slow", move |payload, _| {
        let (seen, mut released) = (seen.clone(), released.clone());
        async move {
            released.wait_for(|released| *released).await.unwrap();
            seen.send(payload["new_value"][0].clone()).await.unwrap();
            Ok(Value::Null)
        }
    });
    engine
        .bind("b", "state", "p::slow", json!({"scope": "d"}))
        .await
        .unwrap();
    // Of different keys, so of lanes side by side.
    for n in 0..10 {
        engine
            .set("d", &format!("k{n}"), json!([n, "x".repeat(3_000)]))
            .await;
    }
    assert_eq!(engine.embedded.dropped_events(), 7);
    release.send_replace(true);
    let mut first: Vec<Value> = Vec::new();
    for _ in 0..3 {
        first.push(within(saw.recv()).await.unwrap());
    }
    first.sort_by_key(Value::as_u64);
    assert_eq!(first, [0, 1, 2]);
    // There is room again, also for one that is larger than all of it.
    let large = json!([10, "x".repeat(20_000)]);
    within(async {
        while saw.is_empty() {
            engine.set("d", "k", large.clone()).await;
        }
    })
    .await;
    assert_eq!(saw.recv().await, Some(json!(10)));
}

#[tokio::test]
async fn results_beyond_what_may_wait_are_answered_by_an_error() {
    const CALLS: usize = 600;
    const SIZE: usize = 128 * 1024;
    let rig = Rig::limited(Limits {
        unread_result_bytes: 2 * 1024 * 1024,
        ..Limits::default()
    })
    .await;
    let answered = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&answered);
    rig.open.engine.serve("p::big", move |_, _| {
        counter.fetch_add(1, Ordering::AcqRel);
        std::future::ready(Ok(Value::String("x".repeat(SIZE))))
    });
    let (mut deaf, mut other) = (rig.join().await, rig.join().await);
    let ids: Vec<_> = (0..CALLS)
        .map(|n| format!("00000000-0000-4000-9000-{n:012}"))
        .collect();
    for id in &ids {
        let call =
            json!({"type": "invokefunction", "invocation_id": id, "function_id": "p::big", "data": {}});
        deaf.socket.send(Message::text(call.to_string())).await.unwrap();
    }
    within(eventually(|| answered.load(Ordering::Acquire) == CALLS)).await;
    rig.serves(&mut other).await;

    // It reads after all: each call has its answer.
    let (mut values, mut errors) = (0, 0);
    for id in &ids {
        let reply = deaf.result(id).await;
        if reply.get("error").is_some() {
            assert_eq!(
                reply,
                json!({"error": {
                    "code": "unread_results",
                    "message": format!("the result of {} bytes is not sent: more than 2097152 bytes are unread", SIZE + 117),
                }})
            );
            errors += 1;
        } else {
            assert_eq!(reply["result"].as_str().map(str::len), Some(SIZE));
            values += 1;
        }
    }
    assert_eq!(values + errors, CALLS);
    assert!(values > 0 && errors > 0, "{values} values, {errors} errors");
    assert!(
        deaf.ok("p::big", json!({})).await.is_string(),
        "there is room again"
    );
}

#[tokio::test]
async fn a_provider_that_never_reads_is_cut_off() {
    let rig = Rig::limited(Limits {
        notices: 64,
        ..Limits::default()
    })
    .await;
    let (mut deaf, mut binder) = (rig.join().await, rig.join().await);
    deaf.send(json!({"type": "registertriggertype", "id": "t", "description": ""}))
        .await;
    deaf.settle().await;
    let config = json!({"text": "x".repeat(64 * 1024)});
    let mut bound = 0;
    while rig.open.engine.embedded.workers_connected() == 2 {
        binder
            .send(json!({
                "type": "registertrigger", "id": "b", "trigger_type": "t", "function_id": "f", "config": config,
            }))
            .await;
        binder.settle().await;
        bound += 1;
        assert!(bound < 10_000, "it was never cut off");
    }
    rig.serves(&mut binder).await;
    drop(deaf);
}

#[tokio::test]
async fn c00_case_25_a_channel_reader_that_never_reads_holds_up_its_writer_only() {
    let rig = Rig::start().await;
    let mut worker = rig.join().await;
    let (writer, reader) = channel(&mut worker, json!({"buffer_size": 1})).await;
    let mut input = open(rig.open.address, &channel_path(&reader, "read"), None)
        .await
        .unwrap();
    let mut out = open(rig.open.address, &channel_path(&writer, "write"), None)
        .await
        .unwrap();
    let sent = AtomicUsize::new(0);
    let writing = async {
        loop {
            out.send(Message::binary(vec![7; 1024 * 1024])).await.unwrap();
            sent.fetch_add(1, Ordering::AcqRel);
        }
    };
    let others = async {
        // The writer stands still when two looks, with work of others between them, see the same.
        let mut seen = usize::MAX;
        while sent.load(Ordering::Acquire) != seen || seen == 0 {
            seen = sent.load(Ordering::Acquire);
            for _ in 0..50 {
                rig.serves(&mut worker).await;
            }
        }
        seen
    };
    let held = tokio::select! {
        () = writing => 0,
        held = within(others) => held,
    };
    assert!(held < 64, "{held} MiB are on the way");
    // What was sent is there.
    for _ in 0..held {
        assert_eq!(within(input.next()).await.unwrap().unwrap().len(), 1024 * 1024);
    }
    drop((input, out));
    eventually(|| rig.channels() == 0).await;
}

#[tokio::test]
async fn pongs_that_nobody_reads_end_the_connection() {
    let rig = Rig::limited(Limits {
        stall: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    let (deaf, mut other) = (rig.join().await, rig.join().await);
    let (mut sink, stream) = deaf.socket.split();
    let ping = Message::Ping(vec![7; 125].into());
    let text = Message::text(r#"{"type":"ping"}"#);
    within(async { while sink.send(ping.clone()).await.is_ok() && sink.send(text.clone()).await.is_ok() {} })
        .await;
    rig.open.workers(1).await;
    rig.serves(&mut other).await;
    drop(stream);
}

#[tokio::test]
async fn the_farewell_to_a_worker_that_never_reads_is_short() {
    let rig = Rig::start().await;
    let mut deaf = rig.join().await;
    deaf.host(&["w::f"]).await;
    let calls = (0..64).map(|_| {
        rig.open
            .engine
            .call("w::f", Value::String("x".repeat(1024 * 1024)))
    });
    let (outcomes, ()) = tokio::join!(futures::future::join_all(calls), async {
        deaf.called("w::f").await;
        rig.open.engine.bus.transport().shutdown().await;
    });
    assert_eq!(outcomes, vec![Err(harness::error::Error::Stopped); 64]);
    end_of(&mut deaf.socket).await;
}
