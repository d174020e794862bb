//! A bad client costs itself its connection and nobody else anything (contract 00 §1.8, §16).

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use harness::bus::CallContext;
use harness::bus::embedded::listener::{Limits, ListenOptions};
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::Open;
use crate::support::engine::within;
use crate::support::ws::{end_of, open};

async fn everything(open: &Open) -> Value {
    let mut all = Vec::new();
    for list in [
        "engine::functions::list",
        "engine::registered-triggers::list",
        "engine::triggers::list",
    ] {
        all.push(open.engine.ok(list, json!({"include_internal": true})).await);
    }
    json!(all)
}

#[tokio::test]
async fn five_hundred_workers_leave_nothing_behind() {
    let open = Open::start().await;
    let before = everything(&open).await;
    for n in 0..500 {
        let mut worker = open.join().await;
        worker
            .send(json!({"type": "registertriggertype", "id": "t", "description": ""}))
            .await;
        worker.host(&["w::f", "state::get"]).await;
        worker
            .bind(&format!("w/{n}"), "state", "w::f", json!({"scope": "d"}))
            .await;
        worker.bind(&format!("w/t{n}"), "t", "w::f", json!({})).await;
        worker.bind(&format!("w/p{n}"), "parked", "w::f", json!({})).await;
        worker.begin("w::f", json!({})).await;
        if n % 2 == 0 {
            worker.leave().await;
        }
    }
    open.workers(0).await;
    assert_eq!(everything(&open).await, before);
    assert!(
        open.engine.bus.shutdown(Duration::from_secs(20)).await,
        "tasks were left"
    );
}

