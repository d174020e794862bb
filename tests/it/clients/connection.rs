//! How the official Rust SDK gets in, is sent away, and comes back.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::bus::embedded::listener::ListenOptions;
use iii_sdk::errors::Error;
use pretty_assertions::assert_eq;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::worker::Worker;
use crate::listener::{Open, eventually};
use crate::support::engine::within;

/// Between a worker and the engine. When it is cut, the worker loses its connection and the engine does not notice.
struct Line {
    address: SocketAddr,
    cut: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl Line {
    async fn to(engine: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, mut tasks) = (Arc::new(Notify::new()), JoinSet::new());
        let notice = Arc::clone(&cut);
        tasks.spawn(async move {
            let half_open = Arc::new(Mutex::new(Vec::new()));
            let mut connections = JoinSet::new();
            loop {
                let (mut worker, _) = listener.accept().await.unwrap();
                let (cut, half_open) = (Arc::clone(&notice), Arc::clone(&half_open));
                connections.spawn(async move {
                    let mut engine = TcpStream::connect(engine).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut worker, &mut engine) => {}
                        () = cut.notified() => half_open.lock().unwrap().push(engine),
                    }
                });
            }
        });
        Self {
            address,
            cut,
            _tasks: tasks,
        }
    }
}

#[tokio::test]
async fn it_comes_back_in_its_own_place() {
    let open = Open::start().await;
    let line = Line::to(open.address).await;
    let worker = Worker::join(&format!("ws://{}", line.address), "w");
    let mut events = worker.record("w::on");
    worker.bind("state", "w::on", json!({ "scope": "d" }));
    assert_eq!(worker.ok("state::list", json!({ "scope": "x" })).await, json!([]));
    let first = open
        .engine
        .ok("engine::workers::list", json!({ "search": "w" }))
        .await["workers"][0]["id"]
        .clone();

    line.cut.notify_waiters();
    // Its functions stay listed with the dead connection until it is back, with the same name and another id.
    let back = async {
        loop {
            let list = open
                .engine
                .ok("engine::workers::list", json!({ "runtime": "rust" }))
                .await;
            let rows = list["workers"].as_array().unwrap();
            let again = rows.iter().find(|row| row["name"] == "w" && row["id"] != first);
            if again.is_some_and(|row| row["function_count"] == 1) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(back).await;
    eventually(|| open.engine.embedded.workers_connected() == 1).await;
    assert_eq!(worker.ok("state::list", json!({ "scope": "x" })).await, json!([]));

    // One binding, one event.
    open.engine.set("d", "k", json!(1)).await;
    open.engine.set("d", "k", json!(2)).await;
    assert_eq!(events.next().await["new_value"], 1);
    assert_eq!(events.next().await["new_value"], 2);
    worker.leave().await;
}

#[tokio::test]
async fn it_shows_its_token() {
    let options = ListenOptions {
        token: Some("s3cret".to_owned().into()),
        ..ListenOptions::default()
    };
    let open = Open::with(options).await;
    let url = format!("ws://{}", open.address);
    let header = ("authorization".to_owned(), "Bearer s3cret".to_owned());
    let worker = Worker::with(&url, "w", |options| {
        options.headers = Some(HashMap::from([header]));
    });
    assert_eq!(worker.ok("state::list", json!({ "scope": "x" })).await, json!([]));
    worker.leave().await;
}

#[tokio::test]
async fn it_stops_when_its_namespace_is_not_there() {
    let open = Open::start().await;
    let url = format!("ws://{}", open.address);
    let worker = Worker::with(&url, "w", |options| options.namespace = Some("other".to_owned()));
    let rejected = within(async {
        loop {
            if let Some(error) = worker.sdk.fatal_error() {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let Error::RegistrationRejected {
        code,
        namespace,
        worker_name,
        ..
    } = rejected
    else {
        panic!("{rejected}")
    };
    assert_eq!(
        (code.as_str(), namespace.as_str(), worker_name.as_deref()),
        ("NAMESPACE_NOT_FOUND", "other", Some("w"))
    );
    open.workers(0).await;
    worker.leave().await;
}
