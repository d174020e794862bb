//! State, streams, configuration and queues, as frames (contract 00 §4 to §7). What they mean is tested elsewhere; here is
//! what of it is on the wire.

use std::time::Duration;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::Open;
use crate::support::ws::Ws;

/// Ops on a key of scope `s`; answers the reply and the event, both without what was there before.
async fn update(worker: &mut Ws, key: &str, ops: Value) -> Value {
    let request = json!({"scope": "s", "key": key, "ops": ops});
    worker.ok("state::update", request).await
}

async fn put(worker: &mut Ws, key: &str, value: Value) {
    worker
        .ok("state::set", json!({"scope": "s", "key": key, "value": value}))
        .await;
}

fn skipped(reply: &Value) -> &Value {
    assert_eq!(reply["errors"].as_array().map(Vec::len), Some(1));
    &reply["errors"][0]["code"]
}

#[tokio::test]
async fn c00_case_08_09_10_11_12_updates_as_frames() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    worker.host(&["w::on"]).await;
    worker
        .bind("w/on", "state", "w::on", json!({"scope": "s", "key": "null"}))
        .await;
    let ops = json!([
        {"type": "set", "path": "a.b", "value": 1}, {"type": "append", "path": ["x", "y"], "value": "s"},
    ]);
    assert_eq!(
        update(&mut worker, "new", ops).await,
        json!({"old_value": null, "new_value": {"a.b": 1, "x": {"y": ["s"]}}})
    );

    put(&mut worker, "null", Value::Null).await;
    worker.event("w::on").await;
    let reply = update(
        &mut worker,
        "null",
        json!([{"type": "set", "path": "a", "value": 1}]),
    )
    .await;
    assert_eq!(skipped(&reply), "set.target_not_object");
    assert_eq!(reply["new_value"], Value::Null);
    let event = worker.event("w::on").await;
    assert_eq!(event["event_type"], "state:updated");

    put(&mut worker, "text", json!({"t": "hel"})).await;
    let append = |value: Value| json!([{"type": "append", "path": "t", "value": value}]);
    let reply = update(&mut worker, "text", append(json!("lo"))).await;
    assert_eq!(reply["new_value"], json!({"t": "hello"}));
    let reply = update(&mut worker, "text", append(json!(1))).await;
    assert_eq!(skipped(&reply), "append.type_mismatch");
    assert_eq!(reply["new_value"], json!({"t": "hello"}));

    let increment = json!([{"type": "increment", "path": "n", "by": 2}]);
    let reply = update(&mut worker, "count", increment.clone()).await;
    assert_eq!(reply["new_value"], json!({"n": 2}));
    put(&mut worker, "count", json!({"n": "x"})).await;
    let reply = update(&mut worker, "count", increment).await;
    assert_eq!(skipped(&reply), "increment.not_number");

    put(&mut worker, "safe", json!({"a": 1})).await;
    let merge = json!([{"type": "merge", "value": {"__proto__": {"b": 2}}}]);
    let reply = update(&mut worker, "safe", merge).await;
    assert_eq!(skipped(&reply), "merge.value.proto_polluted");
    assert_eq!(reply["new_value"], json!({"a": 1}));
}

#[tokio::test]
async fn c00_case_13_14_15_16_lists_and_stream_events_as_frames() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    worker.host(&["w::on"]).await;
    worker
        .bind("w/on", "stream", "w::on", json!({"stream_name": "st"}))
        .await;
    put(&mut worker, "b", json!(1)).await;
    put(&mut worker, "a", json!(2)).await;
    assert_eq!(
        worker.ok("state::list", json!({"scope": "s"})).await,
        json!([1, 2])
    );
    assert_eq!(
        worker.ok("state::list", json!({"scope": "unknown"})).await,
        json!([])
    );

    let item = |data: Value| json!({"stream_name": "st", "group_id": "g", "item_id": "i", "data": data});
    assert_eq!(
        worker.ok("stream::set", item(json!(1))).await,
        json!({"old_value": null, "new_value": 1})
    );
    worker.ok("stream::set", item(json!(2))).await;
    let group = json!({"stream_name": "st", "group_id": "g"});
    let send = json!({"stream_name": "st", "group_id": "g", "type": "delta", "data": {"d": 1}});
    assert_eq!(worker.call("stream::send", send).await, json!({}));
    let missing = json!({"stream_name": "st", "group_id": "g", "item_id": "none"});
    assert_eq!(
        worker.ok("stream::delete", missing).await,
        json!({"old_value": null})
    );
    assert_eq!(worker.ok("stream::list", group).await, json!([2]));
    for (id, event) in [
        (json!("i"), json!({"type": "create", "data": 1})),
        (json!("i"), json!({"type": "update", "data": 2})),
        (
            json!(null),
            json!({"type": "event", "event": {"type": "delta", "data": {"d": 1}}}),
        ),
    ] {
        assert_eq!(
            worker.event("w::on").await,
            json!({
                "type": "stream", "timestamp": crate::support::engine::NOW_MS, "streamName": "st", "groupId": "g",
                "id": id, "event": event,
            })
        );
    }
    assert_eq!(worker.untaken(), Vec::<Value>::new());
}

#[tokio::test]
async fn c00_case_19_a_subscriber_that_does_not_answer_holds_nobody_up() {
    let open = Open::start().await;
    let (mut slow, mut quick) = (open.join().await, open.join().await);
    slow.host(&["slow::on"]).await;
    slow.bind("slow/on", "state", "slow::on", json!({"scope": "s"}))
        .await;
    quick.host(&["quick::on"]).await;
    quick
        .bind("quick/on", "state", "quick::on", json!({"scope": "s"}))
        .await;
    put(&mut quick, "k", json!(1)).await;
    put(&mut quick, "k", json!(2)).await;
    let unanswered = slow.called("slow::on").await;
    assert_eq!(unanswered["data"]["new_value"], 1);
    assert_eq!(quick.event("quick::on").await["new_value"], 1);
    assert_eq!(quick.event("quick::on").await["new_value"], 2);
    assert_eq!(slow.untaken(), Vec::<Value>::new());
}

