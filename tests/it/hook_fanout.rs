//! Contract 04 §5: `hook-fanout::*`. A subscriber of the test is told of a message, and the test answers for it.

mod ends;

use std::time::{Duration, Instant};

use futures::join;
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::bus::Recorded;
use crate::support::spy::{Op, Spy};
use crate::support::{TestBus, TestOptions, three_ways};

three_ways! {
    c04_case_25_one_reply_that_blocks,
    c04_case_26_enough_replies,
    c04_case_27_nobody_answers,
    c04_case_28_bad_requests,
    c04_case_29_a_failed_publish,
    c04_case_30_replies_after_a_block_are_late,
    c04_case_31_field_merge,
    c04_case_32_pipeline_last_wins,
    c04_case_33_replies_to_nobody,
    c04_case_34_two_calls_at_once,
    c04_case_35_the_message,
    quiet_ends_it,
    an_item_is_one_reply,
}

const COLLECT: &str = "hook-fanout::publish_collect";
const REPLIES: &str = "agent::hook_reply";

/// Longer than any test waits.
const NEVER_MS: u64 = 600_000;

async fn start() -> TestBus {
    TestBus::with(TestOptions::default()).await
}

/// Where nothing can be published.
async fn unpublishing() -> TestBus {
    let spy = Spy::default();
    spy.fail_with(
        Error::coded("enqueue_error", "ws closed"),
        |op| matches!(op, Op::Call(call) if call.function_id == "iii::durable::publish"),
    );
    TestBus::with(TestOptions {
        wrap: spy.wrap(),
        ..TestOptions::default()
    })
    .await
}

/// A subscriber of the topic `t`.
async fn subscriber(t: &TestBus) -> Recorded {
    let messages = t.record("hooks::on_t", Value::Null);
    let binding = json!({ "trigger_type": "durable:subscriber", "function_id": "hooks::on_t",
        "config": { "topic": "t", "queue_config": { "type": "concurrent", "concurrency": 64 } } });
    t.ok("engine::register_trigger", binding).await;
    messages
}

/// Only the last of what is expected ends it, or a block.
fn request(rule: &str, expected_replies: usize) -> Value {
    json!({ "topic": "t", "merge_rule": rule, "payload": {}, "expected_replies": expected_replies,
        "timeout_ms": NEVER_MS, "quiescence_ms": NEVER_MS })
}

async fn message(t: &TestBus, messages: &Recorded, number: usize) -> Value {
    t.eventually(async || messages.all().get(number).cloned()).await
}

async fn reply(t: &TestBus, message: &Value, item: &str, body: Value) {
    let item = json!({ "stream_name": message["reply_stream"], "group_id": message["event_id"], "item_id": item,
        "data": body });
    t.ok("stream::set", item).await;
}

/// Calls, and answers the message with these replies.
async fn collect(t: &TestBus, request: Value, replies: &[Value]) -> Value {
    let messages = subscriber(t).await;
    let answering = async {
        let message = message(t, &messages, 0).await;
        for (number, body) in replies.iter().enumerate() {
            reply(t, &message, &format!("i{number}"), body.clone()).await;
        }
    };
    join!(t.ok(COLLECT, request), answering).0
}

/// The answer without its id.
fn without_id(mut answer: Value) -> Value {
    assert!(
        answer["event_id"]
            .take()
            .as_str()
            .is_some_and(|id| id.len() == 36)
    );
    answer
}

fn answer(replies: Value, merged: Value) -> Value {
    json!({ "event_id": null, "replies": replies, "merged": merged, "publish": { "ok": true } })
}

/// Waits until no reply is left in the stream.
async fn leaves_nothing(t: &TestBus) {
    let groups = json!({ "stream_name": REPLIES });
    t.eventually(async || (t.ok("stream::list_groups", groups.clone()).await == json!([])).then_some(()))
        .await;
}

async fn c04_case_25_one_reply_that_blocks() {
    let t = start().await;
    let reply = json!({ "block": true, "reason": "no", "denial": { "status": "denied" } });
    let mut request = request("first_block_wins", 5);
    request["quiescence_ms"] = json!(10);
    let found = collect(&t, request, std::slice::from_ref(&reply)).await;
    assert_eq!(without_id(found), answer(json!([reply]), reply));
    leaves_nothing(&t).await;
    t.stop().await;
}

