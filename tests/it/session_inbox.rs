//! `session-inbox::*`: acceptance cases of contract 06 and hostile payloads.

use std::collections::HashMap;

use harness::config::StoreBackend;
use harness::model::api::session::{InboxDrain, InboxPeek, InboxPush, InboxPushRequest, InboxRef};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::session_rig::{Rig, together};
use crate::support::three_ways;

three_ways! {
    c06_case_32_push_peek_drain,
    c06_case_33_an_item_may_be_null_but_not_absent,
    c06_case_34_items_of_any_kind_keep_their_shape,
    c06_case_35_every_item_is_drained_once on 4 threads,
    c06_case_36_empty_drains_write_nothing,
    c06_case_37_inboxes_are_separate,
    what_others_left_under_a_key_is_kept,
    the_scope_is_a_setting,
}

async fn push(rig: &Rig, name: &str, session: &str, item: Value) -> Value {
    let request = json!({"name": name, "session_id": session, "item": item});
    rig.call("session-inbox::push", request).await.unwrap()
}

async fn peek(rig: &Rig, name: &str, session: &str) -> Value {
    let request = json!({"name": name, "session_id": session});
    rig.call("session-inbox::peek", request).await.unwrap()["items"].take()
}

async fn drain(rig: &Rig, name: &str, session: &str) -> Value {
    let request = json!({"name": name, "session_id": session});
    rig.call("session-inbox::drain", request).await.unwrap()["items"].take()
}

async fn both_backends() -> [Rig; 2] {
    let memory = Rig::with(|config| config.session.store_backend = StoreBackend::Memory).await;
    [Rig::start().await, memory]
}

async fn c06_case_32_push_peek_drain() {
    for rig in both_backends().await {
        assert_eq!(
            push(&rig, "n", "s", json!({"a": 1})).await,
            json!({"ok": true, "length": 1})
        );
        assert_eq!(
            push(&rig, "n", "s", json!({"a": 2})).await,
            json!({"ok": true, "length": 2})
        );
        let both = json!([{"a": 1}, {"a": 2}]);
        assert_eq!(peek(&rig, "n", "s").await, both);
        assert_eq!(peek(&rig, "n", "s").await, both);
        assert_eq!(drain(&rig, "n", "s").await, both);
        assert_eq!(drain(&rig, "n", "s").await, json!([]));
    }
}

async fn c06_case_33_an_item_may_be_null_but_not_absent() {
    for rig in both_backends().await {
        let text = rig
            .refusal("session-inbox::push", json!({"name": "n", "session_id": "s"}))
            .await;
        assert_eq!(text, "missing required field: item");
        push(&rig, "n", "s", Value::Null).await;
        assert_eq!(drain(&rig, "n", "s").await, json!([null]));
    }
}

async fn c06_case_34_items_of_any_kind_keep_their_shape() {
    for rig in both_backends().await {
        let items = [
            json!("hello"),
            json!("world"),
            json!({"x": 1}),
            json!([1, 2]),
            json!(7),
            json!("again"),
        ];
        for item in &items {
            push(&rig, "n", "s", item.clone()).await;
        }
        assert_eq!(peek(&rig, "n", "s").await, json!(items));
        assert_eq!(drain(&rig, "n", "s").await, json!(items));
        push(&rig, "n", "s", json!("after a drain")).await;
        assert_eq!(drain(&rig, "n", "s").await, json!(["after a drain"]));
    }
}

async fn c06_case_35_every_item_is_drained_once() {
    for rig in both_backends().await {
        let tasks = (0..210).map(|n| {
            let rig = rig.clone();
            async move {
                if n % 21 == 20 {
                    return drain(&rig, "n", "s").await.as_array().unwrap().clone();
                }
                // Every other one is a string: those are the ones an engine's append would spoil.
                let item = if n % 2 == 0 {
                    json!(n)
                } else {
                    json!(n.to_string())
                };
                push(&rig, "n", "s", item).await;
                Vec::new()
            }
        });
        let mut seen = together(tasks).await.concat();
        seen.extend(drain(&rig, "n", "s").await.as_array().unwrap().clone());
        let mut counts = HashMap::new();
        for item in seen {
            let n = item.as_i64().or_else(|| item.as_str()?.parse().ok()).unwrap();
            *counts.entry(n).or_insert(0) += 1;
        }
        assert_eq!(
            counts,
            (0..210).filter(|n| n % 21 != 20).map(|n| (n, 1)).collect()
        );
    }
}

async fn c06_case_36_empty_drains_write_nothing() {
    let rig = Rig::start().await;
    for _ in 0..20 {
        assert_eq!(drain(&rig, "n", "s").await, json!([]));
    }
    assert_eq!(
        rig.call("state::list", json!({"scope": "inbox"})).await,
        Ok(json!([]))
    );
    push(&rig, "n", "s", json!(1)).await;
    drain(&rig, "n", "s").await;
    rig.clear();
    drain(&rig, "n", "s").await;
    assert_eq!(rig.writes(), [""; 0]);
}

