//! Contract 00 §4 on the embedded engine: state, its trigger, and the rules of delivery.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use harness::bus::embedded::EmbeddedOptions;
use harness::bus::{Baggage, CallContext, CallOptions};
use harness::error::{Error, Result};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::support::engine::{Engine, within};

#[expect(clippy::needless_pass_by_value, reason = "the calls read better")]
fn event(event_type: &str, key: &str, old: Value, new: Value) -> Value {
    json!({
        "type": "state", "event_type": event_type, "scope": "d", "key": key, "old_value": old, "new_value": new,
    })
}

#[tokio::test]
async fn c00_case_04_unknown_function() {
    let engine = Engine::memory().await;
    let expected = (
        "function_not_found".to_owned(),
        "Function no::such not found".to_owned(),
    );
    assert_eq!(engine.error("no::such", json!({})).await, expected);
    for id in [
        "engine::traces::list",
        "engine::logs::list",
        "engine::metrics::list",
        "engine::baggage::get",
    ] {
        assert_eq!(engine.error(id, json!({})).await.0, "function_not_found");
    }
    engine.bus.notify(&CallContext::default(), "no::such", json!({}));
    engine.stop().await;
}

#[tokio::test]
async fn c00_case_05_a_missing_key_is_null() {
    let engine = Engine::memory().await;
    assert_eq!(engine.get("d", "k").await, Value::Null);
}

#[tokio::test]
async fn c00_case_06_missing_fields_are_named() {
    let engine = Engine::memory().await;
    let table = [
        ("state::set", json!({"scope":"x"}), "missing field `key`"),
        (
            "state::set",
            json!({"scope":"x","key":"k"}),
            "missing field `value`",
        ),
        ("state::get", json!({"key":"x"}), "missing field `scope`"),
        ("state::delete", json!({}), "missing field `scope`"),
        (
            "state::update",
            json!({"scope":"x","key":"k"}),
            "missing field `ops`",
        ),
        (
            "state::update",
            json!({"scope":"x","key":"k","ops":[{"type":"set"}]}),
            "ops[0]: missing field `path`",
        ),
        ("state::list", json!({}), "missing field `scope`"),
        (
            "state::set",
            json!(["approvals", "s1/A", {}]),
            "invalid type: array, expected an object",
        ),
        (
            "state::update",
            json!(["approval_settings", "s2", []]),
            "invalid type: array, expected an object",
        ),
        (
            "state::delete",
            json!(["approvals", "s1/A"]),
            "invalid type: array, expected an object",
        ),
        (
            "engine::queue::enqueue",
            json!(["q", "f", {}]),
            "invalid type: array, expected an object",
        ),
        (
            "stream::set",
            json!({"stream_name":"s","group_id":"g","item_id":"i"}),
            "missing field `data`",
        ),
        (
            "stream::get",
            json!({"stream_name":"s","group_id":"g"}),
            "missing field `item_id`",
        ),
        (
            "stream::update",
            json!({"stream_name":"s","item_id":"i","ops":[]}),
            "missing field `group_id`",
        ),
        (
            "stream::send",
            json!({"stream_name":"s","group_id":"g","data":1}),
            "missing field `type`",
        ),
        ("stream::list_groups", json!({}), "missing field `stream_name`"),
        (
            "engine::register_trigger",
            json!({"trigger_type":"state"}),
            "missing field `function_id`",
        ),
        ("engine::log::info", json!({}), "missing field `message`"),
    ];
    for (id, payload, detail) in table {
        let expected = (
            "deserialization_error".to_owned(),
            format!("Failed to deserialize input for {id}: {detail}"),
        );
        assert_eq!(engine.error(id, payload).await, expected);
    }
    assert_eq!(
        engine
            .error("state::set", json!({"scope":1,"key":"k","value":1}))
            .await
            .0,
        "deserialization_error"
    );
    for id in [
        "state::list_groups",
        "stream::list_all",
        "engine::functions::list",
    ] {
        assert_eq!(
            engine.error(id, Value::Null).await.0,
            "deserialization_error",
            "{id}"
        );
    }
}

#[tokio::test]
async fn c00_case_07_events_of_a_key() {
    let engine = Engine::memory().await;
    let mut events = engine.watch("watch", "state", json!({"scope":"d"})).await;
    let at = json!({"scope":"d","key":"k"});
    assert_eq!(
        engine.set("d", "k", json!(1)).await,
        json!({"old_value":null,"new_value":1})
    );
    assert_eq!(
        engine.set("d", "k", json!(2)).await,
        json!({"old_value":1,"new_value":2})
    );
    assert_eq!(engine.ok("state::delete", at.clone()).await, json!(2));
    assert_eq!(engine.ok("state::delete", at).await, Value::Null);
    assert_eq!(
        events.next().await,
        event("state:created", "k", Value::Null, json!(1))
    );
    assert_eq!(
        events.next().await,
        event("state:updated", "k", json!(1), json!(2))
    );
    assert_eq!(
        events.next().await,
        event("state:deleted", "k", json!(2), Value::Null)
    );
    assert_eq!(
        events.next().await,
        event("state:deleted", "k", Value::Null, Value::Null)
    );
}

