//! Whose function is called, and what a connection leaves behind (contract 00 §1.5, §1.7, §2.1).

use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Open, eventually};

async fn worker_of(open: &Open, function: &str) -> Value {
    let info = open
        .engine
        .call("engine::functions::info", json!({"function_id": function}))
        .await;
    info.map_or(Value::Null, |mut info| info["worker_name"].take())
}

#[tokio::test]
async fn c00_case_26_the_executor_goes_and_the_caller_learns_it_at_once() {
    let open = Open::start().await;
    let (mut host, mut caller) = (open.join().await, open.join().await);
    host.host(&["w::slow"]).await;
    let id = caller.begin("w::slow", json!({})).await;
    let ours = open.engine.call("w::slow", json!({}));
    let theirs = async {
        host.called("w::slow").await;
        host.called("w::slow").await;
        drop(host);
        caller.result(&id).await
    };
    let (ours, theirs) = tokio::join!(ours, theirs);
    assert_eq!(ours, Err(Error::Stopped));
    assert_eq!(
        theirs,
        json!({"error": {"code": "invocation_stopped", "message": "Invocation stopped"}})
    );
    assert_eq!(
        caller.call("w::slow", json!({})).await["error"]["code"],
        "function_not_found"
    );
}

#[tokio::test]
async fn c00_case_33_a_panic_is_answered() {
    let open = Open::start().await;
    open.engine
        .serve("p::panics", |_, _| async { panic!("on purpose") });
    let mut worker = open.join().await;
    let reply = worker.call("p::panics", json!({})).await;
    assert_eq!(
        reply,
        json!({"error": {"code": "invocation_failed", "message": "p::panics panicked: on purpose"}})
    );
    assert_eq!(worker.ok("state::list", json!({"scope": "x"})).await, json!([]));
}

#[tokio::test]
async fn a_caller_that_goes_leaves_its_executor_alone() {
    let open = Open::start().await;
    let (mut host, mut caller) = (open.join().await, open.join().await);
    host.host(&["w::f"]).await;
    caller.begin("w::f", json!(1)).await;
    let call = host.called("w::f").await;
    drop(caller);
    open.workers(1).await;
    host.answer(&call, json!("late")).await;
    host.host(&["w::g"]).await;
    assert_eq!(worker_of(&open, "w::g").await, "w");
}

#[tokio::test]
async fn the_last_to_register_is_called_and_nobody_is_restored() {
    let open = Open::start().await;
    let (mut first, mut second) = (open.join().await, open.join().await);
    first.host(&["w::f"]).await;
    second.host(&["w::f"]).await;
    let id = first.begin("w::f", json!(7)).await;
    let call = second.called("w::f").await;
    second.answer(&call, json!("second")).await;
    assert_eq!(first.result(&id).await, json!({"result": "second"}));
    second.leave().await;
    open.workers(1).await;
    assert_eq!(
        first.call("w::f", json!({})).await["error"]["code"],
        "function_not_found"
    );
}

#[tokio::test]
async fn a_function_of_the_program_is_lent_to_outside_callers_only() {
    let open = Open::start().await;
    open.engine.serve("p::f", |_, _| async { Ok(json!("inside")) });
    let (mut newcomer, mut caller) = (open.join().await, open.join().await);
    assert_eq!(caller.ok("p::f", json!({})).await, "inside");
    newcomer.host(&["p::f", "state::get"]).await;

    let id = caller.begin("p::f", json!({})).await;
    let call = newcomer.called("p::f").await;
    newcomer.answer(&call, json!("outside")).await;
    assert_eq!(caller.result(&id).await, json!({"result": "outside"}));
    assert_eq!(open.engine.ok("p::f", json!({})).await, "inside");
    assert_eq!(open.engine.get("s", "k").await, Value::Null);

    newcomer.leave().await;
    open.workers(1).await;
    assert_eq!(caller.ok("p::f", json!({})).await, "inside");
    assert_eq!(
        caller.call("state::get", json!({"scope": "s", "key": "k"})).await,
        json!({})
    );
}

#[tokio::test]
async fn a_binding_of_the_program_stays_with_the_program() {
    let open = Open::start().await;
    let mut seen = open.engine.watch("p::on", "state", json!({"scope": "d"})).await;
    let mut newcomer = open.join().await;
    newcomer.host(&["p::on"]).await;
    newcomer
        .bind("p::on", "state", "w::theirs", json!({"scope": "d"}))
        .await;
    assert_eq!(
        newcomer.untaken(),
        [json!({
            "type": "triggerregistrationresult", "id": "p::on", "trigger_type": "state", "function_id": "w::theirs",
            "error": {
                "code": "trigger_registration_failed",
                "message": "p::on is a binding of the engine's own program",
            },
        })]
    );
    newcomer
        .send(json!({"type": "unregistertrigger", "id": "p::on"}))
        .await;
    newcomer.settle().await;
    open.engine.set("d", "k", json!(1)).await;
    assert_eq!(seen.next().await["new_value"], 1);
}

#[tokio::test]
async fn unregistering_ends_a_function() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    worker.host(&["w::f", "w::g"]).await;
    worker
        .send(json!({"type": "unregisterfunction", "id": "w::f"}))
        .await;
    worker.settle().await;
    assert_eq!(worker_of(&open, "w::f").await, Value::Null);
    assert_eq!(worker_of(&open, "w::g").await, "w");
}