#[tokio::test]
async fn a_worker_that_never_reads_is_cut_off() {
    let open = Open::limited(Limits {
        stall: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    let (mut deaf, mut other) = (open.join().await, open.join().await);
    deaf.host(&["w::deaf"]).await;
    let payload = Value::String("x".repeat(1024 * 1024));
    let calls = (0..64).map(|_| open.engine.call("w::deaf", payload.clone()));
    let (outcomes, answer) = tokio::join!(
        within(futures::future::join_all(calls)),
        other.ok("state::list", json!({"scope": "x"}))
    );
    assert_eq!(outcomes, vec![Err(Error::Stopped); 64]);
    assert_eq!(answer, json!([]));
    open.workers(1).await;
    assert_eq!(other.ok("state::list", json!({"scope": "x"})).await, json!([]));
}

#[tokio::test]
async fn results_that_nobody_reads_are_bounded() {
    let open = Open::limited(Limits {
        stall: Duration::from_millis(200),
        open_calls: 16,
        ..Limits::default()
    })
    .await;
    open.engine
        .set("s", "k", Value::String("x".repeat(1024 * 1024)))
        .await;
    let (deaf, mut other) = (open.join().await, open.join().await);
    let (mut sink, _stream) = deaf.socket.split();
    let call = json!({
        "type": "invokefunction", "invocation_id": "00000000-0000-4000-9000-0000000000aa", "function_id": "state::get",
        "data": {"scope": "s", "key": "k"},
    })
    .to_string();
    within(async { while sink.send(Message::text(call.as_str())).await.is_ok() {} }).await;
    open.workers(1).await;
    assert_eq!(other.ok("state::list", json!({"scope": "x"})).await, json!([]));
}

#[tokio::test]
async fn a_worker_that_floods_is_cut_off() {
    let open = Open::limited(Limits {
        stall: Duration::from_millis(50),
        open_calls: 8,
        ..Limits::default()
    })
    .await;
    open.engine
        .serve("p::never", |_, _: CallContext| futures::future::pending());
    let (mut flood, mut other) = (open.join().await, open.join().await);
    for _ in 0..9 {
        flood.begin("p::never", json!({})).await;
    }
    assert_eq!(end_of(&mut flood.socket).await.map(u16::from), Some(1008));
    open.workers(1).await;
    assert_eq!(other.ok("state::list", json!({"scope": "x"})).await, json!([]));
}

#[tokio::test]
async fn more_than_a_connection_may_have_is_refused() {
    let open = Open::limited(Limits {
        functions: 2,
        triggers: 1,
        trigger_types: 1,
        open_calls: 1,
        ..Limits::default()
    })
    .await;
    let mut worker = open.join().await;
    worker.host(&["w::a", "w::b", "w::c"]).await;
    worker
        .send(json!({"type": "registertriggertype", "id": "t1"}))
        .await;
    worker
        .send(json!({"type": "registertriggertype", "id": "t2"}))
        .await;
    worker.bind("1", "state", "w::a", json!({})).await;
    worker.bind("2", "state", "w::a", json!({})).await;
    assert_eq!(
        worker.untaken(),
        [json!({
            "type": "triggerregistrationresult", "id": "2", "trigger_type": "state", "function_id": "w::a",
            "error": {"code": "trigger_registration_failed", "message": "the worker has 1 bindings already"},
        })]
    );
    let list = worker
        .ok("engine::functions::list", json!({"prefix": "w::"}))
        .await;
    assert_eq!(
        list,
        json!({"functions": [
            {"function_id": "w::a", "worker_name": "w"}, {"function_id": "w::b", "worker_name": "w"},
        ]})
    );
    let types = worker.ok("engine::triggers::list", json!({"prefix": "t"})).await;
    assert_eq!(types["triggers"].as_array().unwrap().len(), 1);

    let first = open.engine.call("w::a", json!({}));
    let second = async {
        let call = worker.called("w::a").await;
        let error = open.engine.error("w::b", json!({})).await;
        worker.answer(&call, json!(1)).await;
        error
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first, Ok(json!(1)));
    assert_eq!(
        second,
        (
            "invocation_failed".to_owned(),
            "the worker has 1 calls to answer already".to_owned()
        )
    );
}

#[tokio::test]
async fn an_oversized_frame_ends_its_connection_only() {
    let open = Open::limited(Limits {
        frame_bytes: 64 * 1024,
        message_bytes: 128 * 1024,
        ..Limits::default()
    })
    .await;
    let (mut large, mut other) = (open.join().await, open.join().await);
    other.host(&["w::f"]).await;
    large.text(&" ".repeat(100 * 1024)).await;
    assert_eq!(end_of(&mut large.socket).await.map(u16::from), Some(1009));
    open.workers(1).await;

    // What the worker would not take is not sent: its callers learn why, and it stays.
    let payload = Value::String("x".repeat(200 * 1024));
    let (code, message) = open.engine.error("w::f", payload.clone()).await;
    assert_eq!(code, "payload_too_large");
    assert!(
        message.ends_with("exceeds the limit of 131072 bytes"),
        "{message}"
    );
    open.engine.set("s", "k", payload).await;
    let reply = other.call("state::get", json!({"scope": "s", "key": "k"})).await;
    assert_eq!(reply["error"]["code"], "payload_too_large");
}

#[tokio::test]
async fn large_messages_go_in_pieces() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    let value = "x".repeat(20 * 1024 * 1024);
    let text = json!({
        "type": "invokefunction", "invocation_id": "00000000-0000-4000-9000-0000000000aa", "function_id": "state::set",
        "data": {"scope": "s", "key": "k", "value": value},
    })
    .to_string();
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(8 * 1024 * 1024).collect();
    for (n, piece) in pieces.iter().enumerate() {
        let kind = if n == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(piece.to_vec(), OpCode::Data(kind), n + 1 == pieces.len());
        worker.socket.send(Message::Frame(frame)).await.unwrap();
    }
    let reply = worker.result("00000000-0000-4000-9000-0000000000aa").await;
    assert!(reply["result"]["new_value"].as_str() == Some(&value));
}

#[tokio::test]
async fn a_socket_that_says_nothing_is_closed() {
    let open = Open::limited(Limits {
        handshake: Duration::from_millis(20),
        ..Limits::default()
    })
    .await;
    let mut silent = TcpStream::connect(open.address).await.unwrap();
    assert_eq!(within(silent.read(&mut [0; 16])).await.unwrap(), 0);
}

#[tokio::test]
async fn too_many_connections_are_refused() {
    let open = Open::limited(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let mut first = open.join().await;
    let mut second = TcpStream::connect(open.address).await.unwrap();
    assert_eq!(within(second.read(&mut [0; 16])).await.unwrap(), 0);
    first.settle().await;
}

#[tokio::test]
async fn the_token_opens_the_door() {
    let options = ListenOptions {
        token: Some("s3cret".to_owned().into()),
        ..ListenOptions::default()
    };
    let engine = Open::with(options).await;
    for (path, header) in [
        ("/", None),
        ("/", Some("Bearer wrong")),
        ("/?token=s3cre", None),
        ("/otel", None),
    ] {
        assert_eq!(
            open(engine.address, path, header).await.err(),
            Some(401),
            "{path} {header:?}"
        );
    }
    for (path, header) in [
        ("/", Some("Bearer s3cret")),
        ("/?token=s3cret", None),
        ("/otel?token=s3cret", None),
    ] {
        assert_eq!(
            open(engine.address, path, header).await.err(),
            None,
            "{path} {header:?}"
        );
    }
}

#[tokio::test]
async fn the_end_is_said() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    worker.host(&["w::f"]).await;
    let stopped = open.engine.stop();
    let (code, ()) = tokio::join!(end_of(&mut worker.socket), stopped);
    assert_eq!(code.map(u16::from), Some(1001));
    assert!(TcpStream::connect(open.address).await.is_err());
}
