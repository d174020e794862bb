//! What travels: errors, context, metadata, large payloads.

use std::sync::{Arc, Mutex};

use harness::bus::{Baggage, CallContext, CallOptions, FunctionDef};
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Served, call, echo_on, join, options};
use crate::support::engine::within;
use crate::support::fake_engine::{FakeEngine, Script};
use crate::support::log::{self, Span};

const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_keep_code_and_message() {
    let engine = FakeEngine::start(Script::default()).await;
    let program = echo_on(&engine, options(engine.address)).await;
    let errors = [
        (
            "test::invalid",
            Error::invalid("missing required string field: x"),
            "invocation_failed",
        ),
        ("test::coded", Error::coded("FORBIDDEN", "no"), "FORBIDDEN"),
        (
            "test::unknown",
            Error::FunctionNotFound("a::b".into()),
            "function_not_found",
        ),
    ];
    for (id, error, _) in errors.clone() {
        let handler = move |_, _| futures::future::ready(Err(error.clone()));
        program.register(FunctionDef::ad_hoc(id, handler)).unwrap();
    }
    program
        .register(FunctionDef::ad_hoc("test::panics", |_, _| async {
            panic!("boom")
        }))
        .unwrap();
    program.transport().settle().await.unwrap();
    for (id, error, code) in errors {
        let answer = engine.invoke(id, json!({}), json!({}), LIMIT).await.unwrap();
        let expected = json!({ "code": code, "message": error.to_string(), "stacktrace": "" });
        assert_eq!(answer["error"], expected, "{id}");
    }
    let answer = engine
        .invoke("test::panics", json!({}), json!({}), LIMIT)
        .await
        .unwrap();
    assert_eq!(
        (
            answer["error"]["code"].clone(),
            answer["error"]["message"].clone()
        ),
        (json!("invocation_failed"), json!("test::panics panicked: boom"))
    );
    // What comes back of others.
    let not_found = call(&program, "no::such", json!({})).await.unwrap_err();
    assert_eq!(
        (not_found.wire_code(), not_found.to_string()),
        ("function_not_found", "Function no::such not found".to_owned())
    );
    let timeout = super::call_within(&program, "fake::silent", json!({}), 50)
        .await
        .unwrap_err();
    let expected = Error::Timeout {
        function: "fake::silent".to_owned(),
        after_ms: 50,
    };
    assert_eq!(timeout, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c00_case_39_members_of_the_engine_never_reach_data() {
    let engine = FakeEngine::start(Script::default()).await;
    let program = echo_on(&engine, options(engine.address)).await;
    let weak = program.downgrade();
    let forward = move |payload: Value, context: CallContext| {
        let bus = weak.upgrade().unwrap();
        async move {
            let options = CallOptions::default();
            bus.invoke(&context, "fake::echo", payload, options).await
        }
    };
    program
        .register(FunctionDef::ad_hoc("test::forward", forward))
        .unwrap();
    program.transport().settle().await.unwrap();
    let data = json!({ "_caller_worker_id": "w", "b": 1, "a": { "_caller_worker_id": "kept" } });
    for id in ["test::echo", "test::forward"] {
        let answer = engine.invoke(id, data.clone(), json!({}), LIMIT).await.unwrap();
        let expected = json!({ "b": 1, "a": { "_caller_worker_id": "kept" } });
        assert_eq!(answer["result"].to_string(), expected.to_string());
    }
    let forwarded = engine.frames("invokefunction");
    let forwarded = forwarded
        .iter()
        .find(|frame| frame["function_id"] == "fake::echo")
        .unwrap();
    assert_eq!(forwarded["data"].get("_caller_worker_id"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c00_case_40_trace_baggage_and_metadata_come_in_and_go_out() {
    let engine = FakeEngine::start(Script::default()).await;
    let program = echo_on(&engine, options(engine.address)).await;
    let weak = program.downgrade();
    let nested = move |payload: Value, context: CallContext| {
        let bus = weak.upgrade().unwrap();
        async move {
            let seen = json!({
                "trace": context.traceparent.as_deref(), "session": context.baggage.session_id.as_deref(),
                "others": context.baggage.others.as_deref(), "metadata": context.metadata.as_deref(),
            });
            let options = CallOptions::default().with_metadata(json!({ "key": "k" }));
            bus.invoke(&context, "fake::echo", payload, options).await?;
            Ok(seen)
        }
    };
    program
        .register(FunctionDef::ad_hoc("test::nested", nested))
        .unwrap();
    program.transport().settle().await.unwrap();
    let beside = json!({
        "traceparent": TRACE, "baggage": "iii.session.id=S%201,iii.tag.kind=chat", "metadata": { "m": [1] },
    });
    let answer = engine
        .invoke("test::nested", json!({}), beside, LIMIT)
        .await
        .unwrap();
    let expected = json!({
        "trace": TRACE, "session": "S 1", "others": "iii.tag.kind=chat", "metadata": { "m": [1] },
    });
    assert_eq!(answer["result"], expected);
    let calls = engine.frames("invokefunction");
    let call = calls
        .iter()
        .find(|frame| frame["function_id"] == "fake::echo")
        .unwrap();
    assert_eq!(call["traceparent"], TRACE);
    assert_eq!(call["metadata"], json!({ "key": "k" }));
    let baggage = Baggage::parse(call["baggage"].as_str().unwrap());
    assert_eq!(baggage.session_id, Some(Arc::from("S 1")));
    assert_eq!(baggage.others, Some(Arc::from("iii.tag.kind=chat")));
    assert!(
        call["baggage"].as_str().unwrap().contains("iii.function.id=fake"),
        "{call}"
    );
}

/// Spans are not exported, so none of them is named to others: a trace goes on under the span that came in, as the case above
/// has it. In the log the span of a call is a child of its caller's.
#[tokio::test]
async fn c00_case_40_the_span_of_a_handler_is_a_child_and_names_the_session() {
    log::listen();
    let engine = FakeEngine::start(Script::default()).await;
    let program = echo_on(&engine, options(engine.address)).await;
    let weak = program.downgrade();
    let outer = move |payload: Value, context: CallContext| {
        let bus = weak.upgrade().unwrap();
        async move {
            bus.invoke(&context, "test::echo", payload, CallOptions::default())
                .await
        }
    };
    program
        .register(FunctionDef::ad_hoc("traced::outer", outer))
        .unwrap();
    program.transport().settle().await.unwrap();
    let beside = json!({ "traceparent": TRACE, "baggage": "iii.session.id=S" });
    engine
        .invoke("traced::outer", json!({}), beside, LIMIT)
        .await
        .unwrap();
    let span = |function: &str, under: Option<&str>| Span {
        function: function.into(),
        session: "S".into(),
        under: under.map(str::to_owned),
    };
    assert_eq!(
        log::spans("traced::outer"),
        [
            span("traced::outer", None),
            span("test::echo", Some("traced::outer"))
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c00_case_35_large_payloads_arrive_or_are_refused_here() {
    let engine = Served::start().await;
    let program = join(engine.options(), Vec::new()).await;
    let length = |payload: Value, _| async move { Ok(json!(payload.as_str().unwrap().len())) };
    engine
        .bus
        .register(FunctionDef::ad_hoc("test::length", length))
        .unwrap();
    program
        .register(FunctionDef::ad_hoc(
            "test::large",
            |payload: Value, _| async move {
                Ok(json!(
                    "y".repeat(usize::try_from(payload.as_u64().unwrap()).unwrap())
                ))
            },
        ))
        .unwrap();
    program.transport().settle().await.unwrap();
    let before = *program.link().borrow();

    let size = 17 << 20;
    let sent = super::call_within(&program, "test::length", json!("x".repeat(size)), 60_000).await;
    assert_eq!(sent, Ok(json!(size)));
    let answered = super::call_within(&engine.bus, "test::large", json!(size), 60_000).await;
    assert_eq!(answered.unwrap().as_str().unwrap().len(), size);

    let refused = super::call_within(&program, "test::length", json!("x".repeat(70 << 20)), 60_000).await;
    assert_eq!(refused.unwrap_err().wire_code(), "payload_too_large");
    let refused = super::call_within(&engine.bus, "test::large", json!(70 << 20), 60_000).await;
    assert_eq!(refused.unwrap_err().wire_code(), "payload_too_large");

    assert_eq!(call(&engine.bus, "test::large", json!(3)).await, Ok(json!("yyy")));
    assert_eq!(*program.link().borrow(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_handler_holds_nobody_up() {
    let engine = FakeEngine::start(Script::default()).await;
    let program = echo_on(&engine, options(engine.address)).await;
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let busy = move |_, _| {
        let wait = Arc::clone(&wait);
        async move {
            // A handler that computes and never yields.
            wait.lock().unwrap().recv().unwrap();
            Ok(Value::Null)
        }
    };
    program.register(FunctionDef::ad_hoc("test::busy", busy)).unwrap();
    program.transport().settle().await.unwrap();
    let blocked = engine.invoke("test::busy", json!({}), json!({}), LIMIT);
    let quick = async {
        let answer = engine.invoke("test::echo", json!(7), json!({}), LIMIT).await;
        go.send(()).unwrap();
        answer.unwrap()["result"].clone()
    };
    let (blocked, quick) = within(futures::future::join(blocked, quick)).await;
    assert_eq!((blocked.is_some(), quick), (true, json!(7)));
}