#[tokio::test]
async fn set_takes_data_for_value_and_an_identical_write_fires() {
    let engine = Engine::memory().await;
    let mut events = engine
        .watch("watch", "state", json!({"scope":"d","key":"k"}))
        .await;
    let request = json!({"scope":"d","key":"k","data":null,"_caller_worker_id":"w"});
    engine.set("d", "other", json!(1)).await;
    engine.set("e", "k", json!(1)).await;
    assert_eq!(
        engine.ok("state::set", request.clone()).await,
        json!({"old_value":null,"new_value":null})
    );
    engine.ok("state::set", request).await;
    assert_eq!(
        events.next().await,
        event("state:created", "k", Value::Null, Value::Null)
    );
    assert_eq!(
        events.next().await,
        event("state:updated", "k", Value::Null, Value::Null)
    );
}

#[tokio::test]
async fn c00_case_08_update_of_an_absent_key() {
    let engine = Engine::memory().await;
    let ops = json!([
        {"type":"set","path":"a.b","value":1},
        {"type":"append","path":["x","y"],"value":"s"},
    ]);
    let reply = engine
        .ok("state::update", json!({"scope":"d","key":"k","ops":ops}))
        .await;
    let new = json!({"a.b":1,"x":{"y":["s"]}});
    assert_eq!(reply, json!({"old_value":null,"new_value":new}));
    assert_eq!(engine.get("d", "k").await, new);
}

#[tokio::test]
async fn c00_case_09_update_of_a_stored_null() {
    let engine = Engine::memory().await;
    engine.set("d", "k", Value::Null).await;
    let mut events = engine.watch("watch", "state", json!({"scope":"d"})).await;
    let ops = json!([{"type":"set","path":"a","value":1}]);
    let reply = engine
        .ok("state::update", json!({"scope":"d","key":"k","ops":ops}))
        .await;
    let error = json!({
        "op_index": 0,
        "code": "set.target_not_object",
        "message": "the target is null, not an object",
        "doc_url": "https://iii.dev/docs/workers/iii-state#error-codes",
    });
    assert_eq!(reply, json!({"old_value":null,"new_value":null,"errors":[error]}));
    assert_eq!(
        events.next().await,
        event("state:updated", "k", Value::Null, Value::Null)
    );
}

/// Sets `{field: before}`, applies one operation, gives back the field and the codes of the errors.
async fn update(engine: &Engine, before: Value, op: Value) -> (Value, Vec<Value>) {
    engine.set("d", "k", before).await;
    let reply = engine
        .ok("state::update", json!({"scope":"d","key":"k","ops":[op]}))
        .await;
    let errors = reply
        .get("errors")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    assert_eq!(engine.get("d", "k").await, reply["new_value"]);
    (
        reply["new_value"].clone(),
        errors.iter().map(|error| error["code"].clone()).collect(),
    )
}

#[tokio::test]
async fn c00_case_10_append_to_text() {
    let engine = Engine::memory().await;
    let append = |value: Value| json!({"type":"append","path":"t","value":value});
    assert_eq!(
        update(&engine, json!({"t":"hel"}), append(json!("lo"))).await,
        (json!({"t":"hello"}), vec![])
    );
    assert_eq!(
        update(&engine, json!({"t":"hello"}), append(json!(1))).await,
        (json!({"t":"hello"}), vec![json!("append.type_mismatch")])
    );
}

#[tokio::test]
async fn c00_case_11_increment() {
    let engine = Engine::memory().await;
    let op = json!({"type":"increment","path":"n","by":2});
    assert_eq!(
        update(&engine, json!({}), op.clone()).await,
        (json!({"n":2}), vec![])
    );
    assert_eq!(
        update(&engine, json!({"n":"x"}), op).await,
        (json!({"n":"x"}), vec![json!("increment.not_number")])
    );
}

#[tokio::test]
async fn c00_case_12_merge_of_a_prototype_key() {
    let engine = Engine::memory().await;
    let op = json!({"type":"merge","value":{"__proto__":{"admin":true}}});
    assert_eq!(
        update(&engine, json!({"a":1}), op).await,
        (json!({"a":1}), vec![json!("merge.value.proto_polluted")])
    );
}

