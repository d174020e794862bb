//! Functions that are URLs (contract 00 §1.3).

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::routing::any;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Open;
use crate::support::ws::Ws;

const ID: &str = "00000000-0000-4000-9000-0000000000aa";

/// A server that keeps what it was sent and answers by its path.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Value>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: String| {
            let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            seen.lock().unwrap().push(json!({
                "method": method.as_str(), "path": uri.path(), "body": body, "type": header("content-type"),
                "key": header("x-key"), "traceparent": header("traceparent"), "baggage": header("baggage"),
            }));
            async move {
                match uri.path() {
                    "/json" => (StatusCode::OK, r#"{"sum":3}"#.to_owned()),
                    "/text" => (StatusCode::CREATED, "three".to_owned()),
                    "/nothing" => (StatusCode::NO_CONTENT, String::new()),
                    "/large" => (StatusCode::OK, "x".repeat(100_000)),
                    "/slow" => std::future::pending().await,
                    _ => (StatusCode::BAD_GATEWAY, "no luck".to_owned()),
                }
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let serving = axum::serve(listener, Router::new().fallback(any(answer)));
        tasks.spawn(async move { serving.into_future().await.unwrap() });
        Self {
            address,
            requests,
            _tasks: tasks,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }
}

async fn register(worker: &mut Ws, id: &str, invocation: Value) {
    worker
        .send(json!({
            "type": "registerfunction", "id": id, "description": "Adds", "request_format": {"type": "object"},
            "response_format": null, "invocation": invocation,
        }))
        .await;
    worker.settle().await;
}

#[tokio::test]
async fn the_engine_calls_the_url() {
    let (open, server) = (Open::start().await, Server::start().await);
    let (mut worker, mut caller) = (open.join().await, open.join().await);
    let invocation = json!({
        "url": server.url("/json"), "method": "PUT", "timeout_ms": 60_000, "headers": {"X-Key": "k"}, "auth": null,
    });
    register(&mut worker, "web::add", invocation).await;
    caller
        .send(json!({
            "type": "invokefunction", "invocation_id": ID, "function_id": "web::add", "data": {"a": 1, "b": 2},
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage": "iii.session.id=S",
        }))
        .await;
    assert_eq!(caller.result(ID).await["result"], json!({"sum": 3}));
    assert_eq!(
        server.requests(),
        [json!({
            "method": "PUT", "path": "/json", "body": r#"{"a":1,"b":2}"#, "type": "application/json", "key": "k",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "baggage": "iii.session.id=S,iii.function.id=web::add",
        })]
    );
    assert_eq!(
        caller
            .ok("engine::functions::info", json!({"function_id": "web::add"}))
            .await,
        json!({
            "function_id": "web::add", "worker_name": "web", "description": "Adds", "request_schema": {"type": "object"},
            "registered_triggers": [],
        })
    );
    assert_eq!(worker.untaken(), Vec::<Value>::new());
}

#[tokio::test]
async fn what_the_server_answers_is_the_result() {
    let (open, server) = (Open::start().await, Server::start().await);
    let mut worker = open.join().await;
    for (path, reply) in [
        ("/text", json!({"result": "three"})),
        ("/nothing", json!({})),
        (
            "/other",
            json!({"error": {"code": "invocation_failed", "message": "web::f: HTTP 502: no luck"}}),
        ),
    ] {
        register(&mut worker, "web::f", json!({"url": server.url(path)})).await;
        assert_eq!(worker.call("web::f", json!(null)).await, reply, "{path}");
    }
    assert_eq!(server.requests()[0]["method"], "POST");
    assert_eq!(server.requests()[0]["body"], "null");
}

#[tokio::test]
async fn a_server_that_fails_costs_one_call() {
    let limits = harness::bus::embedded::listener::Limits {
        message_bytes: 50_000,
        ..Default::default()
    };
    let (open, server) = (Open::limited(limits).await, Server::start().await);
    let mut worker = open.join().await;
    let slow = json!({"url": server.url("/slow"), "timeout_ms": 20});
    register(&mut worker, "web::slow", slow).await;
    assert_eq!(
        worker.call("web::slow", json!({})).await,
        json!({"error": {"code": "TIMEOUT", "message": "web::slow timed out after 20 ms"}})
    );
    register(&mut worker, "web::large", json!({"url": server.url("/large")})).await;
    assert_eq!(
        worker.call("web::large", json!({})).await["error"]["message"],
        "web::large: the answer exceeds the limit of 50000 bytes"
    );
    register(&mut worker, "web::gone", json!({"url": "http://127.0.0.1:1/"})).await;
    let gone = worker.call("web::gone", json!({})).await;
    assert_eq!(gone["error"]["code"], "invocation_failed");
    let message = gone["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("web::gone: error sending request"),
        "{message}"
    );
}

#[tokio::test]
async fn what_cannot_be_called_says_why() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    let auth = json!({"type": "bearer", "token_key": "OPENAI_API_KEY"});
    for (invocation, why) in [
        (json!({"method": "POST"}), "missing field `url`"),
        (
            json!({"url": "ftp://example.com/"}),
            "url: scheme ftp is not http or https",
        ),
        (json!({"url": "nowhere"}), "url: relative URL without a base"),
        (json!({"url": "http://x/", "method": "NO SUCH"}), "no HTTP method"),
        (
            json!({"url": "http://x/", "headers": {"a": "b\n"}}),
            "header a: bad value",
        ),
        (
            json!({"url": "http://x/", "auth": auth}),
            "auth is not offered, put what the server wants into headers",
        ),
    ] {
        register(&mut worker, "web::f", invocation).await;
        assert_eq!(
            worker.call("web::f", json!({})).await,
            json!({"error": {
                "code": "function_not_invokable", "message": format!("Function web::f cannot be called: {why}"),
            }})
        );
    }
}

#[tokio::test]
async fn it_goes_with_the_worker_that_registered_it() {
    let (open, server) = (Open::start().await, Server::start().await);
    let (mut worker, mut caller) = (open.join().await, open.join().await);
    register(&mut worker, "web::slow", json!({"url": server.url("/slow")})).await;
    let id = caller.begin("web::slow", json!({})).await;
    super::eventually(|| server.requests().len() == 1).await;
    drop(worker);
    assert_eq!(
        caller.result(&id).await,
        json!({"error": {"code": "invocation_stopped", "message": "Invocation stopped"}})
    );
    assert_eq!(
        caller.call("web::slow", json!({})).await["error"]["code"],
        "function_not_found"
    );
    assert!(
        open.engine.bus.shutdown(Duration::from_secs(20)).await,
        "tasks were left"
    );
}