async fn c06_case_37_inboxes_are_separate() {
    for rig in both_backends().await {
        push(&rig, "steering", "S1", json!(1)).await;
        assert_eq!(peek(&rig, "followup", "S1").await, json!([]));
        assert_eq!(peek(&rig, "steering", "S2").await, json!([]));
        assert_eq!(peek(&rig, "steering", "S1").await, json!([1]));
    }
}

async fn what_others_left_under_a_key_is_kept() {
    let rig = Rig::start().await;
    let leave = async |value: Value| {
        let request = json!({"scope": "inbox", "key": "s/n", "value": value});
        rig.call("state::set", request).await.unwrap();
    };
    leave(json!("bare")).await;
    assert_eq!(peek(&rig, "n", "s").await, json!(["bare"]));
    assert_eq!(
        push(&rig, "n", "s", json!("next")).await,
        json!({"ok": true, "length": 2})
    );
    assert_eq!(drain(&rig, "n", "s").await, json!(["bare", "next"]));
    leave(json!({"an": "object"})).await;
    assert_eq!(
        push(&rig, "n", "s", json!({"b": 1})).await,
        json!({"ok": true, "length": 2})
    );
    assert_eq!(drain(&rig, "n", "s").await, json!([{"an": "object"}, {"b": 1}]));
    leave(json!("bare")).await;
    assert_eq!(drain(&rig, "n", "s").await, json!(["bare"]));
}

async fn the_scope_is_a_setting() {
    let rig = Rig::with(|config| config.session.state_scope = "post".into()).await;
    push(&rig, "n", "s", json!(1)).await;
    let stored = rig
        .call("state::get", json!({"scope": "post", "key": "s/n"}))
        .await;
    assert_eq!(stored, Ok(json!([1])));
}

#[tokio::test]
async fn a_storage_error_is_an_error_and_loses_nothing() {
    let rig = Rig::start().await;
    push(&rig, "n", "s", json!(1)).await;
    let request = json!({"name": "n", "session_id": "s", "item": 2});
    for (failing, text) in [
        ("state::get", "state::get inbox: disk on fire"),
        ("state::update", "state::update inbox: disk on fire"),
    ] {
        rig.fail(Some(failing));
        assert_eq!(rig.refusal("session-inbox::push", request.clone()).await, text);
        assert_eq!(rig.refusal("session-inbox::drain", request.clone()).await, text);
    }
    rig.fail(Some("state::get"));
    let text = rig.refusal("session-inbox::peek", request).await;
    assert_eq!(text, "state::get inbox: disk on fire");
    rig.fail(None);
    assert_eq!(drain(&rig, "n", "s").await, json!([1]));
}

#[tokio::test]
async fn typed_and_json_callers_are_checked_alike() {
    let rig = Rig::start().await;
    for (name, session, text) in [
        ("", "s", "missing required string field: name".to_owned()),
        ("n", "", "missing required string field: session_id".to_owned()),
        ("a/b", "s", "invalid name: must not contain \"/\"".to_owned()),
        (
            "n",
            "a\u{0}",
            "invalid session_id: contains a control character".to_owned(),
        ),
        (
            "n",
            &"i".repeat(1 << 20),
            "invalid session_id: longer than 256 bytes".to_owned(),
        ),
        (
            &"n".repeat(1 << 20),
            "s",
            "invalid name: longer than 256 bytes".to_owned(),
        ),
    ] {
        let at = InboxRef {
            name: name.to_owned(),
            session_id: session.into(),
        };
        let item = InboxPushRequest {
            name: name.to_owned(),
            session_id: session.into(),
            item: json!(1),
        };
        let typed = [
            rig.typed::<InboxPush>(item).await.unwrap_err(),
            rig.typed::<InboxPeek>(at.clone()).await.unwrap_err(),
            rig.typed::<InboxDrain>(at).await.unwrap_err(),
        ];
        for error in typed {
            assert_eq!(error.to_string(), text);
        }
        for function in ["push", "peek", "drain"] {
            let request = json!({"name": name, "session_id": session, "item": 1});
            assert_eq!(
                rig.refusal(&format!("session-inbox::{function}"), request).await,
                text
            );
        }
    }
    assert_eq!(rig.asked(), []);
}

#[tokio::test]
async fn hostile_payloads_are_refused_and_write_nothing() {
    let rig = Rig::start().await;
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    for function in ["push", "peek", "drain"] {
        let id = format!("session-inbox::{function}");
        for payload in [
            json!(5),
            json!("n"),
            json!(["n", "s", 1]),
            Value::Null,
            json!({"name": 5}),
        ] {
            assert_eq!(
                rig.refusal(&id, payload).await,
                "missing required string field: name"
            );
        }
        let deep = json!({"name": "n", "session_id": "s", "item": nested(200)});
        assert_eq!(
            rig.refusal(&id, deep).await,
            "payload is nested deeper than 128 levels"
        );
        let large = json!({"name": "n", "session_id": "s", "item": "x".repeat(16 << 20)});
        let error = rig.call(&id, large).await.unwrap_err();
        assert_eq!(error.wire_code(), "payload_too_large");
    }
    let deep = json!({"name": "n", "session_id": "s", "item": nested(120)});
    let text = rig.refusal("session-inbox::push", deep).await;
    assert_eq!(text, "invalid item: nested deeper than 120 levels");
    assert_eq!(rig.asked(), []);
}