#[tokio::test]
async fn c00_case_13_lists() {
    let engine = Engine::memory().await;
    assert_eq!(engine.ok("state::list", json!({"scope":"d"})).await, json!([]));
    engine.set("d", "b", json!("of b")).await;
    engine.set("d", "a", json!("of a")).await;
    engine.set("d", "b", json!("of b again")).await;
    engine.set("c", "k", json!(1)).await;
    assert_eq!(
        engine.ok("state::list", json!({"scope":"d"})).await,
        json!(["of b again", "of a"])
    );
    assert_eq!(
        engine.ok("state::list_groups", json!({})).await,
        json!({"groups":["c","d"]})
    );
}

#[tokio::test]
async fn c00_case_19_a_slow_subscriber_holds_nobody_up() {
    let engine = Engine::memory().await;
    let gate = Arc::new(Notify::new());
    let waiting = Arc::clone(&gate);
    let (done, mut is_done) = tokio::sync::mpsc::channel(1);
    engine.serve("slow", move |payload, _| {
        let (gate, done) = (Arc::clone(&waiting), done.clone());
        async move {
            gate.notified().await;
            done.send(payload).await.unwrap();
            Ok(Value::Null)
        }
    });
    engine
        .bind("a", "state", "slow", json!({"scope":"d"}))
        .await
        .unwrap();
    let mut events = engine.watch("b", "state", json!({"scope":"d"})).await;
    engine.set("d", "k", json!(1)).await;
    engine.set("d", "k", json!(2)).await;
    let first = event("state:created", "k", Value::Null, json!(1));
    assert_eq!(events.next().await, first);
    assert_eq!(
        events.next().await,
        event("state:updated", "k", json!(1), json!(2))
    );
    gate.notify_one();
    assert_eq!(within(is_done.recv()).await, Some(first));
}

#[tokio::test]
async fn c00_case_20_only_false_blocks() {
    let engine = Engine::memory().await;
    let mut asked = engine.record("asked");
    engine.serve("verdict", |payload, _| {
        std::future::ready(match &payload["new_value"] {
            Value::String(text) if text == "fail" => Err(Error::Unavailable("on purpose".into())),
            verdict => Ok(verdict.clone()),
        })
    });
    let mut events = engine.record("handler");
    for (id, condition) in [("one", "verdict"), ("two", "asked"), ("three", "not::there")] {
        let config = json!({"scope":"d","key":id,"condition_function_id":condition});
        engine.bind(id, "state", "handler", config).await.unwrap();
    }
    let values = [
        json!(false),
        Value::Null,
        json!("fail"),
        json!(0),
        json!("false"),
        json!(true),
    ];
    for value in &values {
        engine.set("d", "one", value.clone()).await;
    }
    let mut passed = Vec::new();
    for _ in 0..4 {
        passed.push(events.next().await["new_value"].clone());
    }
    assert_eq!(passed, [Value::Null, json!(0), json!("false"), json!(true)]);
    // The condition sees the event; one that is not there fails, so its handler is not called.
    engine.set("d", "three", json!(1)).await;
    engine.set("d", "two", json!(1)).await;
    let expected = event("state:created", "two", Value::Null, json!(1));
    assert_eq!(asked.next().await, expected);
    assert_eq!(events.next().await, expected);
    engine.stop().await;
    assert!(events.is_empty());
}

#[tokio::test]
async fn c00_case_32_acknowledged_state_survives_without_a_shutdown() {
    let directory = TempDir::new().unwrap();
    let copy = TempDir::new().unwrap();
    let engine = Engine::at(directory.path().to_owned()).await;
    engine.set("d", "k", json!({"n":1})).await;
    // What a kill at this moment leaves on disk.
    for file in ["harness.db", "harness.db-wal"] {
        std::fs::copy(directory.path().join(file), copy.path().join(file)).unwrap();
    }
    let second = Engine::at(copy.path().to_owned()).await;
    assert_eq!(second.get("d", "k").await, json!({"n":1}));
}

#[tokio::test]
async fn c00_case_33_a_panicking_handler_fails_its_call_only() {
    let engine = Engine::memory().await;
    engine.serve("panics", |payload, _| async move {
        assert!(payload.is_null(), "on purpose");
        Ok(Value::Null)
    });
    engine.serve("echo", |payload, _| std::future::ready(Ok(payload)));
    engine
        .bind("p", "state", "panics", json!({"scope":"d"}))
        .await
        .unwrap();
    let mut events = engine.watch("watch", "state", json!({"scope":"d"})).await;
    assert_eq!(engine.error("panics", json!(1)).await.0, "invocation_failed");
    assert_eq!(engine.ok("echo", json!(1)).await, json!(1));
    // As a subscriber it fails alone, too, and gets the next event.
    engine.set("d", "k", json!(1)).await;
    engine.set("d", "k", json!(2)).await;
    assert_eq!(events.next().await["new_value"], json!(1));
    assert_eq!(events.next().await["new_value"], json!(2));
    engine.stop().await;
}

