//! An engine that is restarted under a program at work.

use std::sync::Arc;
use std::time::Duration;

use harness::bus::iii::{Iii, IiiOptions};
use harness::bus::{Bus, Link, Transport};
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::{Served, call, call_within, echo, eventually, join};
use crate::support::engine::within;
use crate::support::stub::{Door, Out, Stub, says};
use crate::support::{TestBus, TestOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c00_case_37_serving_again_after_a_restart() {
    let engine = Served::start().await;
    let address = engine.address;
    let program = join(engine.options(), Vec::new()).await;
    program.register(echo("test::echo")).unwrap();
    let spec = harness::bus::TriggerSpec::new("state", "test::echo", json!({ "scope": "s" }));
    program.transport().bind(spec).await.unwrap();
    program.transport().settle().await.unwrap();
    let door = Door::closed();
    let waits = door.clone();
    let hangs = move |_, _| {
        let door = waits.clone();
        async move {
            door.pass().await;
            Ok(Value::Null)
        }
    };
    engine
        .bus
        .register(harness::bus::FunctionDef::ad_hoc("test::hangs", hangs))
        .unwrap();
    let pending = call_within(&program, "test::hangs", json!({}), 600_000);
    let stopping = async {
        // The engine's own wait for its handler ends when the door opens.
        tokio::task::yield_now().await;
        let stopped = engine.bus.shutdown(Duration::ZERO).await;
        door.open();
        stopped
    };
    let (outcome, _) = within(futures::future::join(pending, stopping)).await;
    assert_eq!(outcome.unwrap_err(), Error::Disconnected);
    drop(engine);

    let engine = Served::at(address, None).await;
    eventually(|| matches!(*program.link().borrow(), Link::Up(2))).await;
    assert_eq!(call(&engine.bus, "test::echo", json!(2)).await, Ok(json!(2)));
    let bound = call(
        &engine.bus,
        "engine::registered-triggers::list",
        json!({ "worker": "harness" }),
    )
    .await
    .unwrap();
    assert_eq!(bound["registered_triggers"].as_array().unwrap().len(), 1);
}

/// The model's answer is cut by the restart of the engine; the turn is finished all the same, and ends once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_turn_survives_a_restart_of_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let engine = Served::at("127.0.0.1:0".parse().unwrap(), Some(data.clone())).await;
    let address = engine.address;
    let options = engine.options();
    let t = TestBus::with(TestOptions {
        wrap: Box::new(move |_| Iii::new(options) as Arc<dyn Transport>),
        ..TestOptions::default()
    })
    .await;
    let door = Door::closed();
    let held = door.clone();
    let stub = Stub::register(&t, move |_, _| {
        let mut out = says(&["hello"]);
        out.insert(1, Out::Wait(held.clone()));
        out
    });
    t.ok(
        "run::start",
        json!({
            "session_id": "s", "provider": "stub", "model": "m",
            "messages": [{ "role": "user", "content": [{ "type": "text", "text": "hi" }], "timestamp": 1 }],
        }),
    )
    .await;
    eventually(|| stub.requests().len() == 1).await;
    engine.stop().await;
    eventually(|| *t.bus().link().borrow() == Link::Down).await;
    door.open();
    let engine = Served::at(address, Some(data)).await;
    let events = t.ended("s", 1).await;
    let ends = events.iter().filter(|event| event["type"] == "agent_end").count();
    assert_eq!(ends, 1, "{events:#?}");
    let entries = call(
        &engine.bus,
        "session-tree::messages",
        json!({ "session_id": "s" }),
    )
    .await
    .unwrap();
    let roles: Vec<&str> = entries["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["message"]["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["user", "assistant"]);
    // The configuration entry is known to the new engine too.
    let entry = call(&engine.bus, "configuration::get", json!({ "id": "harness" })).await;
    assert!(entry.is_ok(), "{entry:?}");
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Which of two programs are on an engine.
async fn names(engine: &Bus) -> Vec<Value> {
    let listed = call(engine, "engine::workers::list", json!({})).await.unwrap();
    let workers = listed["workers"].as_array().unwrap().iter();
    let names = workers.map(|worker| worker["name"].clone());
    let are_ours = |name: &Value| name == "harness" || name == "witness";
    names.filter(are_ours).collect()
}

async fn until_only(engine: &Bus, name: &str) {
    within(async {
        while names(engine).await != [name] {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Nobody stops it: its runtime just ends, as that of a test that failed does. The SDK has a thread of its own.
#[test]
fn a_transport_that_is_dropped_joins_no_engine_any_more() {
    let outside = runtime();
    let (engine, witness) = outside.block_on(async {
        let engine = Served::start().await;
        let options = IiiOptions {
            worker_name: "witness".to_owned(),
            ..engine.options()
        };
        let witness = join(options, Vec::new()).await;
        (engine, witness)
    });
    let life = runtime();
    let program = life.block_on(join(engine.options(), Vec::new()));
    assert_eq!(outside.block_on(names(&engine.bus)).len(), 2);
    drop(program);
    drop(life);
    outside.block_on(async {
        until_only(&engine.bus, "witness").await;
        let address = engine.address;
        engine.stop().await;
        // Who lives comes back to an engine that appears there later.
        let later = Served::at(address, None).await;
        eventually(|| matches!(*witness.link().borrow(), Link::Up(2))).await;
        until_only(&later.bus, "witness").await;
    });
}

/// A program that starts is never heard to say that a stored key is not there, whether its engine stayed or restarted too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c09_case_13_14_a_key_is_there_from_the_first_answer_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = || Some(dir.path().join("data"));
    let mut engine = Served::at("127.0.0.1:0".parse().unwrap(), data()).await;
    let address = engine.address;
    let start = |engine: &Served| join(engine.options(), vec![harness::workers::harness::worker()]);
    let stop = async |program: harness::bus::Bus| assert!(program.shutdown(Duration::from_secs(5)).await);
    let value =
        json!({"permissions": {"default_mode": "full"}, "providers": {"openai": {"api_key": "sk-kept"}}});
    let program = start(&engine).await;
    let edit = json!({ "id": "harness", "value": value });
    call(&engine.bus, "configuration::set", edit).await.unwrap();
    stop(program).await;
    for restarts in [false, true] {
        if restarts {
            engine.stop().await;
            engine = Served::at(address, data()).await;
        }
        let asks = async {
            let mut heard = Vec::new();
            while heard.len() < 20 {
                let request = json!({ "provider": "openai" });
                match call(&engine.bus, "harness::provider::resolve", request).await {
                    Err(error) if error.is_function_not_found() => tokio::task::yield_now().await,
                    answer => heard.push(answer.unwrap()["credential"]["key"].take()),
                }
            }
            heard
        };
        let (heard, program) = within(async { tokio::join!(asks, start(&engine)) }).await;
        assert_eq!(heard, vec![json!("sk-kept"); 20]);
        let entry = call(
            &engine.bus,
            "configuration::get",
            json!({ "id": "harness", "raw": true }),
        )
        .await;
        assert_eq!(entry.unwrap()["value"], value);
        stop(program).await;
    }
    engine.stop().await;
}
