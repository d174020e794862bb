//! Contract 00 §3.4, §8 and §9 on the embedded engine.

use std::sync::Arc;

use futures::FutureExt;
use harness::bus::embedded::peer::{Link, WorkerFacts};
use harness::bus::{CallContext, CallFuture, Frame, FunctionInfo, Invocation, TriggerSpec};
use harness::model::api::provider::ChannelRef;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::engine::{Engine, NOW_MS, within};

/// An outside worker that answers with its name and the payload.
struct Echo(&'static str);

impl Link for Echo {
    fn call(&self, invocation: Invocation) -> CallFuture {
        let answer = json!({"by": self.0, "got": invocation.payload});
        futures::future::ready(Ok(answer)).boxed()
    }
}

fn function(id: &str, description: &str, metadata: Option<Value>) -> FunctionInfo {
    FunctionInfo {
        id: id.into(),
        description: description.to_owned(),
        request_schema: None,
        response_schema: None,
        metadata,
    }
}

fn ids(list: &Value) -> Vec<String> {
    list["functions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["function_id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn functions_are_listed_and_described() {
    let engine = Engine::memory().await;
    engine.record("demo::run");
    let all = ids(&engine.ok("engine::functions::list", json!({})).await);
    assert!(
        all.contains(&"state::set".to_owned()) && all.contains(&"demo::run".to_owned()),
        "{all:?}"
    );
    let shown = |id: &String| !id.starts_with("engine::") || id.starts_with("engine::queue::");
    assert!(all.iter().all(shown), "{all:?}");
    let internal = ids(&engine
        .ok("engine::functions::list", json!({"include_internal":true}))
        .await);
    assert!(
        internal.contains(&"engine::workers::list".to_owned()),
        "{internal:?}"
    );
    let own = engine
        .ok("engine::functions::list", json!({"worker":"harness"}))
        .await;
    assert_eq!(
        own,
        json!({"functions":[{"function_id":"demo::run","worker_name":"harness"}]})
    );
    let prefixed = ids(&engine
        .ok("engine::functions::list", json!({"prefix":"state::"}))
        .await);
    assert_eq!(
        prefixed,
        [
            "state::delete",
            "state::get",
            "state::list",
            "state::list_groups",
            "state::set",
            "state::update"
        ]
    );
    engine
        .bind("t1", "state", "demo::run", json!({"scope":"d"}))
        .await
        .unwrap();
    assert_eq!(
        engine
            .ok("engine::functions::info", json!({"function_id":"demo::run"}))
            .await,
        json!({
            "function_id": "demo::run", "worker_name": "harness",
            "registered_triggers": [{"id":"t1","trigger_type":"state","config":{"scope":"d"}}],
        })
    );
    let batch = engine
        .ok(
            "engine::functions::info",
            json!({"function_ids":["demo::run","no::such"]}),
        )
        .await;
    assert_eq!(batch["functions"][0]["function_id"], json!("demo::run"));
    assert_eq!(
        batch["functions"][1],
        json!({"function_id":"no::such","error":"not_found"})
    );
    let too_many = vec!["x"; 33];
    for (request, code) in [
        (json!({"function_id":"no::such"}), "NOT_FOUND"),
        (json!({}), "INVALID_ARGUMENTS"),
        (json!({"function_ids":too_many}), "INVALID_ARGUMENTS"),
    ] {
        assert_eq!(engine.error("engine::functions::info", request).await.0, code);
    }
}

#[tokio::test]
async fn hits_are_ranked() {
    let engine = Engine::memory().await;
    let peer = engine.embedded.connect(Arc::new(Echo("w")));
    peer.register_function(function("a::described", "finds a Needle in hay", None), 0);
    peer.register_function(function("b::pinneedle", "", None), 0);
    peer.register_function(function("c::needle_work", "", None), 0);
    peer.register_function(function("d::needle", "", Some(json!({"internal":true}))), 0);
    let found = engine
        .ok("engine::functions::list", json!({"search":"NEEDLE"}))
        .await;
    assert_eq!(ids(&found), ["c::needle_work", "b::pinneedle", "a::described"]);
}

#[tokio::test]
async fn trigger_types_and_bindings() {
    let engine = Engine::memory().await;
    engine.record("demo::run");
    let types = engine.ok("engine::triggers::list", json!({})).await;
    let types: Vec<_> = types["triggers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].clone())
        .collect();
    for id in [
        "state",
        "stream",
        "stream:join",
        "stream:leave",
        "engine::workers-available",
        "engine::functions-available",
    ] {
        assert!(types.contains(&json!(id)), "{id} in {types:?}");
    }
    let made = engine
        .ok(
            "engine::register_trigger",
            json!({"trigger_type":"state","function_id":"demo::run","config":{"scope":"d","key":"k"},"metadata":{"m":1}}),
        )
        .await;
    let id = made["id"].as_str().unwrap().to_owned();
    let row = json!({
        "id": id, "trigger_type": "state", "function_id": "demo::run", "worker_name": "harness",
        "config": {"scope":"d","key":"k"}, "config_summary": "scope=d, key=k",
    });
    assert_eq!(
        engine.ok("engine::registered-triggers::list", json!({})).await,
        json!({"registered_triggers":[row]})
    );
    assert_eq!(
        engine
            .ok("engine::registered-triggers::info", json!({"id":id}))
            .await,
        row
    );
    let detail = engine.ok("engine::triggers::info", json!({"id":"state"})).await;
    assert_eq!(detail["instance_count"], json!(1));
    assert_eq!(
        engine.ok("engine::unregister_trigger", json!({"id":id})).await,
        json!({"removed":true})
    );
    assert_eq!(
        engine.ok("engine::unregister_trigger", json!({"id":id})).await,
        json!({"removed":false})
    );
    assert_eq!(
        engine
            .error("engine::triggers::info", json!({"id":"none"}))
            .await
            .0,
        "NOT_FOUND"
    );
    assert_eq!(
        engine
            .error("engine::registered-triggers::info", json!({"id":id}))
            .await
            .0,
        "NOT_FOUND"
    );
}

#[tokio::test]
async fn the_bindings_of_the_program_stay() {
    let engine = Engine::memory().await;
    engine.record("demo::run");
    let ours = TriggerSpec::new("state", "demo::run", json!({"scope":"d"}));
    let id = ours.id.clone();
    engine.bus.transport().bind(ours).await.unwrap();
    assert_eq!(
        engine.error("engine::unregister_trigger", json!({"id":id})).await,
        (
            "trigger_unregistration_failed".to_owned(),
            format!("{id} is a binding of the engine's own program")
        )
    );
    let row = engine
        .ok("engine::registered-triggers::info", json!({"id":id}))
        .await;
    assert_eq!(row["function_id"], "demo::run");
}

#[tokio::test]
async fn a_binding_of_an_unknown_type_is_parked() {
    let engine = Engine::memory().await;
    engine.record("demo::run");
    engine.bind("t", "not-yet", "demo::run", json!({})).await.unwrap();
    let none = json!({"registered_triggers":[]});
    assert_eq!(
        engine.ok("engine::registered-triggers::list", json!({})).await,
        none
    );
    assert!(engine.embedded.unbind("t"));
}

#[tokio::test]
async fn workers_are_listed() {
    let engine = Engine::memory().await;
    engine.record("demo::run");
    let silent = engine.embedded.connect(Arc::new(Echo("silent")));
    let peer = engine.embedded.connect(Arc::new(Echo("w")));
    peer.register_function(function("w::do", "does it", None), 0);
    let facts = WorkerFacts {
        name: Some("a-worker".to_owned()),
        version: Some("1.2".to_owned()),
        runtime: "node".to_owned(),
        pid: Some(7),
        ..WorkerFacts::default()
    };
    peer.describe(facts);
    let list = engine.ok("engine::workers::list", json!({})).await;
    let names: Vec<_> = list["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(names, sorted);
    assert!(
        names.contains(&"harness") && names.contains(&"a-worker"),
        "{names:?}"
    );
    assert!(!names.contains(&&**silent.id()));
    let found = engine
        .ok("engine::workers::list", json!({"runtime":"node"}))
        .await;
    assert_eq!(
        found,
        json!({"workers":[{
            "name": "a-worker", "description": null, "version": "1.2", "id": &**peer.id(), "runtime": "node", "os": null,
            "status": "available", "function_count": 1, "connected_at_ms": NOW_MS, "active_invocations": 0,
            "isolation": null, "ip_address": null,
        }]})
    );
    let info = engine
        .ok("engine::workers::info", json!({"name":"harness"}))
        .await;
    assert_eq!(
        info["functions"],
        json!([{"function_id":"demo::run","worker_name":"harness"}])
    );
    assert_eq!(info["worker"]["function_count"], json!(1));
    assert_eq!(
        engine
            .error("engine::workers::info", json!({"name":"nobody"}))
            .await
            .0,
        "NOT_FOUND"
    );
}

#[tokio::test]
async fn an_outside_worker_is_called_and_leaves_nothing_behind() {
    let engine = Engine::memory().await;
    let mut watched = engine
        .watch("watch", "engine::workers-available", json!({}))
        .await;
    let mut own = engine.record("both::have");
    let peer = engine.embedded.connect(Arc::new(Echo("w")));
    let id = json!(&**peer.id());
    peer.register_function(function("w::do", "", None), 0);
    peer.register_function(function("both::have", "", None), 0);
    peer.bind(TriggerSpec::new("state", "both::have", json!({"scope":"d"})), 0)
        .unwrap();
    assert_eq!(engine.ok("w::do", json!(1)).await, json!({"by":"w","got":1}));
    // Our own calls stay inside; an outside caller gets the newcomer (contract 00 §16).
    assert_eq!(engine.ok("both::have", json!(2)).await, Value::Null);
    assert_eq!(own.next().await, json!(2));
    let outside = Invocation {
        function_id: "both::have".into(),
        payload: json!(3),
        context: CallContext::default(),
    };
    assert_eq!(
        peer.call(outside.clone()).await.unwrap(),
        json!({"by":"w","got":3})
    );
    let visitor = engine.embedded.connect(Arc::new(Echo("v")));
    drop(peer);
    assert_eq!(engine.error("w::do", json!(1)).await.0, "function_not_found");
    assert_eq!(
        engine
            .ok(
                "engine::registered-triggers::list",
                json!({"trigger_type":"state"})
            )
            .await,
        json!({"registered_triggers":[]})
    );
    assert_eq!(visitor.call(outside).await.unwrap(), Value::Null);
    assert_eq!(own.next().await, json!(3));
    let visitor_id = json!(&**visitor.id());
    assert_eq!(
        watched.next().await,
        json!({"event":"worker_connected","worker_id":id})
    );
    assert_eq!(
        watched.next().await,
        json!({"event":"worker_connected","worker_id":visitor_id})
    );
    assert_eq!(
        watched.next().await,
        json!({"event":"worker_disconnected","worker_id":id})
    );
    assert_eq!(
        engine
            .ok("engine::workers::register", json!({"name":"harness"}))
            .await,
        json!({"success":true})
    );
    assert_eq!(watched.next().await["event"], json!("worker_metadata_updated"));
}

#[tokio::test]
async fn changed_functions_are_announced_once() {
    let engine = Engine::memory().await;
    let mut watched = engine
        .watch("watch", "engine::functions-available", json!({}))
        .await;
    let peer = engine.embedded.connect(Arc::new(Echo("w")));
    // Only timers are left to wait for, so the paused clock jumps over the interval.
    tokio::time::pause();
    peer.register_function(function("w::one", "", None), 0);
    peer.register_function(function("w::two", "", None), 0);
    let event = watched.next().await;
    assert_eq!(event["event"], json!("functions_changed"));
    let all = ids(&event);
    for id in ["engine::workers::list", "w::one", "w::two", "watch"] {
        assert!(all.contains(&id.to_owned()), "{id} in {all:?}");
    }
    assert!(watched.is_empty());
}

#[tokio::test]
async fn changed_functions_are_announced_soon_but_not_often() {
    let engine = Engine::memory().await;
    let mut watched = engine
        .watch("watch", "engine::functions-available", json!({}))
        .await;
    let peer = engine.embedded.connect(Arc::new(Echo("w")));
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let mut passed = Vec::new();
    for id in ["w::one", "w::two", "w::three"] {
        peer.register_function(function(id, "", None), 0);
        assert!(ids(&watched.next().await).contains(&id.to_owned()), "{id}");
        passed.push(start.elapsed().as_millis() / 100);
    }
    assert_eq!(passed, [1, 51, 101]);
}

#[tokio::test]
async fn logs_are_taken() {
    let engine = Engine::memory().await;
    for level in ["trace", "debug", "info", "warn", "error"] {
        let id = format!("engine::log::{level}");
        let line = json!({"message":"m","data":{"a":1},"trace_id":"t","span_id":7,"service_name":"s"});
        assert_eq!(engine.ok(&id, line).await, Value::Null);
    }
}

async fn channel(engine: &Engine, buffer: Value) -> (ChannelRef, ChannelRef) {
    let pair = engine
        .ok("engine::channels::create", json!({"buffer_size":buffer}))
        .await;
    let end = |name: &str| serde_json::from_value::<ChannelRef>(pair[name].clone()).unwrap();
    let (writer, reader) = (end("writer"), end("reader"));
    assert_eq!(
        (&writer.channel_id, &writer.access_key),
        (&reader.channel_id, &reader.access_key)
    );
    assert_eq!(
        (&pair["writer"]["direction"], &pair["reader"]["direction"]),
        (&json!("write"), &json!("read"))
    );
    (writer, reader)
}

#[tokio::test]
async fn c00_case_25_a_full_channel_holds_its_writer() {
    let engine = Engine::memory().await;
    let (writer, reader) = channel(&engine, json!(1)).await;
    let writer = engine.bus.open_writer(&writer).await.unwrap();
    let text = |n: i32| Frame::Text(n.to_string());
    writer.send(text(0)).await.unwrap();
    assert!(writer.send(text(1)).now_or_never().is_none());
    let (done, is_done) = tokio::sync::oneshot::channel();
    engine.bus.spawn(async move {
        for n in 1..100 {
            writer.send(text(n)).await.unwrap();
        }
        done.send(()).unwrap();
    });
    let mut reader = engine.bus.open_reader(&reader).await.unwrap();
    for n in 0..100 {
        assert_eq!(within(reader.next()).await, Some(text(n)));
    }
    assert_eq!(within(reader.next()).await, None);
    within(is_done).await.unwrap();
}

#[tokio::test]
async fn c00_case_23_and_24_order_and_single_ends() {
    let engine = Engine::memory().await;
    let (writer_end, reader_end) = channel(&engine, Value::Null).await;
    let writer = engine.bus.open_writer(&writer_end).await.unwrap();
    writer.send(Frame::Text("a".to_owned())).await.unwrap();
    writer.send(Frame::Binary(vec![1].into())).await.unwrap();
    drop(writer);
    let wrong = ChannelRef {
        access_key: "wrong".to_owned(),
        ..reader_end.clone()
    };
    assert!(engine.bus.open_reader(&wrong).await.is_err());
    let mut reader = engine.bus.open_reader(&reader_end).await.unwrap();
    assert!(engine.bus.open_reader(&reader_end).await.is_err());
    assert_eq!(within(reader.next()).await, Some(Frame::Text("a".to_owned())));
    assert_eq!(within(reader.next()).await, Some(Frame::Binary(vec![1].into())));
    assert_eq!(within(reader.next()).await, None);
}