async fn c04_case_26_enough_replies() {
    let t = start().await;
    let replies = [json!({ "block": false }), json!("seen")];
    let found = collect(&t, request("first_block_wins", 2), &replies).await;
    assert_eq!(
        without_id(found),
        answer(json!(replies), json!({ "block": false }))
    );
    leaves_nothing(&t).await;
    t.stop().await;
}

async fn c04_case_27_nobody_answers() {
    let t = start().await;
    for (timeout_ms, least) in [(100, 100), (1, 50)] {
        let begun = Instant::now();
        let request = json!({ "topic": "t", "merge_rule": "first_block_wins", "timeout_ms": timeout_ms });
        assert_eq!(
            without_id(t.ok(COLLECT, request).await),
            answer(json!([]), json!({ "block": false }))
        );
        assert!(begun.elapsed() >= Duration::from_millis(least));
    }
    t.stop().await;
}

async fn c04_case_28_bad_requests() {
    let t = start().await;
    for (request, expected) in [
        (
            json!({ "topic": "t", "merge_rule": "weird" }),
            "unknown merge_rule: weird",
        ),
        (json!({ "merge_rule": "weird" }), "missing required field: topic"),
        (json!({ "topic": "t" }), "missing required field: merge_rule"),
        (json!("t"), "payload must be an object"),
    ] {
        assert_eq!(t.error(COLLECT, request).await, expected);
    }
    t.stop().await;
}

/// It is known at once that nobody will answer.
async fn c04_case_29_a_failed_publish() {
    let t = unpublishing().await;
    let mut expected = answer(json!([]), json!({ "block": false }));
    expected["publish"] = json!({ "ok": false, "error": "ws closed" });
    expected["publish_failed"] = json!(true);
    let found = t.ok(COLLECT, request("first_block_wins", 1)).await;
    assert_eq!(without_id(found), expected);
    t.stop().await;
}

async fn c04_case_30_replies_after_a_block_are_late() {
    let t = start().await;
    let replies = [
        json!({}),
        json!({ "block": false }),
        json!({ "block": true, "reason": "first" }),
        json!({ "block": true, "reason": "second" }),
    ];
    let found = collect(&t, request("first_block_wins", 9), &replies).await;
    assert_eq!(without_id(found), answer(json!(replies[..3]), replies[2].clone()));
    leaves_nothing(&t).await;
    t.stop().await;
}

async fn c04_case_31_field_merge() {
    let t = start().await;
    let mut request = request("field_merge", 1);
    request["payload"] = json!({ "content": ["a"], "details": { "a": 1, "b": 2 }, "terminate": false });
    let reply = json!({ "content": ["z"], "details": { "b": 99, "c": 3 }, "terminate": true });
    let merged = json!({ "content": ["z"], "details": { "a": 1, "b": 99, "c": 3 }, "terminate": true });
    let found = collect(&t, request, std::slice::from_ref(&reply)).await;
    assert_eq!(without_id(found), answer(json!([reply]), merged));
    t.stop().await;
}

async fn c04_case_32_pipeline_last_wins() {
    let lists = [json!({ "messages": [1] }), json!({ "ignored": true }), json!([2])];
    for (replies, merged) in [(&lists[..], json!([2])), (&lists[1..2], json!({ "n": 1 }))] {
        let t = start().await;
        let mut request = request("pipeline_last_wins", replies.len());
        request["payload"] = json!({ "n": 1 });
        let found = collect(&t, request, replies).await;
        assert_eq!(without_id(found), answer(json!(replies), merged));
        t.stop().await;
    }
}

