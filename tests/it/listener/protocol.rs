//! Frames and calls (contract 00 §1, §2).

use futures::SinkExt;
use harness::bus::{Baggage, CallContext, CallOptions};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::Open;
use crate::support::ws::open;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn c00_case_01_the_first_frame_and_ping() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    let is_uuid = |value: &Value| uuid::Uuid::parse_str(value.as_str().unwrap()).is_ok();
    let members: Vec<&String> = worker.greeting.as_object().unwrap().keys().collect();
    assert_eq!(members, ["type", "worker_id", "reattach_token"]);
    assert_eq!(worker.greeting["type"], "workerregistered");
    assert!(is_uuid(&worker.greeting["worker_id"]) && is_uuid(&worker.greeting["reattach_token"]));
    worker.send(json!({"type": "ping"})).await;
    assert_eq!(worker.take(|_| true).await, json!({"type": "pong"}));
    worker.leave().await;
}

#[tokio::test]
async fn c00_case_02_03_what_is_malformed_is_dropped_without_a_word() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    for text in [
        "",
        " \n",
        "nonsense",
        "[\"ping\"]",
        "{}",
        r#"{"type":"no such message"}"#,
        r#"{"type":"error","error":{"code":"x","message":"y"}}"#,
        r#"{"type":"invokefunction","invocation_id":"not-a-uuid","function_id":"state::list","data":{"scope":"x"}}"#,
        r#"{"type":"invokefunction","invocation_id":"00000000-0000-4000-9000-000000000001","function_id":"state::list"}"#,
        r#"{"type":"registerfunction","id":7}"#,
        r#"{"type":"registerservice","id":"s","name":"S"}"#,
        r#"{"type":"unregistertriggertype","id":"t"}"#,
        r#"{"type":"invocationresult","invocation_id":"00000000-0000-4000-9000-000000000009","function_id":"f"}"#,
        r#"{"type":"triggerregistrationresult","id":"t","trigger_type":"state","function_id":"f"}"#,
        r#"{"type":"reattach","previous_worker_id":"nobody"}"#,
    ] {
        worker.text(text).await;
    }
    worker.binary(b"\xff\xfe").await;
    worker.binary(b"OTLP{\"type\":\"ping\"}").await;
    worker.binary(b"MTRC").await;
    worker.binary(b"LOGS\x00").await;
    assert_eq!(
        worker.call("state::list", json!({"scope": "x"})).await,
        json!({"result": []})
    );
    assert_eq!(worker.untaken(), Vec::<Value>::new());
}

#[tokio::test]
async fn binary_frames_are_messages_too_and_pings_are_answered() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    worker.binary(br#"{"type":"ping"}"#).await;
    assert_eq!(worker.take(|_| true).await, json!({"type": "pong"}));
    worker.socket.send(Message::Ping("hi".into())).await.unwrap();
    let pong = futures::StreamExt::next(&mut worker.socket)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(pong, Message::Pong("hi".into()));
}

#[tokio::test]
async fn c00_case_04_nobody_hosts_it() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    let id = worker.begin("no::such", json!({})).await;
    assert_eq!(
        worker.take(|_| true).await,
        json!({
            "type": "invocationresult", "invocation_id": id, "function_id": "no::such",
            "error": {"code": "function_not_found", "message": "Function no::such not found"},
        })
    );
    worker.void("no::such", json!({})).await;
    let id = "00000000-0000-4000-9000-00000000ffff";
    worker
        .send(json!({"type": "invokefunction", "invocation_id": id, "function_id": "no::such", "data": {}, "action": {"type": "void"}}))
        .await;
    worker
        .send(json!({"type": "invokefunction", "function_id": "no::such", "data": null}))
        .await;
    worker.settle().await;
    assert_eq!(worker.ok("state::list", json!({"scope": "x"})).await, json!([]));
    assert_eq!(worker.untaken(), Vec::<Value>::new());
}

#[tokio::test]
async fn c00_case_05_06_no_value_and_bad_input() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    let missing = json!({"scope": "demo", "key": "k1"});
    assert_eq!(worker.call("state::get", missing).await, json!({}));
    assert_eq!(
        worker.call("state::set", json!({"scope": "x"})).await,
        json!({"error": {
            "code": "deserialization_error",
            "message": "Failed to deserialize input for state::set: missing field `key`",
        }})
    );
}

#[tokio::test]
async fn c00_case_40_metadata_and_trace_context_go_both_ways() {
    let open = Open::start().await;
    let (mut host, mut caller) = (open.join().await, open.join().await);
    host.host(&["w::f"]).await;
    let id = "00000000-0000-4000-9000-0000000000aa";
    let baggage = "iii.session.id=S,iii.function.id=other,iii.tag.kind=chat";
    caller
        .send(json!({
            "type": "invokefunction", "invocation_id": id, "function_id": "w::f", "data": [1, null],
            "traceparent": TRACE, "baggage": baggage, "metadata": {"once": true}, "namespace": "default",
        }))
        .await;
    let mut call = host.called("w::f").await;
    let theirs = call["invocation_id"].take();
    assert!(theirs.is_string() && theirs != id);
    assert_eq!(
        call,
        json!({
            "type": "invokefunction", "invocation_id": null, "function_id": "w::f", "data": [1, null],
            "traceparent": TRACE, "baggage": "iii.session.id=S,iii.function.id=w::f,iii.tag.kind=chat",
            "metadata": {"once": true},
        })
    );
    host.send(json!({
        "type": "invocationresult", "invocation_id": theirs, "function_id": "w::f",
        "error": {"code": "mine", "message": "no", "stacktrace": "at line 1"},
        "traceparent": TRACE, "baggage": "x=y",
    }))
    .await;
    assert_eq!(
        caller.result(id).await,
        json!({"error": {"code": "mine", "message": "no"}, "traceparent": TRACE, "baggage": baggage})
    );

    // A second answer, and one from another worker, change nothing.
    host.answer(
        &json!({"invocation_id": theirs, "function_id": "w::f"}),
        json!("late"),
    )
    .await;
    host.settle().await;
    assert_eq!(caller.ok("state::list", json!({"scope": "x"})).await, json!([]));
    assert_eq!(caller.untaken(), Vec::<Value>::new());
}

