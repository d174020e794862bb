//! Calls both ways, state, events, queue, batches.

use std::time::Duration;

use harness::bus::{CallContext, CallOptions, FunctionDef, TriggerSpec, Write};
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Served, join};
use crate::support::engine::within;

async fn call(bus: &harness::bus::Bus, id: &str, payload: Value) -> Result<Value, Error> {
    bus.invoke(&CallContext::default(), id, payload, CallOptions::default())
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_both_ways() {
    let engine = Served::start().await;
    let program = join(engine.options(), Vec::new()).await;
    program
        .register(FunctionDef::ad_hoc("test::echo", |payload, _| async move {
            Ok(payload)
        }))
        .unwrap();
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
