//! The embedded engine's storage as the bus sees it: batches, concurrency, restart (contract 00 §16).

use std::sync::Arc;

use harness::bus::embedded::{Embedded, EmbeddedOptions};
use harness::bus::{CallContext, CallOptions, Write};
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::engine::{Engine, within};

fn state_set(key: &str, value: Value) -> Write {
    Write::StateSet {
        scope: "d".to_owned(),
        key: key.to_owned(),
        value: Arc::new(value),
    }
}

fn state_delete(key: &str) -> Write {
    Write::StateDelete {
        scope: "d".to_owned(),
        key: key.to_owned(),
    }
}

fn stream_set(item: &str, data: Value) -> Write {
    let (stream, group) = ("s".to_owned(), "g".to_owned());
    Write::StreamSet {
        stream,
        group,
        item: item.to_owned(),
        data: Arc::new(data),
    }
}

#[tokio::test]
async fn a_batch_is_written_whole_and_its_events_follow() {
    let engine = Engine::memory().await;
    engine.set("d", "gone", json!(0)).await;
    let mut state = engine.watch("state", "state", json!({"scope":"d"})).await;
    let mut stream = engine.watch("stream", "stream", json!({"stream_name":"s"})).await;
    let batch = vec![
        state_set("k", json!(1)),
        stream_set("i", json!(2)),
        state_delete("gone"),
    ];
    engine.bus.transport().commit(batch).await.unwrap();
    assert_eq!(engine.ok("state::list", json!({"scope":"d"})).await, json!([1]));
    assert_eq!(
        engine
            .ok("stream::list", json!({"stream_name":"s","group_id":"g"}))
            .await,
        json!([2])
    );
    let mut types = vec![
        state.next().await["event_type"].clone(),
        state.next().await["event_type"].clone(),
    ];
    types.sort_by_key(Value::to_string);
    assert_eq!(types, [json!("state:created"), json!("state:deleted")]);
    assert_eq!(stream.next().await["event"], json!({"type":"create","data":2}));
    // An update carries the old value although nobody asked the writer for it.
    engine
        .bus
        .transport()
        .commit(vec![state_set("k", json!(3))])
        .await
        .unwrap();
    let event = state.next().await;
    assert_eq!((&event["old_value"], &event["new_value"]), (&json!(1), &json!(3)));
}

#[tokio::test]
async fn a_batch_that_cannot_be_stored_leaves_nothing() {
    let engine = Engine::memory().await;
    let too_deep = (0..128).fold(json!(1), |inner, _| json!([inner]));
    let batch = vec![state_set("a", json!(1)), state_set("b", too_deep)];
    let error = engine.bus.transport().commit(batch).await.unwrap_err();
    assert!(matches!(error, Error::Store { .. }), "{error:?}");
    assert_eq!(engine.ok("state::list", json!({"scope":"d"})).await, json!([]));
}

