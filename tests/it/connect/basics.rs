//! Calls both ways, state, events, queue, batches.

use std::time::Duration;

use harness::bus::{CallContext, FunctionDef, TriggerSpec, Write};
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Served, call, echo, join};
use crate::support::engine::within;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_both_ways() {
    let engine = Served::start().await;
    let program = join(engine.options(), Vec::new()).await;
    program.register(echo("test::echo")).unwrap();
    program.transport().settle().await.unwrap();
    let echoed = call(&engine.bus, "test::echo", json!({"a": [1, null]})).await;
    assert_eq!(echoed, Ok(json!({"a": [1, null]})));

    let set = json!({"scope": "s", "key": "k", "value": 1});
    assert_eq!(
        call(&program, "state::set", set).await,
        Ok(json!({"old_value": null, "new_value": 1}))
    );
    assert_eq!(
        call(&engine.bus, "state::get", json!({"scope": "s", "key": "k"})).await,
        Ok(json!(1))
    );
    assert_eq!(
        call(&program, "no::such", json!({}))
            .await
            .unwrap_err()
            .to_string(),
        "Function no::such not found"
    );
    assert!(program.shutdown(Duration::from_secs(5)).await);
    assert_eq!(
        call(&engine.bus, "test::echo", json!({})).await,
        Err(Error::FunctionNotFound("test::echo".into()))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_batches_arrive() {
    let engine = Served::start().await;
    let program = join(engine.options(), Vec::new()).await;
    let (sender, mut events) = mpsc::channel(64);
    program
        .register(FunctionDef::ad_hoc("test::on_state", move |payload, _| {
            let sender = sender.clone();
            async move {
                sender.send(payload).await.unwrap();
                Ok(Value::Null)
            }
        }))
        .unwrap();
    let spec = TriggerSpec::new("state", "test::on_state", json!({"scope": "s"}));
    program.transport().bind(spec).await.unwrap();
    program.transport().settle().await.unwrap();
    let set = |key: &str, value: Value| Write::StateSet {
        scope: "s".into(),
        key: key.into(),
        value: value.into(),
    };
    let writes = vec![
        set("a", json!(1)),
        set("a", json!(2)),
        set("record", json!("done")),
    ];
    program.transport().commit(writes).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let event = within(events.recv()).await.unwrap();
        seen.push((event["key"].clone(), event["new_value"].clone()));
    }
    seen.sort_by_key(|(key, value)| (key.to_string(), value.to_string()));
    assert_eq!(
        seen,
        [
            (json!("a"), json!(1)),
            (json!("a"), json!(2)),
            (json!("record"), json!("done")),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_come_back() {
    let engine = Served::start().await;
    let program = join(engine.options(), Vec::new()).await;
    let (sender, mut jobs) = mpsc::channel(4);
    program
        .register(FunctionDef::ad_hoc("test::job", move |payload, _| {
            let sender = sender.clone();
            async move {
                sender.send(payload).await.unwrap();
                Ok(Value::Null)
            }
        }))
        .unwrap();
    program.transport().settle().await.unwrap();
    let receipt = program
        .enqueue(&CallContext::default(), "default", "test::job", json!({"n": 1}))
        .await
        .unwrap();
    assert!(receipt["messageReceiptId"].is_string(), "{receipt}");
    assert_eq!(within(jobs.recv()).await, Some(json!({"n": 1})));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_come_and_go_after_the_start() {
    let engine = Served::start().await;
    let program = join(engine.options(), Vec::new()).await;
    for _ in 0..3 {
        program.register(echo("test::echo")).unwrap();
        assert_eq!(
            program.register(echo("test::echo")).unwrap_err().to_string(),
            "cannot register test::echo: the id is already registered"
        );
        program.transport().settle().await.unwrap();
        assert_eq!(call(&engine.bus, "test::echo", json!(1)).await, Ok(json!(1)));
        program.unregister("test::echo");
        program.transport().settle().await.unwrap();
        assert_eq!(
            call(&engine.bus, "test::echo", json!(1)).await,
            Err(Error::FunctionNotFound("test::echo".into()))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_program_registers_before_it_is_started() {
    let engine = Served::start().await;
    let program = join(engine.options(), harness::workers::all()).await;
    let info = call(&engine.bus, "engine::workers::info", json!({"name": "harness"}))
        .await
        .unwrap();
    let listed = info["functions"].as_array().unwrap().len();
    assert_eq!(listed, program.functions().len());
    assert_eq!(info["worker"]["runtime"], "rust");
    assert_eq!(info["worker"]["version"], env!("CARGO_PKG_VERSION"));
    for function in program.catalog() {
        let shown = call(
            &engine.bus,
            "engine::functions::info",
            json!({"function_id": function.id}),
        )
        .await
        .unwrap();
        let description = shown.get("description").and_then(Value::as_str);
        assert_eq!(description.unwrap_or_default(), function.description);
        assert_eq!(shown["request_schema"], json!(function.request_schema));
        assert_eq!(shown["response_schema"], json!(function.response_schema));
        assert_eq!(shown.get("metadata").cloned(), function.metadata);
        assert_eq!(shown["worker_name"], "harness");
    }
    let bindings = json!({"worker": "harness"});
    let bound = call(&engine.bus, "engine::registered-triggers::list", bindings)
        .await
        .unwrap();
    let bound = bound["registered_triggers"].as_array().unwrap().len();
    let wanted: usize = harness::workers::all()
        .iter()
        .map(|worker| worker.triggers.len())
        .sum();
    assert_eq!(bound, wanted);
    let transport = program.transport();
    assert_eq!((transport.info().problem, transport.missing()), (None, vec![]));
}