#[tokio::test]
async fn a_function_of_the_program_sees_the_context() {
    let open = Open::start().await;
    open.engine.serve("p::context", |payload, context| async move {
        let CallContext {
            baggage,
            metadata,
            traceparent,
            cancel,
            batch,
        } = context;
        assert!(cancel.is_none() && batch.is_none());
        let Baggage {
            session_id,
            message_id,
            others,
        } = baggage;
        Ok(json!([
            payload,
            metadata,
            traceparent,
            session_id,
            message_id,
            others
        ]))
    });
    let mut worker = open.join().await;
    let id = "00000000-0000-4000-9000-0000000000aa";
    worker
        .send(json!({
            "type": "invokefunction", "invocation_id": id, "function_id": "p::context", "data": "x",
            "traceparent": "", "baggage": "iii.session.id=a%20b,k=v", "metadata": {"m": 1},
        }))
        .await;
    let reply = worker.result(id).await;
    assert_eq!(reply["result"], json!(["x", {"m": 1}, null, "a b", null, "k=v"]));
}

#[tokio::test]
async fn c00_case_39_no_caller_id_is_added() {
    let open = Open::start().await;
    let mut seen = open.engine.record("p::strict");
    let (mut host, mut caller) = (open.join().await, open.join().await);
    host.host(&["w::strict"]).await;
    caller.void("p::strict", json!({"a": 1})).await;
    caller.void("w::strict", json!({"a": 1})).await;
    caller
        .ok("state::set", json!({"scope": "s", "key": "k", "value": {"a": 1}}))
        .await;
    assert_eq!(seen.next().await, json!({"a": 1}));
    assert_eq!(host.event("w::strict").await, json!({"a": 1}));
    assert_eq!(open.engine.get("s", "k").await, json!({"a": 1}));
}

#[tokio::test]
async fn enqueue_over_the_wire() {
    let open = Open::start().await;
    let (mut host, mut caller) = (open.join().await, open.join().await);
    host.host(&["w::job"]).await;
    let id = "00000000-0000-4000-9000-0000000000aa";
    let call = |queue: &str| {
        json!({
            "type": "invokefunction", "invocation_id": id, "function_id": "w::job", "data": {"n": 1},
            "action": {"type": "enqueue", "queue": queue},
        })
    };
    caller.send(call("default")).await;
    let reply = caller.result(id).await;
    assert!(uuid::Uuid::parse_str(reply["result"]["messageReceiptId"].as_str().unwrap()).is_ok());
    assert_eq!(host.event("w::job").await, json!({"n": 1}));
    caller.send(call("nowhere")).await;
    assert_eq!(
        caller.result(id).await,
        json!({"error": {"code": "enqueue_error", "message": "Queue 'nowhere' not found"}})
    );
}

#[tokio::test]
async fn c00_case_18_a_burst_of_writes_keeps_its_order() {
    let open = Open::start().await;
    let mut events = open
        .engine
        .watch(
            "p::events",
            "stream",
            json!({"stream_name": "s", "group_id": "g"}),
        )
        .await;
    let mut worker = open.join().await;
    for n in 0..2000 {
        let item = json!({"stream_name": "s", "group_id": "g", "item_id": n.to_string(), "data": n});
        worker.void("stream::set", item).await;
    }
    let expected: Vec<Value> = (0..2000).map(|n| json!(n)).collect();
    let mut found = Vec::new();
    while found.len() < expected.len() {
        found.push(events.next().await["event"]["data"].take());
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn telemetry_sockets_are_taken_and_unknown_paths_refused() {
    let engine = Open::start().await;
    let mut telemetry = open(engine.address, "/otel", None).await.unwrap();
    telemetry.send(Message::binary(b"OTLP{}".to_vec())).await.unwrap();
    telemetry.send(Message::text("ignored")).await.unwrap();
    telemetry.send(Message::Ping("still there".into())).await.unwrap();
    let pong = futures::StreamExt::next(&mut telemetry).await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("still there".into()));
    assert_eq!(engine.engine.embedded.workers_connected(), 0);
    assert_eq!(open(engine.address, "/other", None).await.err(), Some(404));
}

#[tokio::test]
async fn calls_of_the_program_carry_their_context_to_the_worker() {
    let open = Open::start().await;
    let mut host = open.join().await;
    host.host(&["w::f"]).await;
    let context = CallContext {
        baggage: Baggage {
            session_id: Some("s1".into()),
            ..Baggage::default()
        },
        traceparent: Some(TRACE.into()),
        ..CallContext::default()
    };
    let options = CallOptions::default().with_metadata(json!("m"));
    let call = open.engine.bus.invoke(&context, "w::f", json!({}), options);
    let answer = async {
        let call = host.called("w::f").await;
        host.send(json!({"type": "invocationresult", "invocation_id": call["invocation_id"], "function_id": "w::f"}))
            .await;
        (
            call["traceparent"].clone(),
            call["baggage"].clone(),
            call["metadata"].clone(),
        )
    };
    let (outcome, carried) = tokio::join!(call, answer);
    assert_eq!(outcome, Ok(Value::Null));
    assert_eq!(
        carried,
        (
            json!(TRACE),
            json!("iii.session.id=s1,iii.function.id=w::f"),
            json!("m")
        )
    );
}
