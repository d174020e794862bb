//! A link that breaks: in a frame, in a call, in a channel; or that stays open and carries nothing.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use harness::bus::embedded::listener::Limits;
use harness::bus::{CallContext, CallOptions, Frame};
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::{Rig, channel, channel_path};
use crate::listener::eventually;
use crate::support::engine::within;
use crate::support::proxy::{End, Mode, Way};
use crate::support::ws::{end_of, open};

const BOTH: [End; 2] = [End::Fin, End::Rst];

/// What the worker gets, and what the program.
fn stopped() -> Value {
    json!({"error": {"code": "invocation_stopped", "message": "Invocation stopped"}})
}

#[tokio::test]
async fn a_frame_counts_when_all_of_it_has_come() {
    let rig = Rig::start().await;
    let mut checked = 0;
    for (n, end) in (0..).zip(BOTH.into_iter().cycle()) {
        let call = json!({
            "type": "invokefunction", "invocation_id": null, "function_id": "state::set",
            "data": {"scope": "cut", "key": format!("{n:04}"), "value": "x".repeat(100)},
        })
        .to_string();
        // Two bytes, two of length, four of mask.
        let length = call.len() + 8;
        let before = n * 7;
        if before >= length {
            break;
        }
        let mut worker = rig.join_badly().await;
        worker.settle().await;
        rig.proxy.cut_after(Way::Up, before, end);
        worker.text(&call).await;
        rig.open.workers(0).await;
        checked += 1;
    }
    assert!(checked > 20);
    assert_eq!(
        rig.open.engine.ok("state::list", json!({"scope": "cut"})).await,
        json!([])
    );

    let call = json!({
        "type": "invokefunction", "invocation_id": null, "function_id": "state::set",
        "data": {"scope": "cut", "key": "whole", "value": "x".repeat(100)},
    })
    .to_string();
    let mut worker = rig.join_badly().await;
    worker.settle().await;
    rig.proxy.cut_after(Way::Up, call.len() + 8, End::Fin);
    worker.text(&call).await;
    rig.open.workers(0).await;
    let stored = rig.open.engine.ok("state::list", json!({"scope": "cut"})).await;
    assert_eq!(stored, json!(["x".repeat(100)]));
}

#[tokio::test]
async fn c00_case_26_an_executor_that_is_cut_off_in_a_call() {
    for end in BOTH {
        let rig = Rig::start().await;
        let (mut host, mut caller) = (rig.join_badly().await, rig.join().await);
        host.host(&["w::slow", "w::half"]).await;
        let id = caller.begin("w::slow", json!({})).await;
        let half = caller.begin("w::half", json!({})).await;
        let ours = rig.open.engine.call("w::slow", json!({}));
        let theirs = async {
            host.called("w::slow").await;
            host.called("w::slow").await;
            let call = host.called("w::half").await;
            // Half of a result is none.
            rig.proxy.cut_after(Way::Up, 60, end);
            host.answer(&call, json!("x".repeat(1000))).await;
            (caller.result(&id).await, caller.result(&half).await)
        };
        let (ours, theirs) = tokio::join!(ours, theirs);
        assert_eq!(ours, Err(Error::Stopped));
        assert_eq!(theirs, (stopped(), stopped()));
        rig.open.workers(1).await;
        assert_eq!(
            caller.call("w::slow", json!({})).await["error"]["code"],
            "function_not_found"
        );
    }
}

#[tokio::test]
async fn a_caller_that_is_cut_off_in_a_call() {
    for end in BOTH {
        let rig = Rig::start().await;
        let (mut host, mut caller) = (rig.join().await, rig.join_badly().await);
        host.host(&["w::f"]).await;
        caller.begin("w::f", json!(1)).await;
        let call = host.called("w::f").await;
        rig.proxy.cut(end);
        rig.open.workers(1).await;
        host.answer(&call, json!("late")).await;

        // It connects again and calls again: the old answer is not taken for the new one.
        let mut caller = rig.join_badly().await;
        let id = caller.begin("w::f", json!(2)).await;
        let call = host.called("w::f").await;
        assert_eq!(call["data"], json!(2));
        host.answer(&call, json!("new")).await;
        assert_eq!(caller.result(&id).await, json!({"result": "new"}));
    }
}

