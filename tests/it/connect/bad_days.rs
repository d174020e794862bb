//! Engines that lose results, start slowly, lack parts, hang up or fall silent.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use harness::bus::iii::{Iii, IiiOptions};
use harness::bus::{Bus, CallContext, FunctionDef, Link, TriggerSpec, Write};
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{call, call_within, echo, echo_on, eventually, options, problem};
use crate::support::engine::{ports, within};
use crate::support::fake_engine::{FakeEngine, Script};

const LIMIT: Duration = Duration::from_secs(20);

fn losing(under: Duration) -> Script {
    Script {
        loses_under: under,
        ..Script::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c00_case_36_no_result_is_too_early() {
    const CALLS: u64 = 10_000;
    let engine = FakeEngine::start(losing(Duration::from_millis(1))).await;
    let _program = echo_on(&engine, options(engine.address)).await;
    let mut answers = futures::stream::iter(0..CALLS)
        .map(|number| engine.invoke("test::echo", json!(number), json!({}), LIMIT))
        .buffer_unordered(64);
    let mut sum = 0;
    while let Some(answer) = answers.next().await {
        sum += answer.expect("a result was lost")["result"].as_u64().unwrap();
    }
    assert_eq!((sum, engine.lost()), (CALLS * (CALLS - 1) / 2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_holding_back_results_are_lost() {
    let engine = FakeEngine::start(losing(Duration::from_mins(1))).await;
    let options = IiiOptions {
        result_holdback: Duration::ZERO,
        ..options(engine.address)
    };
    let _program = echo_on(&engine, options).await;
    let lost = engine.invoke("test::echo", json!(1), json!({}), Duration::from_millis(300));
    assert_eq!(lost.await, None);
    eventually(|| engine.lost() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_waits_for_an_engine_that_is_not_there_yet() {
    let address = FakeEngine::start(Script::default()).await.address;
    let bus = Bus::new(ports(), Iii::new(options(address)));
    bus.register(echo("test::echo")).unwrap();
    let appearing = async {
        eventually(|| problem(&bus).is_some_and(|problem| problem.contains("Connection refused"))).await;
        FakeEngine::at(address, Script::default()).await
    };
    let (hosted, engine) = within(futures::future::join(bus.host(Vec::new()), appearing)).await;
    assert_eq!(hosted, Ok(Vec::new()));
    assert!(engine.hosts("harness", "test::echo"));
    assert_eq!(problem(&bus), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_an_engine_ends_with_the_program() {
    let address = FakeEngine::start(Script::default()).await.address;
    let bus = Bus::new(ports(), Iii::new(options(address)));
    let starting = bus.host(Vec::new());
    bus.shutdown_token().cancel();
    assert_eq!(within(starting).await, Err(Error::Stopped));
    within(bus.shutdown(LIMIT)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_that_are_missing_are_named_and_looked_for_again() {
    let script = Script {
        functions: vec!["state::set"],
        types: vec!["state"],
        ..Script::default()
    };
    let engine = FakeEngine::start(script).await;
    let program = echo_on(&engine, options(engine.address)).await;
    let transport = program.transport();
    assert_eq!(transport.missing(), ["stream", "configuration", "queue", "cron"]);
    // Turns need none of them.
    assert_eq!(problem(&program), None);
    assert_eq!(call(&program, "fake::echo", json!(1)).await, Ok(json!(1)));

    engine.rescript(|script| {
        *script = Script {
            functions: vec![],
            ..Script::default()
        }
    });
    eventually(|| transport.missing() == ["state", "stream", "configuration", "queue"]).await;
    assert_eq!(
        problem(&program).as_deref(),
        Some("the engine has no state worker")
    );
    engine.rescript(|script| *script = Script::default());
    eventually(|| transport.missing().is_empty()).await;
    assert_eq!(problem(&program), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_is_starting_is_waited_for() {
    let script = Script {
        functions: vec!["stream::set", "configuration::register", "engine::queue::enqueue"],
        ..Script::default()
    };
    let engine = FakeEngine::start(script).await;
    let program = echo_on(&engine, options(engine.address)).await;
    let early = call(&program, "state::set", json!({}));
    let later = async {
        eventually(|| {
            engine
                .frames("invokefunction")
                .iter()
                .filter(|frame| frame["function_id"] == "state::set")
                .count()
                >= 2
        })
        .await;
        engine.rescript(|script| script.functions.push("state::set"));
    };
    let (outcome, ()) = futures::future::join(early, later).await;
    assert_eq!(outcome, Ok(json!({ "old_value": null, "new_value": null })));
    // Not what is of nobody: that is an answer.
    assert_eq!(
        call(&program, "no::such", json!({}))
            .await
            .unwrap_err()
            .wire_code(),
        "function_not_found"
    );
}

/// Whatever the code: the store may answer later, and what is to be written must not be lost for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_write_may_be_repeated_unless_it_is_too_large() {
    let engine = FakeEngine::start(Script::default()).await;
    let program = echo_on(&engine, options(engine.address)).await;
    let commit = async |code: &'static str| {
        for function in ["stream::set", "state::set"] {
            engine.rescript(|script| script.fails = Some((function, code)));
            let set = |key: &str| Write::StateSet {
                scope: "turn_state".into(),
                key: key.into(),
                value: Arc::new(json!({})),
            };
            let event = Write::StreamSet {
                stream: "agent::events".into(),
                group: "s1".into(),
                item: "1".into(),
                data: Arc::new(json!({})),
            };
            let outcome = program.transport().commit(vec![event, set("s1")]).await;
            let error = outcome.unwrap_err();
            assert_eq!(
                error.is_retryable(),
                code != "payload_too_large",
                "{function} {error}"
            );
        }
    };
    commit("some_code_of_theirs").await;
    commit("payload_too_large").await;
    engine.rescript(|script| script.fails = Some(("state::get", "some_code_of_theirs")));
    let context = CallContext::default();
    let read = program.scope(&context, "turn_state").get("s1").await;
    assert_eq!(read, Err(Error::store("state::get turn_state", "not now")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_binding_is_named() {
    let script = Script {
        refuses_binding: Some("test::echo"),
        ..Script::default()
    };
    let engine = FakeEngine::start(script).await;
    let program = echo_on(&engine, options(engine.address)).await;
    let spec = TriggerSpec::new("cron", "test::echo", json!({ "expression": "x" }));
    program.transport().bind(spec).await.unwrap();
    program.transport().settle().await.unwrap();
    assert_eq!(
        problem(&program).as_deref(),
        Some("not bound: cron for test::echo")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_engine_is_only_slow() {
    let script = Script {
        delay: Duration::from_millis(50),
        ..Script::default()
    };
    let engine = FakeEngine::start(script).await;
    let options = IiiOptions {
        heartbeat: Duration::from_secs(5),
        ..options(engine.address)
    };
    let program = echo_on(&engine, options).await;
    let calls = (0..50).map(|number| call(&program, "fake::echo", json!(number)));
    let answers = futures::future::join_all(calls).await;
    let expected: Vec<_> = (0..50).map(|number| Ok(json!(number))).collect();
    assert_eq!(answers, expected);
    // The visit and the program's own.
    assert_eq!(engine.connections(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_calls_fail_at_once_and_unsent_ones_wait_for_the_next_connection() {
    let engine = FakeEngine::start(Script::default()).await;
    let program = echo_on(&engine, options(engine.address)).await;
    let mut link = program.link();
    assert_eq!(*link.borrow_and_update(), Link::Up(1));
    let pending = call_within(&program, "fake::silent", json!({}), 600_000);
    let cut = async {
        eventually(|| {
            engine
                .frames("invokefunction")
                .iter()
                .any(|frame| frame["function_id"] == "fake::silent")
        })
        .await;
        engine.hang_up();
    };
    let (outcome, ()) = within(futures::future::join(pending, cut)).await;
    assert_eq!(outcome, Err(Error::Disconnected));
    assert_eq!(*link.borrow_and_update(), Link::Down);
    let why = format!("no connection to {}: the connection was lost", engine.url());
    assert_eq!(problem(&program), Some(why));
    // Not sent yet, so nothing can happen twice.
    assert_eq!(within(call(&program, "fake::echo", json!(5))).await, Ok(json!(5)));
    assert_eq!(*link.borrow_and_update(), Link::Up(2));
    assert_eq!(engine.frames("reattach").len(), 1);
    let answer = engine
        .invoke("test::echo", json!(6), json!({}), LIMIT)
        .await
        .unwrap();
    assert_eq!(answer["result"], 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_connection_is_bounded_in_time_and_number() {
    let engine = FakeEngine::start(Script::default()).await;
    let program = echo_on(&engine, options(engine.address)).await;
    drop(engine);
    eventually(|| *program.link().borrow() == Link::Down).await;
    let calls = (0..2_000).map(|number| call_within(&program, "fake::echo", json!(number), 60_000));
    let outcomes = within(futures::future::join_all(calls)).await;
    assert_eq!(outcomes.len(), 2_000);
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == Err(Error::Disconnected))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_connection_is_noticed() {
    let engine = FakeEngine::start(Script::default()).await;
    let options = IiiOptions {
        heartbeat: Duration::from_millis(200),
        ..options(engine.address)
    };
    let program = echo_on(&engine, options).await;
    engine.rescript(|script| script.is_mute = true);
    let pending = within(call_within(&program, "fake::echo", json!(1), 600_000)).await;
    assert_eq!(pending, Err(Error::Disconnected));
    let why = format!("no connection to {}: the engine does not answer", engine.url());
    assert!(
        problem(&program).unwrap().starts_with(&why),
        "{:?}",
        problem(&program)
    );
    engine.rescript(|script| script.is_mute = false);
    eventually(|| problem(&program).is_none()).await;
    assert_eq!(call(&program, "fake::echo", json!(2)).await, Ok(json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_of_an_earlier_connection_is_not_sent_on_the_next() {
    let engine = FakeEngine::start(Script::default()).await;
    let program = echo_on(&engine, options(engine.address)).await;
    let door = crate::support::stub::Door::closed();
    let waits = door.clone();
    let handler = move |_: Value, _| {
        let door = waits.clone();
        async move {
            door.pass().await;
            Ok(json!("x".repeat(1 << 20)))
        }
    };
    program
        .register(FunctionDef::ad_hoc("test::slow", handler))
        .unwrap();
    program.transport().settle().await.unwrap();
    let abandoned = engine.invoke("test::slow", json!({}), json!({}), Duration::from_millis(50));
    assert_eq!(abandoned.await, None);
    engine.hang_up();
    eventually(|| *program.link().borrow() == Link::Down).await;
    door.open();
    eventually(|| *program.link().borrow() == Link::Up(2)).await;
    eventually(|| !engine.frames("invocationresult").is_empty()).await;
    let results = engine.frames("invocationresult");
    assert_eq!(results[0]["error"]["code"], "invocation_stopped");
}
