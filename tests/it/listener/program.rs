//! Outside workers and the program: agents call them, browsers watch.

use std::collections::HashMap;
use std::sync::Arc;

use harness::app::{App, Parts};
use harness::config::{Config, EngineChoice, MapEnv};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::stub::{calls_then_ends, says};
use crate::support::ws::Ws;
use crate::turn::{Rig, run, said};

/// What the Node client sends when it connects: itself first, then types, functions and triggers.
async fn join_like_node(rig: &Rig, functions: &[&str]) -> Ws {
    let mut worker = Ws::join(rig.t.listen().await).await;
    worker
        .void(
            "engine::workers::register",
            json!({
                "runtime": "node", "version": "0.25.0", "name": "tools", "os": "linux x64", "pid": 4711,
                "telemetry": {"language": "en-US", "framework": "none"}, "isolation": null,
            }),
        )
        .await;
    worker
        .send(json!({"type": "registerservice", "id": "tools", "name": "tools"}))
        .await;
    for id in functions {
        worker
            .send(json!({
                "type": "registerfunction", "id": id, "description": "A tool",
                "request_format": {"type": "object"}, "response_format": null, "metadata": null,
            }))
            .await;
    }
    worker.settle().await;
    worker
}

#[tokio::test]
async fn an_agent_calls_a_function_of_a_node_worker() {
    let payload = json!({"a": 1, "b": 2});
    let rig = Rig::allowing(calls_then_ends(vec![("c1", "outside::add", payload.clone())])).await;
    let mut worker = join_like_node(&rig, &["outside::add"]).await;
    assert_eq!(
        worker.ok("run::start", run("s1")).await,
        json!({"session_id": "s1", "started": true})
    );
    let call = worker.called("outside::add").await;
    assert_eq!(call["data"], payload);
    assert!(
        call["baggage"].as_str().unwrap().contains("iii.session.id=s1"),
        "{call}"
    );
    worker.answer(&call, json!({"sum": 3})).await;
    rig.t.ended("s1", 1).await;
    let lines: Vec<String> = rig.transcript("s1").await.iter().map(said).collect();
    assert_eq!(
        lines,
        [
            "user hi",
            "assistant calls outside::add",
            "c1 {\"sum\":3}",
            "assistant done"
        ]
    );
}

#[tokio::test]
async fn an_agent_learns_that_the_worker_died() {
    let rig = Rig::allowing(calls_then_ends(vec![("c1", "outside::add", json!({}))])).await;
    let mut worker = join_like_node(&rig, &["outside::add"]).await;
    worker.ok("run::start", run("s1")).await;
    worker.called("outside::add").await;
    drop(worker);
    rig.t.ended("s1", 1).await;
    let transcript = rig.transcript("s1").await;
    assert_eq!(transcript.len(), 4);
    assert_eq!(transcript[2]["is_error"], true);
}

/// What the Python client sends: binary telemetry on the same socket, functions before itself, nulls for what it has not.
#[tokio::test]
async fn a_python_worker_calls_and_is_called() {
    let rig = Rig::allowing(|_, _| says(&["hello"])).await;
    let mut worker = Ws::join(rig.t.listen().await).await;
    worker
        .send(json!({"type": "reattach", "previous_worker_id": "00000000-0000-4000-8000-000000000000"}))
        .await;
    worker.binary(b"OTLP{\"resourceSpans\":[]}").await;
    worker
        .send(json!({
            "type": "registerfunction", "id": "py::work", "description": null, "request_format": null,
            "response_format": null, "metadata": null, "invocation": null,
        }))
        .await;
    let me = json!({"runtime": "python", "version": "0.22.0", "name": null, "os": "linux", "pid": 7});
    assert_eq!(
        worker.call("engine::workers::register", me).await,
        json!({"result": {"success": true}})
    );
    worker
        .send(json!({
            "type": "registertrigger", "id": "py/t", "trigger_type": "state", "function_id": "py::work",
            "config": {"scope": "work"}, "metadata": null,
        }))
        .await;
    worker
        .ok("state::set", json!({"scope": "work", "key": "k", "value": 1}))
        .await;
    assert_eq!(worker.event("py::work").await["new_value"], 1);
    assert_eq!(
        worker.call("run::start", json!({"session_id": "s1"})).await["error"]["code"],
        "invocation_failed"
    );
    worker.ok("run::start", run("s1")).await;
    rig.t.ended("s1", 1).await;
}

#[tokio::test]
async fn a_browser_gets_its_pushes_and_the_stream() {
    let rig = Rig::allowing(|_, _| says(&["he", "llo"])).await;
    let mut browser = Ws::join(rig.t.listen().await).await;
    browser
        .host(&["ui::session::event::b1", "ui::on-stream::b1"])
        .await;
    let config = json!({"stream_name": "agent::events", "group_id": "s1"});
    browser
        .bind("b1/stream", "stream", "ui::on-stream::b1", config)
        .await;
    let subscribed = browser
        .ok("ui::subscribe", json!({"browser_id": "b1", "session_id": "s1"}))
        .await;
    assert_eq!(subscribed, json!({"ok": true, "total_browsers": 1}));
    browser.ok("run::start", run("s1")).await;

    let (mut pushed, mut streamed) = (Vec::new(), Vec::new());
    while last(&pushed) != "agent_end" {
        let push = browser.event("ui::session::event::b1").await;
        assert_eq!(push["session_id"], "s1");
        pushed.push(push["event"].clone());
    }
    while last(&streamed) != "agent_end" {
        let item = browser.event("ui::on-stream::b1").await;
        assert_eq!(
            (&item["type"], &item["groupId"]),
            (&json!("stream"), &json!("s1"))
        );
        streamed.push(item["event"]["data"].clone());
    }
    assert_eq!(streamed, rig.t.events("s1").await);
    assert_eq!(types(&pushed), types(&streamed));
}

fn types(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

fn last(events: &[Value]) -> &str {
    events.last().map_or("", |event| event["type"].as_str().unwrap())
}

fn parts(dir: &std::path::Path, listen: &str) -> Parts {
    let mut config = Config::default();
    config.http.listen = String::new();
    config.engine.listen = listen.into();
    config.engine.data_dir = dir.join("data").to_string_lossy().into_owned().into();
    config.permissions_path = dir.join("iii-permissions.yaml");
    Parts {
        config,
        engine: EngineChoice::Embedded {
            reason: "test".into(),
        },
        env: Arc::new(MapEnv(HashMap::new())),
        workers: harness::workers::all(),
    }
}

#[tokio::test]
async fn the_program_listens_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start(parts(dir.path(), "127.0.0.1:0")).await.unwrap();
    let mut worker = Ws::join(app.listener().unwrap()).await;
    let listed = worker
        .ok("engine::workers::list", json!({"search": "harness"}))
        .await;
    assert_eq!(listed["workers"][0]["name"], "harness");
    assert!(app.stop().await);
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_the_key() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let error = App::start(parts(dir.path(), &address)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("worker listener: cannot listen on {address} (engine.listen)")
    );
}
