//! What newer clients ask for, and what an engine without it answers (contract 00 §1.3, §14).

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Open, eventually};
use crate::support::engine::within;
use crate::support::ws::end_of;

const ID: &str = "00000000-0000-4000-9000-0000000000aa";

#[tokio::test]
async fn no_delay_is_announced_on_every_socket() {
    let open = Open::start().await;
    let pair = open.engine.ok("engine::channels::create", json!({})).await;
    let channel = format!(
        "/ws/channels/{}?key={}&dir=read",
        pair["reader"]["channel_id"].as_str().unwrap(),
        pair["reader"]["access_key"].as_str().unwrap()
    );
    for path in ["/", "/otel", channel.as_str()] {
        let stream = TcpStream::connect(open.address).await.unwrap();
        let url = format!("ws://{}{path}", open.address);
        let (_socket, response) = within(tokio_tungstenite::client_async(url, stream))
            .await
            .unwrap();
        assert_eq!(response.headers()["x-iii-capabilities"], "tcp-nodelay", "{path}");
    }
}

#[tokio::test]
async fn calls_into_another_namespace_find_nothing() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    let call = |id: Option<&str>, namespace: Value| {
        json!({
            "type": "invokefunction", "invocation_id": id, "function_id": "state::list", "data": {"scope": "x"},
            "namespace": namespace,
        })
    };
    for own in [json!("default"), json!(""), json!(null), json!(7)] {
        worker.send(call(Some(ID), own)).await;
        assert_eq!(worker.result(ID).await, json!({"result": []}));
    }
    worker.send(call(Some(ID), json!("other"))).await;
    assert_eq!(
        worker.result(ID).await,
        json!({"error": {
            "code": "function_not_found", "message": "Function state::list not found in namespace other",
        }})
    );
    worker.send(call(None, json!("other"))).await;
    worker.settle().await;
    assert_eq!(worker.untaken(), Vec::<Value>::new());
}

#[tokio::test]
async fn bindings_and_types_of_another_namespace_are_refused() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    worker.host(&["w::on"]).await;
    let binding = |id: &str, member: &str, namespace: &str| {
        let mut binding = json!({
            "type": "registertrigger", "id": id, "trigger_type": "state", "function_id": "w::on",
            "config": {"scope": "d"},
        });
        binding[member] = json!(namespace);
        binding
    };
    worker.send(binding("1", "namespace", "other")).await;
    worker.send(binding("2", "trigger_namespace", "other")).await;
    worker.send(binding("3", "namespace", "default")).await;
    worker
        .send(json!({"type": "registertriggertype", "id": "theirs", "description": "", "namespace": "other"}))
        .await;
    worker.settle().await;
    let refused = |id: &str| {
        json!({
            "type": "triggerregistrationresult", "id": id, "trigger_type": "state", "function_id": "w::on",
            "error": {
                "code": "trigger_registration_failed", "message": "there is no namespace other, only default",
            },
        })
    };
    assert_eq!(worker.untaken(), [refused("1"), refused("2")]);
    let list = worker.ok("engine::registered-triggers::list", json!({})).await;
    assert_eq!(list["registered_triggers"][0]["id"], "3");
    let types = worker
        .ok("engine::triggers::list", json!({"prefix": "theirs"}))
        .await;
    assert_eq!(types, json!({"triggers": []}));
}

#[tokio::test]
async fn a_worker_of_another_namespace_is_sent_away_with_a_reason() {
    let open = Open::start().await;
    let mut witness = open.join().await;
    let listed = witness
        .ok("engine::workers::list", json!({"search": "harness"}))
        .await;
    let mut worker = open.join().await;
    worker.host(&["w::f"]).await;
    worker
        .void(
            "engine::workers::register",
            json!({"name": "w", "namespace": "other", "pid": 1}),
        )
        .await;
    assert_eq!(
        worker.take(|_| true).await,
        json!({
            "type": "registrationrejected", "code": "NAMESPACE_NOT_FOUND", "namespace": "other", "worker_name": "w",
            "owner_worker_id": listed["workers"][0]["id"],
        })
    );
    assert_eq!(end_of(&mut worker.socket).await.map(u16::from), Some(1008));
    eventually(|| open.engine.embedded.workers_connected() == 1).await;
    assert_eq!(
        witness.call("w::f", json!({})).await["error"]["code"],
        "function_not_found"
    );
}

/// An engine that does not offer `observe.v1` gets none of these from an SDK; who sends them all the same is not answered.
#[tokio::test]
async fn what_only_later_engines_know_is_dropped() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    assert_eq!(worker.greeting.get("features"), None);
    for text in [
        json!({"type": "observe", "id": ID, "source": {"function_id": "f"}, "target": {"function_id": "g"}}),
        json!({"type": "unobserve", "id": ID}),
        json!({"type": "observerack", "function_id": "f", "id": ID, "revision": 1}),
        json!({"type": "invocationsobserved", "items": []}),
        json!({"type": "localinvocationstats", "window_ms": 10_000, "functions": []}),
    ] {
        worker.send(text).await;
    }
    worker
        .send(json!({
            "type": "registerfunction", "id": "w::f", "observe": {"delivery": "owner", "args_format": {}},
        }))
        .await;
    let caller = json!({"worker_id": "x", "function_id": "w::g", "parent": {"worker_id": "y"}});
    worker
        .send(json!({
            "type": "invokefunction", "invocation_id": ID, "function_id": "w::f", "data": {"a": 1}, "caller": caller,
            "observe_depth": 3, "activation": {"observer_id": ID},
        }))
        .await;
    let mut call = worker.called("w::f").await;
    worker.answer(&call, json!(2)).await;
    call["invocation_id"].take();
    assert_eq!(
        call,
        json!({"type": "invokefunction", "invocation_id": null, "function_id": "w::f", "data": {"a": 1}})
    );
    assert_eq!(worker.result(ID).await, json!({"result": 2}));
    assert_eq!(worker.untaken(), Vec::<Value>::new());
}
