//! However a call ends, it leaves nothing; and it ends.

use futures::join;
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{
    COLLECT, answer, leaves_nothing, message, reply, request, start, subscriber, unpublishing, without_id,
};
use crate::support::stub::Held;
use crate::support::three_ways;

three_ways! {
    late_replies_leave_nothing,
    a_caller_that_went_leaves_nothing,
    a_reply_that_cannot_be_kept_is_an_error,
    many_calls_at_once,
}

async fn late_replies_leave_nothing() {
    let t = start().await;
    let messages = subscriber(&t).await;
    let mut request = request("field_merge", 1);
    request["timeout_ms"] = json!(50);
    let found = t.ok(COLLECT, request).await;
    assert_eq!(without_id(found), answer(json!([]), json!({})));
    let message = message(&t, &messages, 0).await;
    reply(&t, &message, "late", json!({ "content": 1 })).await;
    leaves_nothing(&t).await;
    t.stop().await;
}

async fn a_caller_that_went_leaves_nothing() {
    let t = start().await;
    let messages = subscriber(&t).await;
    let mut request = request("field_merge", 9);
    request["timeout_ms"] = json!(300);
    let told = {
        let (asking, telling) = (t.ok(COLLECT, request), message(&t, &messages, 0));
        futures::pin_mut!(asking, telling);
        match futures::future::select(asking, telling).await {
            futures::future::Either::Left((answer, _)) => panic!("{answer}"),
            futures::future::Either::Right((message, _)) => message,
        }
    };
    for item in ["a", "b"] {
        reply(&t, &told, item, json!({ "content": item })).await;
    }
    leaves_nothing(&t).await;
    t.stop().await;
}

async fn a_reply_that_cannot_be_kept_is_an_error() {
    let t = start().await;
    let messages = subscriber(&t).await;
    let answering = async {
        let message = message(&t, &messages, 0).await;
        let deep = (0..120).fold(json!({ "block": true }), |inner, _| json!([inner]));
        reply(&t, &message, "deep", deep).await;
    };
    let (found, ()) = join!(t.call(COLLECT, request("first_block_wins", 1)), answering);
    assert_eq!(
        found,
        Err(Error::coded(
            "replies_too_large",
            "a reply is nested deeper than 120 levels"
        ))
    );
    leaves_nothing(&t).await;
    t.stop().await;
}

async fn many_calls_at_once() {
    const CALLS: usize = 40;
    let t = start().await;
    let messages = subscriber(&t).await;
    let calls = (0..CALLS).map(|number| {
        let mut request = request("pipeline_last_wins", 1);
        request["payload"] = json!({ "n": number });
        t.ok(COLLECT, request)
    });
    let answering = async {
        message(&t, &messages, CALLS - 1).await;
        for message in messages.all().iter().rev() {
            reply(&t, message, "i", json!([message["payload"]["n"]])).await;
        }
    };
    let (answers, ()) = join!(futures::future::join_all(calls), answering);
    for (number, found) in answers.into_iter().enumerate() {
        assert_eq!(without_id(found), answer(json!([[number]]), json!([number])));
    }
    leaves_nothing(&t).await;
    t.stop().await;
}

/// More calls than there may be at once, one after the other, each of which ends early.
#[tokio::test]
async fn what_is_over_makes_room() {
    let t = unpublishing().await;
    for _ in 0..1_030 {
        let found = t.ok(COLLECT, request("field_merge", 1)).await;
        assert_eq!(found["publish_failed"], true);
    }
    t.stop().await;
}

/// A stop of the process does not wait for somebody to answer.
#[tokio::test]
async fn a_stop_ends_what_is_under_way() {
    let t = start().await;
    let messages = subscriber(&t).await;
    let context = harness::bus::CallContext::default();
    t.bus().notify(&context, COLLECT, request("field_merge", 9));
    message(&t, &messages, 0).await;
    t.stop().await;
}

/// Contract 04 weakness 14: a publish that hangs is one that failed, when the time is up.
#[tokio::test]
async fn w14_the_publish_has_no_more_time_than_the_rest() {
    let t = start().await;
    let messages = t.record("hooks::on_t", Value::Null);
    let publish = Held::serve(&t, "iii::durable::publish", Value::Null);
    let mut request = request("first_block_wins", 1);
    request["timeout_ms"] = json!(60);
    let found = t.ok(COLLECT, request).await;
    let mut expected = answer(json!([]), json!({ "block": false }));
    expected["publish"] = json!({ "ok": false, "error": "iii::durable::publish timed out after 60 ms" });
    expected["publish_failed"] = json!(true);
    assert_eq!(without_id(found), expected);
    assert_eq!(messages.count(), 0);
    publish.answers();
    t.stop().await;
}
