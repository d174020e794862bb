//! Contract 00 §5 on the embedded engine.

use std::sync::Arc;

use harness::bus::embedded::EmbeddedOptions;
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::engine::{Engine, NOW_MS};

#[expect(clippy::needless_pass_by_value, reason = "the calls read better")]
fn event(id: &str, event_type: &str, data: Value) -> Value {
    json!({
        "type": "stream", "timestamp": NOW_MS, "streamName": "agent::events", "groupId": "s1", "id": id,
        "event": {"type": event_type, "data": data},
    })
}

fn item(id: &str) -> Value {
    json!({"stream_name":"agent::events","group_id":"s1","item_id":id})
}

fn with(mut request: Value, member: &str, value: Value) -> Value {
    request[member] = value;
    request
}

#[tokio::test]
async fn c00_case_14_create_then_update() {
    let engine = Engine::memory().await;
    let mut events = engine
        .watch("watch", "stream", json!({"stream_name":"agent::events"}))
        .await;
    let set = |value: Value| with(item("e7"), "data", value);
    assert_eq!(
        engine.ok("stream::set", set(json!({"seq":7}))).await,
        json!({"old_value":null,"new_value":{"seq":7}})
    );
    assert_eq!(
        engine.ok("stream::set", set(json!({"seq":8}))).await,
        json!({"old_value":{"seq":7},"new_value":{"seq":8}})
    );
    let ops = json!([{"type":"increment","path":"seq","by":1}]);
    assert_eq!(
        engine.ok("stream::update", with(item("e7"), "ops", ops)).await,
        json!({"old_value":{"seq":8},"new_value":{"seq":9}})
    );
    assert_eq!(engine.ok("stream::get", item("e7")).await, json!({"seq":9}));
    assert_eq!(
        engine.ok("stream::delete", item("e7")).await,
        json!({"old_value":{"seq":9}})
    );
    assert_eq!(engine.ok("stream::get", item("e7")).await, Value::Null);
    assert_eq!(events.next().await, event("e7", "create", json!({"seq":7})));
    assert_eq!(events.next().await, event("e7", "update", json!({"seq":8})));
    assert_eq!(events.next().await, event("e7", "update", json!({"seq":9})));
    assert_eq!(events.next().await, event("e7", "delete", json!({"seq":9})));
}

#[tokio::test]
async fn c00_case_15_send_stores_nothing() {
    let engine = Engine::memory().await;
    let mut events = engine
        .watch(
            "watch",
            "stream",
            json!({"stream_name":"agent::events","group_id":"s1"}),
        )
        .await;
    engine.ok("stream::set", with(item("e1"), "data", json!(1))).await;
    let send = json!({"stream_name":"agent::events","group_id":"s1","type":"delta","data":{"text":"x"}});
    assert_eq!(engine.ok("stream::send", send.clone()).await, Value::Null);
    engine
        .ok("stream::send", with(send.clone(), "id", json!("e1")))
        .await;
    engine
        .ok("stream::send", with(send, "group_id", json!("other")))
        .await;
    engine.ok("stream::set", with(item("e2"), "data", json!(2))).await;
    let group = json!({"stream_name":"agent::events","group_id":"s1"});
    assert_eq!(engine.ok("stream::list", group).await, json!([1, 2]));
    let sent = json!({"type":"delta","data":{"text":"x"}});
    let sent = |id: Value| {
        json!({
            "type": "stream", "timestamp": NOW_MS, "streamName": "agent::events", "groupId": "s1", "id": id,
            "event": {"type": "event", "event": sent},
        })
    };
    assert_eq!(events.next().await, event("e1", "create", json!(1)));
    assert_eq!(events.next().await, sent(Value::Null));
    assert_eq!(events.next().await, sent(json!("e1")));
    assert_eq!(events.next().await, event("e2", "create", json!(2)));
}

#[tokio::test]
async fn c00_case_16_deleting_nothing_fires_nothing() {
    let engine = Engine::memory().await;
    let mut events = engine
        .watch("watch", "stream", json!({"stream_name":"agent::events"}))
        .await;
    assert_eq!(
        engine.ok("stream::delete", item("e1")).await,
        json!({"old_value":null})
    );
    engine.ok("stream::set", with(item("e1"), "data", json!(1))).await;
    assert_eq!(events.next().await, event("e1", "create", json!(1)));
    engine.stop().await;
    assert!(events.is_empty());
}