#[tokio::test]
async fn a_worker_says_who_it_is() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    worker
        .void(
            "engine::workers::register",
            json!({
                "name": " my\u{202e}worker\n", "description": "d", "runtime": "node", "version": "0.25.0", "os": "linux",
                "pid": 42, "isolation": null, "telemetry": {"language": "en"}, "namespace": "default",
            }),
        )
        .await;
    worker.host(&["f"]).await;
    let listed = worker
        .ok("engine::workers::list", json!({"runtime": "node"}))
        .await;
    assert_eq!(
        listed,
        json!({"workers": [{
            "name": "myworker", "description": "d", "version": "0.25.0", "id": worker.id(), "runtime": "node",
            "os": "linux", "status": "available", "function_count": 1, "connected_at_ms": crate::support::engine::NOW_MS,
            "active_invocations": 0, "isolation": null, "ip_address": "127.0.0.1",
        }]})
    );
    assert_eq!(worker_of(&open, "f").await, "myworker");
    assert_eq!(
        worker.call("engine::workers::register", json!({"pid": 42})).await,
        json!({"result": {"success": true}})
    );
}

#[tokio::test]
async fn calls_under_way_are_counted_with_who_runs_them() {
    let open = Open::start().await;
    let let_go = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let gate = std::sync::Arc::clone(&let_go);
    open.engine.serve("p::waits", move |_, _| {
        let gate = std::sync::Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(Value::Null)
        }
    });
    let (mut host, mut caller) = (open.join().await, open.join().await);
    host.void("engine::workers::register", json!({"name": "host", "pid": 1}))
        .await;
    host.host(&["w::f"]).await;
    let (first, second) = (
        caller.begin("w::f", json!({})).await,
        caller.begin("p::waits", json!({})).await,
    );
    let call = host.called("w::f").await;
    assert_eq!(active(&mut caller).await, [json!(1), json!(1)]);
    host.answer(&call, Value::Null).await;
    caller.result(&first).await;
    assert_eq!(active(&mut caller).await, [json!(1), json!(0)]);
    let_go.add_permits(1);
    caller.result(&second).await;
    assert_eq!(active(&mut caller).await, [json!(0), json!(0)]);
}

/// Of the program and of the worker `host`.
async fn active(worker: &mut crate::support::ws::Ws) -> [Value; 2] {
    let list = worker.ok("engine::workers::list", json!({})).await;
    let rows = list["workers"].as_array().unwrap();
    ["harness", "host"].map(|name| {
        let row = rows.iter().find(|row| row["name"] == name).unwrap();
        row["active_invocations"].clone()
    })
}

#[tokio::test]
async fn reattach_replaces_the_earlier_connection_before_anything_else() {
    let open = Open::start().await;
    let mut earlier = open.join().await;
    earlier.host(&["w::f", "w::old"]).await;
    earlier.bind("w/t", "state", "w::f", json!({"scope": "d"})).await;
    let mut later = open.join().await;
    let mut reattach = earlier.greeting.clone();
    reattach["type"] = json!("reattach");
    reattach["previous_worker_id"] = reattach["worker_id"].take();
    later.send(reattach).await;
    later.host(&["w::f"]).await;
    later.bind("w/t", "state", "w::f", json!({"scope": "d"})).await;
    assert_eq!(open.engine.embedded.workers_connected(), 1);
    assert_eq!(worker_of(&open, "w::old").await, Value::Null);

    open.engine.set("d", "k", json!(1)).await;
    assert_eq!(later.event("w::f").await["new_value"], 1);
    let ended = crate::support::ws::end_of(&mut earlier.socket).await;
    assert_eq!(ended.map(u16::from), Some(1000));
}

#[tokio::test]
async fn reattach_without_the_token_or_late_does_nothing() {
    let open = Open::start().await;
    let mut earlier = open.join().await;
    earlier.host(&["w::f"]).await;
    let (id, token) = (
        earlier.id().to_owned(),
        earlier.greeting["reattach_token"].clone(),
    );
    let reattach =
        |token: Value| json!({"type": "reattach", "previous_worker_id": id, "reattach_token": token});
    for token in [Value::Null, json!("wrong"), json!(7)] {
        let mut thief = open.join().await;
        thief.send(reattach(token)).await;
        thief.settle().await;
    }
    let mut late = open.join().await;
    late.settle().await;
    late.send(reattach(token)).await;
    late.settle().await;
    earlier.settle().await;
    assert_eq!(worker_of(&open, "w::f").await, "w");
}

#[tokio::test]
async fn the_news_of_workers() {
    let open = Open::start().await;
    let mut news = open
        .engine
        .watch("p::news", "engine::workers-available", json!({}))
        .await;
    let mut worker = open.join().await;
    worker.void("engine::workers::register", json!({"pid": 1})).await;
    let id = worker.id().to_owned();
    worker.settle().await;
    drop(worker);
    for event in [
        "worker_connected",
        "worker_metadata_updated",
        "worker_disconnected",
    ] {
        assert_eq!(news.next().await, json!({"event": event, "worker_id": id}));
    }
    eventually(|| open.engine.embedded.workers_connected() == 0).await;
}