/// Sixteen handlers that block their threads run at the same time, and another one answers meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 20)]
async fn c00_case_34_busy_handlers_do_not_queue_behind_one_another() {
    let engine = Engine::memory().await;
    let all_in = Arc::new(Barrier::new(17));
    let meeting = Arc::clone(&all_in);
    engine.serve("busy", move |_, _| {
        let meeting = Arc::clone(&meeting);
        async move {
            meeting.wait();
            meeting.wait();
            Ok(Value::Null)
        }
    });
    engine.serve("trivial", |_, _| std::future::ready(Ok(json!("here"))));
    engine
        .bind("b", "state", "busy", json!({"scope":"d"}))
        .await
        .unwrap();
    for n in 0..16 {
        engine.set("d", &format!("k{n}"), json!(n)).await;
    }
    let wait =
        |barrier: Arc<Barrier>| within(tokio::task::spawn_blocking(move || barrier.wait().is_leader()));
    wait(Arc::clone(&all_in)).await.unwrap();
    assert_eq!(within(engine.ok("trivial", json!({}))).await, json!("here"));
    wait(all_in).await.unwrap();
    engine.stop().await;
}

#[tokio::test]
async fn metadata_and_trace_travel_with_the_event() {
    let engine = Engine::memory().await;
    let mut events = engine.record("watch");
    engine
        .bind_with(
            "watch",
            "state",
            "watch",
            json!({"scope":"d"}),
            Some(json!({"tag":1})),
        )
        .await
        .unwrap();
    let context = CallContext {
        baggage: Baggage {
            session_id: Some("s1".into()),
            message_id: Some("m1".into()),
            others: None,
        },
        metadata: Some(Arc::new(json!({"of":"the writer"}))),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        cancel: None,
        batch: None,
    };
    let request = json!({"scope":"d","key":"k","value":1});
    engine
        .bus
        .invoke(&context, "state::set", request, CallOptions::default())
        .await
        .unwrap();
    let (_, seen) = events.next_with_context().await;
    assert_eq!(seen.baggage, context.baggage);
    assert_eq!(seen.traceparent, context.traceparent);
    assert_eq!(seen.metadata.as_deref(), Some(&json!({"tag":1})));
}

#[tokio::test]
async fn a_second_registration_replaces_the_first() {
    let engine = Engine::memory().await;
    let mut old = engine.watch("same", "state", json!({"scope":"d"})).await;
    engine.set("d", "k", json!(1)).await;
    old.next().await;
    let mut new = engine.record("new");
    engine
        .bind("same", "state", "new", json!({"scope":"d"}))
        .await
        .unwrap();
    // A bad one is refused and leaves the last good one.
    let refused: Result<()> = engine.bind("same", "state", "same", json!({"scope":7})).await;
    let text = "config: scope must be a string";
    assert_eq!(refused, Err(Error::coded("trigger_registration_failed", text)));
    engine.set("d", "k", json!(2)).await;
    assert_eq!(new.next().await, event("state:updated", "k", json!(1), json!(2)));
    assert!(engine.embedded.unbind("same"));
    assert!(!engine.embedded.unbind("same"));
    engine.set("d", "k", json!(3)).await;
    engine.stop().await;
    assert!(old.is_empty() && new.is_empty());
}

#[tokio::test]
async fn a_handler_that_never_answers_loses_only_its_turn() {
    let options = EmbeddedOptions {
        trigger_timeout: Duration::from_millis(30),
        ..EmbeddedOptions::default()
    };
    let engine = Engine::start(options).await;
    let (seen, mut next) = tokio::sync::mpsc::channel(10);
    let stop = engine.bus.shutdown_token().clone();
    engine.serve("stuck", move |payload, _| {
        let (seen, stop) = (seen.clone(), stop.clone());
        async move {
            seen.send(payload["new_value"].clone()).await.unwrap();
            stop.cancelled().await;
            Ok(Value::Null)
        }
    });
    engine
        .bind("s", "state", "stuck", json!({"scope":"d"}))
        .await
        .unwrap();
    engine.set("d", "k", json!(1)).await;
    engine.set("d", "k", json!(2)).await;
    assert_eq!(within(next.recv()).await, Some(json!(1)));
    assert_eq!(within(next.recv()).await, Some(json!(2)));
    engine.stop().await;
}