#[tokio::test]
async fn commits_are_queued_at_the_call() {
    let engine = Engine::memory().await;
    let transport = engine.bus.transport();
    let pending: Vec<_> = (0..50)
        .map(|n| transport.commit(vec![state_set("k", json!(n))]))
        .collect();
    for commit in pending.into_iter().rev() {
        commit.await.unwrap();
    }
    assert_eq!(engine.get("d", "k").await, json!(49));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_writers_are_each_in_order() {
    let engine = Arc::new(Engine::memory().await);
    let mut events = engine.watch("watch", "state", json!({})).await;
    let (done, mut is_done) = tokio::sync::mpsc::channel(64);
    for writer in 0..64 {
        let (engine_of_writer, done) = (Arc::clone(&engine), done.clone());
        engine.bus.spawn(async move {
            let engine = engine_of_writer;
            let ops = json!([{"type":"increment","path":"n","by":1}]);
            for n in 0..20 {
                engine.set("d", &format!("w{writer}"), json!(n)).await;
                engine
                    .ok("state::update", json!({"scope":"c","key":"n","ops":ops}))
                    .await;
                assert_eq!(engine.get("d", &format!("w{writer}")).await, json!(n));
            }
            done.send(()).await.unwrap();
        });
    }
    for _ in 0..64 {
        within(is_done.recv()).await.unwrap();
    }
    assert_eq!(engine.get("c", "n").await, json!({"n":1280}));
    let mut last = std::collections::HashMap::<String, i64>::new();
    for _ in 0..64 * 20 * 2 {
        let event = events.next().await;
        let new = &event["new_value"];
        let n = new.as_i64().or_else(|| new["n"].as_i64()).unwrap();
        let before = last.insert(event["key"].to_string(), n);
        let first = i64::from(event["scope"] == json!("c"));
        assert_eq!(n, before.map_or(first, |before| before + 1), "{event}");
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart_and_one_process_has_it() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().to_owned();
    let engine = Engine::at(path.clone()).await;
    engine.set("d", "b", json!(1)).await;
    engine.set("d", "a", json!(2)).await;
    engine
        .ok(
            "stream::set",
            json!({"stream_name":"s","group_id":"g","item_id":"i","data":3}),
        )
        .await;
    let options = EmbeddedOptions {
        data_dir: Some(path.clone()),
        ..EmbeddedOptions::default()
    };
    let refused = Embedded::open(options).unwrap_err();
    let text = format!(
        "the data directory {} is in use by another process",
        path.display()
    );
    assert_eq!(refused, Error::Unavailable(text));
    engine.stop().await;
    let engine = Engine::at(path).await;
    engine.set("d", "b", json!(4)).await;
    engine.set("d", "c", json!(5)).await;
    assert_eq!(
        engine.ok("state::list", json!({"scope":"d"})).await,
        json!([4, 2, 5])
    );
    assert_eq!(
        engine
            .ok("stream::list", json!({"stream_name":"s","group_id":"g"}))
            .await,
        json!([3])
    );
}

#[tokio::test]
async fn a_stopped_engine_refuses_with_the_function_s_own_code() {
    let engine = Engine::memory().await;
    let bus = engine.bus.clone();
    engine.stop().await;
    let call = |id: &'static str, payload: Value| {
        let bus = bus.clone();
        async move {
            let error = bus
                .invoke(&CallContext::default(), id, payload, CallOptions::default())
                .await
                .unwrap_err();
            error.wire_code().to_owned()
        }
    };
    let at = json!({"scope":"d","key":"k","value":1,"ops":[]});
    let item = json!({"stream_name":"s","group_id":"g","item_id":"i","data":1,"ops":[],"type":"t"});
    for (id, code) in [
        ("state::set", "SET_ERROR"),
        ("state::get", "GET_ERROR"),
        ("state::delete", "DELETE_ERROR"),
        ("state::update", "UPDATE_ERROR"),
        ("state::list", "LIST_ERROR"),
        ("state::list_groups", "LIST_GROUPS_ERROR"),
    ] {
        assert_eq!(call(id, at.clone()).await, code);
    }
    for (id, code) in [
        ("stream::set", "STREAM_SET_ERROR"),
        ("stream::get", "STREAM_GET_ERROR"),
        ("stream::delete", "STREAM_DELETE_ERROR"),
        ("stream::update", "STREAM_UPDATE_ERROR"),
        ("stream::list", "STREAM_GET_GROUP_ERROR"),
        ("stream::list_groups", "STREAM_LIST_GROUPS_ERROR"),
        ("stream::list_all", "STREAM_LIST_ALL_ERROR"),
        ("stream::send", "STREAM_SEND_ERROR"),
    ] {
        assert_eq!(call(id, item.clone()).await, code);
    }
    let error = bus
        .transport()
        .commit(vec![state_set("k", json!(1))])
        .await
        .unwrap_err();
    assert_eq!(error, Error::store("store write", "the store is closed"));
}