async fn c04_case_33_replies_to_nobody() {
    let t = start().await;
    let messages = subscriber(&t).await;
    let answering = async {
        let message = message(&t, &messages, 0).await;
        let foreign = json!({ "reply_stream": REPLIES, "event_id": "somebody-elses" });
        reply(&t, &foreign, "i", json!({ "block": true })).await;
        for odd in [
            json!(null),
            json!("x"),
            json!({}),
            json!({ "groupId": "nobody", "data": 1 }),
        ] {
            assert_eq!(t.ok("hook-fanout::reply_handler", odd).await, Value::Null);
        }
        // An older form of the frame.
        let frame = json!({ "group_id": message["event_id"], "data": { "n": 1 } });
        assert_eq!(t.ok("hook-fanout::reply_handler", frame).await, Value::Null);
    };
    let (found, ()) = join!(t.ok(COLLECT, request("first_block_wins", 1)), answering);
    assert_eq!(
        without_id(found),
        answer(json!([{ "n": 1 }]), json!({ "block": false }))
    );
    // What belongs to another process is left to it.
    let foreign = json!({ "stream_name": REPLIES, "group_id": "somebody-elses" });
    assert_eq!(t.ok("stream::list", foreign).await, json!([{ "block": true }]));
    t.stop().await;
}

async fn c04_case_34_two_calls_at_once() {
    let t = start().await;
    let messages = subscriber(&t).await;
    let of = |name: &str| {
        let mut request = request("first_block_wins", 2);
        request["payload"] = json!({ "name": name });
        request
    };
    let answering = async {
        message(&t, &messages, 1).await;
        for round in 0..2 {
            for message in messages.all() {
                let body = json!({ "to": message["payload"]["name"], "round": round });
                reply(&t, &message, &format!("i{round}"), body).await;
            }
        }
    };
    let (a, b, ()) = join!(t.ok(COLLECT, of("a")), t.ok(COLLECT, of("b")), answering);
    for (found, name) in [(a, "a"), (b, "b")] {
        let replies = json!([{ "to": name, "round": 0 }, { "to": name, "round": 1 }]);
        assert_eq!(without_id(found), answer(replies, json!({ "block": false })));
    }
    leaves_nothing(&t).await;
    t.stop().await;
}

async fn c04_case_35_the_message() {
    let t = start().await;
    let published = t.record("hooks::on_t", Value::Null);
    t.ok(
        "engine::register_trigger",
        json!({ "trigger_type": "durable:subscriber", "function_id": "hooks::on_t", "config": { "topic": "t" } }),
    )
    .await;
    let mut ids = Vec::new();
    for (payload, seen) in [
        (json!({ "a": [1, null] }), json!({ "a": [1, null] })),
        (json!("text"), json!("text")),
        (Value::Null, json!({})),
    ] {
        let request =
            json!({ "topic": "t", "merge_rule": "field_merge", "payload": payload, "timeout_ms": 50 });
        let id = t.ok(COLLECT, request).await["event_id"].take();
        let message = message(&t, &published, ids.len()).await;
        assert_eq!(
            message,
            json!({ "event_id": id, "reply_stream": "agent::hook_reply", "payload": seen })
        );
        assert!(!ids.contains(&id));
        ids.push(id);
    }
    t.stop().await;
}

async fn quiet_ends_it() {
    let t = start().await;
    let mut request = request("field_merge", 9);
    request["quiescence_ms"] = json!(20);
    let found = collect(&t, request, &[json!({ "content": 1 })]).await;
    assert_eq!(
        without_id(found),
        answer(json!([{ "content": 1 }]), json!({ "content": 1 }))
    );
    t.stop().await;
}

/// A subscriber that is told twice, as durable topics may, still has one voice.
async fn an_item_is_one_reply() {
    let t = start().await;
    let messages = subscriber(&t).await;
    let answering = async {
        let message = message(&t, &messages, 0).await;
        reply(&t, &message, "a", json!({ "content": 1 })).await;
        reply(&t, &message, "a", json!({ "content": 2 })).await;
        let item = json!({ "stream_name": REPLIES, "group_id": message["event_id"], "item_id": "a" });
        t.ok("stream::delete", item).await;
        reply(&t, &message, "b", json!({ "terminate": true })).await;
    };
    let (found, ()) = join!(t.ok(COLLECT, request("field_merge", 2)), answering);
    let replies = json!([{ "content": 2 }, { "terminate": true }]);
    assert_eq!(
        without_id(found),
        answer(replies, json!({ "content": 2, "terminate": true }))
    );
    leaves_nothing(&t).await;
    t.stop().await;
}