#[tokio::test]
async fn c00_case_21_22_configuration_as_frames() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    worker.host(&["w::on"]).await;
    let filter = json!({"configuration_id": "c", "event_types": ["configuration:updated"]});
    worker.bind("w/on", "configuration", "w::on", filter).await;
    let schema = json!({"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}}});
    let entry = json!({"id": "c", "name": "C", "description": "d", "schema": schema});
    worker.ok("configuration::register", entry.clone()).await;
    let set = |value: Value| json!({"id": "c", "value": value});
    let refused = worker.call("configuration::set", set(json!({"port": "x"}))).await;
    assert_eq!(refused["error"]["code"], "SCHEMA_INVALID");
    assert_eq!(
        worker.ok("configuration::set", set(json!({"port": 1}))).await,
        json!({"old_value": null, "new_value": {"port": 1}})
    );
    assert_eq!(
        worker.event("w::on").await,
        json!({
            "type": "configuration", "event_type": "configuration:updated", "id": "c", "name": "C", "description": "d",
            "schema": schema, "old_value": null, "new_value": {"port": 1},
        })
    );
    let again = worker.ok("configuration::register", entry).await;
    assert_eq!(again["value"], json!({"port": 1}));

    for (function, request, code) in [
        ("configuration::get", json!({"id": "none"}), "NOT_FOUND"),
        (
            "configuration::set",
            json!({"id": "none", "value": 1}),
            "NOT_REGISTERED",
        ),
        (
            "configuration::register",
            json!({"id": "Bad Id", "name": "n", "description": "d", "schema": {}}),
            "INVALID_ID",
        ),
    ] {
        let reply = worker.call(function, request).await;
        assert_eq!(reply["error"]["code"], code, "{function}");
    }
}

#[tokio::test]
async fn c00_case_27_28_29_queues_as_frames() {
    let open = Open::start().await;
    let (mut host, mut caller) = (open.join().await, open.join().await);
    host.host(&["w::job"]).await;
    let config = json!({"type": "fifo", "message_group_field": "g", "concurrency": 4, "backoff_ms": 1});
    caller
        .ok("queue::define", json!({"queue": "f", "config": config}))
        .await;
    let mut enqueue = async |queue: &str, data: Value| {
        let id = "00000000-0000-4000-9000-0000000000aa";
        caller
            .send(json!({
                "type": "invokefunction", "invocation_id": id, "function_id": "w::job", "data": data,
                "action": {"type": "enqueue", "queue": queue},
            }))
            .await;
        caller.result(id).await
    };
    for (queue, data, message) in [
        (
            "f",
            json!({}),
            "FIFO queue 'f' requires field 'g' in data, but it was not found",
        ),
        (
            "f",
            json!({"g": null}),
            "FIFO queue 'f': field 'g' must not be null",
        ),
        ("none", json!({}), "Queue 'none' not found"),
    ] {
        assert_eq!(
            enqueue(queue, data).await,
            json!({"error": {"code": "enqueue_error", "message": message}})
        );
    }
    for (group, n) in [("a", 1), ("a", 2), ("b", 1)] {
        let receipt = enqueue("f", json!({"g": group, "n": n})).await;
        assert!(receipt["result"]["messageReceiptId"].is_string());
    }
    // Both groups are under way at once, each with its first job.
    let first = host.called("w::job").await;
    let other = host.called("w::job").await;
    let mut under_way = [first["data"].clone(), other["data"].clone()];
    under_way.sort_by_key(|job| job["g"].as_str().map(str::to_owned));
    assert_eq!(under_way, [json!({"g": "a", "n": 1}), json!({"g": "b", "n": 1})]);
    let (of_a, of_b) = if first["data"]["g"] == "a" {
        (first, other)
    } else {
        (other, first)
    };
    host.answer(&of_b, Value::Null).await;
    // A failed job comes again before the next one of its group.
    host.send(json!({
        "type": "invocationresult", "invocation_id": of_a["invocation_id"], "function_id": "w::job",
        "error": {"code": "invocation_failed", "message": "not yet"},
    }))
    .await;
    assert_eq!(host.event("w::job").await, json!({"g": "a", "n": 1}));
    assert_eq!(host.event("w::job").await, json!({"g": "a", "n": 2}));
    assert!(open.engine.bus.shutdown(Duration::from_secs(20)).await);
}

#[tokio::test]
async fn a_job_keeps_the_trace_and_the_baggage_of_its_maker() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    worker.host(&["w::job"]).await;
    worker
        .send(json!({
            "type": "invokefunction", "invocation_id": "00000000-0000-4000-9000-0000000000aa", "function_id": "w::job",
            "data": {"n": 1}, "action": {"type": "enqueue", "queue": "default"}, "traceparent": "00-a-b-01",
            "baggage": "iii.session.id=S,iii.function.id=w::maker,tenant=t,iii.tag.kind=chat", "metadata": {"m": 1},
        }))
        .await;
    let mut job = worker.called("w::job").await;
    worker.answer(&job, Value::Null).await;
    job["invocation_id"].take();
    assert_eq!(
        job,
        json!({
            "type": "invokefunction", "invocation_id": null, "function_id": "w::job", "data": {"n": 1},
            "traceparent": "00-a-b-01", "baggage": "iii.session.id=S,iii.function.id=w::job,tenant=t",
        })
    );
}
