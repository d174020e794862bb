//! Workers that send more than anybody can use, while others want their answers.

use std::time::Duration;

use futures::future::join_all;
use futures::{SinkExt, StreamExt};
use harness::bus::embedded::listener::Limits;
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Rig, channel};
use crate::support::engine::within;
use crate::support::ws::Ws;

const ENOUGH: usize = 40;

/// Sends messages until the connection ends.
async fn flood(worker: &mut Ws, mut message: impl FnMut(usize) -> Value) {
    for n in 0.. {
        let sent = worker.socket.feed(Message::text(message(n).to_string())).await;
        if sent.is_err() {
            return;
        }
        if n % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// While somebody floods, another worker has its answers and its events, one after the other.
async fn others_make_progress(rig: &Rig, other: &mut Ws) {
    other.host(&["other::f"]).await;
    for n in 0..ENOUGH {
        rig.serves(other).await;
        let id = other.begin("other::f", json!(n)).await;
        assert_eq!(other.event("other::f").await, json!(n));
        assert_eq!(other.result(&id).await, json!({}));
        let value = other
            .ok("state::set", json!({"scope": "other", "key": "k", "value": n}))
            .await;
        assert_eq!(value["new_value"], json!(n));
    }
}

async fn against(message: impl FnMut(usize) -> Value) -> Rig {
    let rig = Rig::limited(Limits {
        stall: Duration::from_secs(1),
        ..Limits::default()
    })
    .await;
    rig.open
        .engine
        .serve("p::never", |_, _| futures::future::pending());
    let (mut bad, mut other) = (rig.join().await, rig.join().await);
    bad.host(&["w::never"]).await;
    within(async {
        tokio::select! {
            // A flood that was stopped does not end the test: the others go on.
            () = async { flood(&mut bad, message).await; futures::future::pending().await } => {}
            () = others_make_progress(&rig, &mut other) => {}
        }
    })
    .await;
    drop(bad);
    rig.open.workers(1).await;
    rig.serves(&mut other).await;
    rig
}

#[tokio::test]
async fn of_calls_that_are_never_answered() {
    against(|n| {
        json!({
            "type": "invokefunction", "invocation_id": format!("00000000-0000-4000-9000-{n:012}"),
            "function_id": "w::never", "data": {"n": n},
        })
    })
    .await;
}

#[tokio::test]
async fn of_void_calls() {
    against(|n| {
        json!({
            "type": "invokefunction", "invocation_id": null, "function_id": "p::never", "data": {"n": n},
            "action": {"type": "void"},
        })
    })
    .await;
}

#[tokio::test]
async fn of_stream_writes() {
    let rig = against(|n| {
        json!({
            "type": "invokefunction", "invocation_id": null, "function_id": "stream::set",
            "data": {"stream_name": "flood", "group_id": "g", "item_id": format!("{:04}", n % 1000), "data": "x".repeat(500)},
            "action": {"type": "void"},
        })
    })
    .await;
    let list = json!({"stream_name": "flood", "group_id": "g"});
    let items = rig.open.engine.ok("stream::list", list).await;
    assert!(items.as_array().is_some_and(|items| !items.is_empty()));
}

#[tokio::test]
async fn of_registrations() {
    let rig = against(|n| match n % 3 {
        0 => json!({"type": "registerfunction", "id": format!("w::{n}")}),
        1 => {
            json!({"type": "registertrigger", "id": format!("w/{n}"), "trigger_type": "state", "function_id": "w::never",
                "config": {"scope": format!("{n}")}})
        }
        _ => json!({"type": "registertriggertype", "id": format!("t{n}"), "description": ""}),
    })
    .await;
    for list in [
        "engine::functions::list",
        "engine::triggers::list",
        "engine::registered-triggers::list",
    ] {
        let left = rig
            .open
            .engine
            .ok(list, json!({"include_internal": true}))
            .await
            .to_string();
        assert!(
            !left.contains("\"w::") && !left.contains("\"w/"),
            "{list}: {left}"
        );
    }
}

#[tokio::test]
async fn of_malformed_messages() {
    against(|n| json!([n, {"type": "nonsense"}])).await;
}

#[tokio::test]
async fn of_registrations_that_are_too_large_together() {
    let rig = Rig::limited(Limits {
        registration_bytes: 10_000,
        ..Limits::default()
    })
    .await;
    let mut worker = rig.join().await;
    let text = "x".repeat(3_000);
    let function = |id: &str| json!({"type": "registerfunction", "id": id, "description": text});
    let binding = |id: &str| {
        json!({"type": "registertrigger", "id": id, "trigger_type": "state", "function_id": "w::a",
            "config": {"scope": "d", "text": text}})
    };
    worker.send(function("w::a")).await;
    worker.send(binding("b")).await;
    worker
        .send(json!({"type": "registertriggertype", "id": "t", "description": text}))
        .await;
    worker.settle().await;
    assert_eq!(worker.untaken(), Vec::<Value>::new());

    // All is used up.
    worker.send(function("w::b")).await;
    worker.send(binding("c")).await;
    worker
        .send(json!({"type": "registertriggertype", "id": "t2", "description": text}))
        .await;
    worker.settle().await;
    assert_eq!(
        worker.untaken(),
        [json!({
            "type": "triggerregistrationresult", "id": "c", "trigger_type": "state", "function_id": "w::a",
            "error": {
                "code": "trigger_registration_failed",
                "message": "the registrations of the worker are larger than 10000 bytes together",
            },
        })]
    );
    assert_eq!([rig.hosts("w::a").await, rig.hosts("w::b").await], [true, false]);

    // What goes makes room.
    worker.send(json!({"type": "unregistertrigger", "id": "b"})).await;
    worker.host(&["w::small"]).await;
    worker.send(function("w::b")).await;
    worker.settle().await;
    assert_eq!(
        [rig.hosts("w::small").await, rig.hosts("w::b").await],
        [true, true]
    );
    let types = worker.ok("engine::triggers::list", json!({"prefix": "t"})).await;
    assert_eq!(types["triggers"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn of_channels_that_nobody_opens() {
    let rig = Rig::start().await;
    let mut worker = rig.join().await;
    let (writer, reader) = channel(&mut worker, json!({})).await;
    let mut last = Value::Null;
    for _ in 0..harness::bus::channel::MAX_UNTAKEN {
        last = worker.call("engine::channels::create", json!({})).await;
    }
    assert_eq!(
        last,
        json!({"error": {
            "code": "invocation_failed", "message": "4096 channels wait for somebody to open them already",
        }})
    );
    // Channels that are in use do not count, and the program's own are made all the same.
    drop(rig.open.engine.bus.open_writer(&writer).await.unwrap());
    drop(rig.open.engine.bus.open_reader(&reader).await.unwrap());
    assert!(worker.call("engine::channels::create", json!({})).await["result"].is_object());
}

#[tokio::test]
async fn ten_thousand_calls_wait_and_each_gets_its_own_answer() {
    const CALLS: usize = 10_000;
    let rig = Rig::start().await;
    let (mut host, caller) = (rig.join().await, rig.join().await);
    host.host(&["w::f"]).await;
    let ours = join_all((0..CALLS / 2).map(|n| rig.open.engine.call("w::f", json!(n))));
    let theirs = async {
        let (mut sink, mut stream) = caller.socket.split();
        let sending = async {
            for n in 0..CALLS / 2 {
                let call = json!({"type": "invokefunction", "invocation_id": format!("00000000-0000-4000-9000-{n:012}"),
                    "function_id": "w::f", "data": CALLS + n});
                sink.send(Message::text(call.to_string())).await.unwrap();
            }
        };
        let reading = async {
            let mut answers = vec![false; CALLS / 2];
            while answers.contains(&false) {
                let Message::Text(text) = stream.next().await.unwrap().unwrap() else {
                    continue;
                };
                let answer: Value = serde_json::from_str(&text).unwrap();
                let n = usize::try_from(answer["result"].as_u64().unwrap()).unwrap() - CALLS;
                let id = format!("00000000-0000-4000-9000-{n:012}");
                assert_eq!(answer["invocation_id"], json!(id));
                assert!(
                    !std::mem::replace(&mut answers[n], true),
                    "{n} was answered twice"
                );
            }
        };
        tokio::join!(sending, reading);
    };
    let hosting = async {
        let mut calls = Vec::new();
        for _ in 0..CALLS {
            calls.push(host.called("w::f").await);
        }
        // The last one first.
        for call in calls.iter().rev() {
            host.answer(call, call["data"].clone()).await;
        }
    };
    let (ours, (), ()) = within(async { tokio::join!(ours, theirs, hosting) }).await;
    let expected: Vec<Result<Value, Error>> = (0..CALLS / 2).map(|n| Ok(json!(n))).collect();
    assert!(ours == expected);
}