#[tokio::test]
async fn c00_case_17_a_binding_without_a_stream_is_refused() {
    let engine = Engine::memory().await;
    engine.record("watch");
    let refused = Err(Error::coded(
        "trigger_registration_failed",
        "config: stream_name is required",
    ));
    for config in [
        json!({}),
        Value::Null,
        json!({"stream_name":""}),
        json!({"group_id":"g"}),
    ] {
        assert_eq!(engine.bind("b", "stream", "watch", config.clone()).await, refused);
        let request = json!({"trigger_type":"stream","function_id":"watch","config":config});
        let (code, _) = engine.error("engine::register_trigger", request).await;
        assert_eq!(code, "trigger_registration_failed");
    }
    // And everything goes on.
    engine.ok("stream::set", with(item("e1"), "data", json!(1))).await;
    assert_eq!(engine.ok("stream::get", item("e1")).await, json!(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c00_case_18_a_burst_arrives_in_order() {
    let engine = Engine::memory().await;
    let mut events = engine
        .watch(
            "watch",
            "stream",
            json!({"stream_name":"agent::events","group_id":"s1"}),
        )
        .await;
    for n in 0..5000 {
        engine.fire("stream::set", with(item(&format!("e{n}")), "data", json!(n)));
    }
    for n in 0..5000 {
        assert_eq!(events.next().await["event"], json!({"type":"create","data":n}));
    }
    let group = json!({"stream_name":"agent::events","group_id":"s1"});
    let all: Vec<_> = (0..5000).collect();
    assert_eq!(engine.ok("stream::list", group).await, json!(all));
}

#[tokio::test]
async fn filters_and_empty_text() {
    let engine = Engine::memory().await;
    let config = json!({"stream_name":"agent::events","group_id":"","item_id":"e2"});
    let mut by_item = engine.watch("by_item", "stream", config).await;
    let config = json!({"stream_name":"agent::events","group_id":"s1"});
    let mut by_group = engine.watch("by_group", "stream", config).await;
    engine.ok("stream::set", with(item("e1"), "data", json!(1))).await;
    engine
        .ok(
            "stream::set",
            with(with(item("e2"), "group_id", json!("s2")), "data", json!(2)),
        )
        .await;
    engine.ok("stream::set", with(item("e2"), "data", json!(3))).await;
    engine
        .ok(
            "stream::set",
            with(with(item("e2"), "stream_name", json!("other")), "data", json!(4)),
        )
        .await;
    let mut seen = vec![
        by_item.next().await["event"]["data"].clone(),
        by_item.next().await["event"]["data"].clone(),
    ];
    seen.sort_by_key(Value::as_i64);
    assert_eq!(seen, [json!(2), json!(3)]);
    assert_eq!(by_group.next().await["event"]["data"], json!(1));
    assert_eq!(by_group.next().await["event"]["data"], json!(3));
    engine.stop().await;
    assert!(by_item.is_empty() && by_group.is_empty());
}

#[tokio::test]
async fn names_with_colons_are_listed_whole() {
    let engine = Engine::memory().await;
    engine.ok("stream::set", with(item("e1"), "data", json!(1))).await;
    engine
        .ok(
            "stream::set",
            json!({"stream_name":"agent","group_id":"a:b","item_id":"i","data":1}),
        )
        .await;
    assert_eq!(
        engine
            .ok("stream::list_groups", json!({"stream_name":"agent::events"}))
            .await,
        json!(["s1"])
    );
    assert_eq!(
        engine
            .ok("stream::list_groups", json!({"stream_name":"none"}))
            .await,
        json!([])
    );
    assert_eq!(
        engine.ok("stream::list_all", json!({})).await,
        json!({"stream":[{"id":"agent","groups":["a:b"]},{"id":"agent::events","groups":["s1"]}],"count":2})
    );
}

#[tokio::test]
async fn the_oldest_items_go_silently() {
    let options = EmbeddedOptions {
        stream_items_per_group: 2,
        ..EmbeddedOptions::default()
    };
    let engine = Engine::start(options).await;
    let mut events = engine
        .watch("watch", "stream", json!({"stream_name":"agent::events"}))
        .await;
    for n in 0..4 {
        engine
            .ok("stream::set", with(item(&format!("e{n}")), "data", json!(n)))
            .await;
    }
    for n in 0..4 {
        assert_eq!(events.next().await, event(&format!("e{n}"), "create", json!(n)));
    }
    assert_eq!(engine.ok("stream::get", item("e0")).await, Value::Null);
    let group = json!({"stream_name":"agent::events","group_id":"s1"});
    assert_eq!(engine.ok("stream::list", group).await, json!([2, 3]));
    engine.stop().await;
    assert!(events.is_empty());
}

/// A subscriber that does not keep up loses the newest events; the writer is not held up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_lane_drops_the_newest() {
    let engine = Engine::memory().await;
    let gate = Arc::new(Notify::new());
    let (seen, mut next) = tokio::sync::mpsc::channel(100_000);
    let waiting = Arc::clone(&gate);
    engine.serve("slow", move |payload, _| {
        let (gate, seen) = (Arc::clone(&waiting), seen.clone());
        async move {
            if payload["event"]["event"]["data"] == json!(0) {
                gate.notified().await;
            }
            seen.send(payload["event"]["event"]["data"].clone())
                .await
                .unwrap();
            Ok(Value::Null)
        }
    });
    engine
        .bind("slow", "stream", "slow", json!({"stream_name":"s"}))
        .await
        .unwrap();
    let send = |n: u64| {
        engine.ok(
            "stream::send",
            json!({"stream_name":"s","group_id":"g","type":"t","data":n}),
        )
    };
    // One is being handled, 16,384 wait, five are too many.
    for n in 0..16_390 {
        send(n).await;
    }
    assert_eq!(engine.embedded.dropped_events(), 5);
    gate.notify_one();
    for n in 0..=16_384 {
        assert_eq!(next.recv().await, Some(json!(n)));
    }
    send(99_999).await;
    assert_eq!(next.recv().await, Some(json!(99_999)));
    engine.stop().await;
}