#[tokio::test]
async fn a_writer_of_a_channel_that_is_cut_off() {
    for end in BOTH {
        let rig = Rig::start().await;
        let mut worker = rig.join().await;
        let (writer, reader) = channel(&mut worker, json!({})).await;
        let mut ours = rig.open.engine.bus.open_reader(&reader).await.unwrap();
        let mut out = rig.open_badly(&writer, "write").await;
        for text in ["a", "b"] {
            out.send(Message::text(text)).await.unwrap();
        }
        // Both have come before the link breaks: a RST may overtake what is on its way.
        for text in ["a", "b"] {
            assert_eq!(within(ours.next()).await, Some(Frame::Text(text.into())));
        }
        rig.proxy.cut_after(Way::Up, 50_000, end);
        out.send(Message::binary(vec![1; 100_000])).await.ok();
        assert_eq!(within(ours.next()).await, None);
        drop(ours);
        eventually(|| rig.channels() == 0).await;
    }
}

#[tokio::test]
async fn a_reader_of_a_channel_that_is_cut_off() {
    for end in BOTH {
        let rig = Rig::start().await;
        let mut worker = rig.join().await;
        let (writer, reader) = channel(&mut worker, json!({"buffer_size": 1})).await;
        let mut out = open(rig.open.address, &channel_path(&writer, "write"), None)
            .await
            .unwrap();
        let mut input = rig.open_badly(&reader, "read").await;
        out.send(Message::text("a")).await.unwrap();
        assert_eq!(within(input.next()).await.unwrap().unwrap(), Message::text("a"));
        rig.proxy.cut(end);
        // The writer learns it, and is not held up for ever.
        within(async { while out.send(Message::binary(vec![1; 100_000])).await.is_ok() {} }).await;
        eventually(|| rig.channels() == 0).await;
        rig.serves(&mut worker).await;
    }
}

#[tokio::test]
async fn a_link_that_carries_nothing_holds_up_its_own_calls_only() {
    let rig = Rig::start().await;
    let (mut host, mut other) = (rig.join_badly().await, rig.join().await);
    host.host(&["w::f"]).await;
    rig.proxy.set(Mode::Hole);
    let call = |limit| {
        let options = CallOptions::timeout_ms(limit);
        let bus = rig.open.engine.bus.clone();
        async move {
            bus.invoke(&CallContext::default(), "w::f", json!(limit), options)
                .await
        }
    };
    assert_eq!(
        call(20).await,
        Err(Error::Timeout {
            function: "w::f".into(),
            after_ms: 20
        })
    );
    rig.serves(&mut other).await;

    // It carries again: nothing was lost, and an answer that nobody waits for is dropped.
    let (answer, ()) = tokio::join!(call(20_000), async {
        rig.serves(&mut other).await;
        rig.proxy.set(Mode::Pass);
        for answer in [20, 20_000] {
            let call = host.called("w::f").await;
            assert_eq!(call["data"], json!(answer));
            host.answer(&call, json!(answer)).await;
        }
    });
    assert_eq!(answer, Ok(json!(20_000)));
}

#[tokio::test]
async fn a_link_that_carries_nothing_for_too_long_is_given_up() {
    let rig = Rig::limited(Limits {
        stall: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    let (mut host, mut other) = (rig.join_badly().await, rig.join().await);
    host.host(&["w::f"]).await;
    rig.proxy.set(Mode::Hole);
    let payload = Value::String("x".repeat(1024 * 1024));
    let calls = (0..32).map(|_| rig.open.engine.call("w::f", payload.clone()));
    let outcomes = within(futures::future::join_all(calls)).await;
    assert_eq!(outcomes, vec![Err(Error::Stopped); 32]);
    rig.open.workers(1).await;
    rig.serves(&mut other).await;
    rig.proxy.set(Mode::Pass);
    within(async { while let Some(Ok(_)) = host.socket.next().await {} }).await;
    drop((host, other));
    eventually(|| rig.proxy.open() == 0).await;
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up() {
    let rig = Rig::limited(Limits {
        handshake: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    rig.proxy.set(Mode::Hole);
    let mut silent = TcpStream::connect(rig.proxy.address()).await.unwrap();
    let mut other = rig.join().await;
    // A slow loris: one byte of an endless request after the other.
    let mut loris = TcpStream::connect(rig.open.address).await.unwrap();
    let dripping = async {
        use tokio::io::AsyncWriteExt;
        loris.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        while loris.write_all(b"y").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(dripping).await;
    rig.proxy.set(Mode::Pass);
    assert_eq!(within(silent.read(&mut [0; 16])).await.unwrap_or_default(), 0);
    rig.serves(&mut other).await;
}

#[tokio::test]
async fn the_engine_stops_while_a_link_carries_nothing() {
    let rig = Rig::start().await;
    let mut host = rig.join_badly().await;
    host.host(&["w::f"]).await;
    rig.proxy.set(Mode::Hole);
    within(rig.open.engine.stop()).await;
    rig.proxy.set(Mode::Pass);
    assert_eq!(end_of(&mut host.socket).await.map(u16::from), Some(1001));
}
