//! Contract 09 part A: the model catalog.

use harness::bus::{CallContext, CallOptions};
use harness::error::Error;
use harness::model::api;
use harness::workers;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::bridge_rig::Rig;
use crate::support::spy::Spy;
use crate::support::{TestBus, TestOptions, three_ways};

three_ways! {
    c09_case_16_registered_verbatim,
    c09_case_17_bad_records_are_refused_and_nothing_is_lost,
    c09_case_18_get,
    c09_case_19_list_filters_and_sorts,
    c09_case_20_21_supports,
    c09_case_22_ids_with_slashes_and_colons,
    c09_case_23_junk_in_the_scope_is_skipped,
    what_others_write_is_seen,
    a_record_can_be_removed,
    many_registrations_at_once,
}

fn m1() -> Value {
    json!({"id": "m1", "provider": "p1", "api": "x", "display_name": "M", "context_window": 1000,
           "supports_tools": true, "custom": 1})
}

async fn list(rig: &Rig, filter: Value) -> Vec<String> {
    let reply = rig.ok("models::list", filter).await;
    let models = reply["models"].as_array().unwrap();
    models
        .iter()
        .map(|model| model["id"].as_str().unwrap().to_owned())
        .collect()
}

async fn c09_case_16_registered_verbatim() {
    let rig = Rig::start().await;
    assert_eq!(
        rig.ok("models::register", m1()).await,
        json!({"key": "models:p1:m1", "registered": true})
    );
    let stored = rig
        .ok("state::get", json!({"scope": "models", "key": "models:p1:m1"}))
        .await;
    assert_eq!(stored, m1());
}

async fn c09_case_17_bad_records_are_refused_and_nothing_is_lost() {
    let rig = Rig::start().await;
    rig.ok("models::register", m1()).await;
    for payload in [
        json!({"provider": "p1"}),
        json!({"id": "m"}),
        json!(null),
        json!("x"),
        json!([m1()]),
    ] {
        assert_eq!(
            rig.error("models::register", payload).await,
            "invalid Model payload: provider and id are required"
        );
    }
    let mut typed_wrong = m1();
    typed_wrong["context_window"] = json!("1000");
    assert_eq!(
        rig.error("models::register", typed_wrong).await,
        "invalid Model payload: context_window must be a number"
    );
    assert_eq!(
        rig.ok("models::list", json!(null)).await,
        json!({"models": [m1()]})
    );
}

async fn c09_case_18_get() {
    let rig = Rig::start().await;
    rig.ok("models::register", m1()).await;
    for payload in [
        json!({"provider": "p1", "model_id": "m1"}),
        json!({"provider": "p1", "id": "m1"}),
    ] {
        assert_eq!(rig.ok("models::get", payload).await, m1());
    }
    for payload in [
        json!({"provider": "p1", "model_id": "m"}),
        json!({"provider": "p", "model_id": "m1"}),
        json!({"provider": "P1", "model_id": "m1"}),
    ] {
        assert_eq!(rig.ok("models::get", payload).await, Value::Null);
    }
    assert_eq!(
        rig.error("models::get", json!({"provider": "p1"})).await,
        "missing required string field: model_id"
    );
    for payload in [json!({}), json!(null), json!({"provider": 1, "model_id": "m1"})] {
        assert_eq!(
            rig.error("models::get", payload).await,
            "missing required string field: provider"
        );
    }
}

#[tokio::test]
async fn typed_callers_get_the_record_typed() {
    let rig = Rig::start().await;
    rig.ok("models::register", m1()).await;
    let get = async |id: &str| {
        let request = api::models::GetRequest {
            provider: "p1".into(),
            model_id: id.to_owned(),
        };
        rig.bus()
            .call::<api::models::Get>(&CallContext::default(), request, CallOptions::default())
            .await
            .unwrap()
    };
    assert_eq!(
        get("m1").await.and_then(|model| model.context_window),
        Some(1000.0)
    );
    assert_eq!(get("m2").await, None);
    // Written by hand with a wrong type: that member counts as absent.
    let odd = json!({"scope": "models", "key": "models:p1:odd",
                     "value": {"id": "odd", "provider": "p1", "context_window": "big", "max_output_tokens": 5}});
    rig.ok("state::set", odd).await;
    let odd = rig.eventually(async || get("odd").await).await;
    assert_eq!((odd.context_window, odd.max_output_tokens), (None, Some(5.0)));
}

async fn c09_case_19_list_filters_and_sorts() {
    let rig = Rig::start().await;
    for record in [
        json!({"id": "z", "provider": "p2", "supports_vision": true}),
        json!({"id": "b", "provider": "p1", "supports_tools": false}),
        m1(),
        json!({"id": "a", "provider": "p2", "supports_tools": true}),
    ] {
        rig.ok("models::register", record).await;
    }
    for (filter, expected) in [
        (json!({}), vec!["b", "m1", "a", "z"]),
        (json!(null), vec!["b", "m1", "a", "z"]),
        (json!(["p1"]), vec!["b", "m1", "a", "z"]),
        (json!("p1"), vec!["b", "m1", "a", "z"]),
        (
            json!({"provider": 5, "capability": []}),
            vec!["b", "m1", "a", "z"],
        ),
        (json!({"provider": "p1"}), vec!["b", "m1"]),
        (json!({"capability": "tools"}), vec!["m1", "a"]),
        (json!({"capability": "vision"}), vec!["z"]),
        (json!({"capability": "bogus"}), vec!["b", "m1", "a", "z"]),
        (json!({"provider": "p2", "capability": "tools"}), vec!["a"]),
        (json!({"provider": "none"}), vec![]),
    ] {
        assert_eq!(list(&rig, filter.clone()).await, expected, "{filter}");
    }
}

async fn c09_case_20_21_supports() {
    let rig = Rig::start().await;
    rig.ok("models::register", m1()).await;
    rig.ok(
        "models::register",
        json!({"id": "t", "provider": "p1", "supports_thinking": true}),
    )
    .await;
    for (model, capability, expected) in [
        ("m1", "tools", true),
        ("m1", "thinking:high", false),
        ("nobody", "tools", false),
        ("t", "thinking", true),
        ("t", "thinking:low", true),
        ("t", "thinking:medium", true),
        ("t", "thinking:high", true),
        ("t", "thinking:minimal", true),
        ("t", "thinking:xhigh", false),
    ] {
        let request = json!({"provider": "p1", "model_id": model, "capability": capability});
        assert_eq!(
            rig.ok("models::supports", request).await,
            json!({ "supported": expected })
        );
    }
    for (request, expected) in [
        (
            json!({"provider": "p1", "model_id": "m1", "capability": "bogus"}),
            "missing or unknown capability",
        ),
        (
            json!({"provider": "p1", "model_id": "m1"}),
            "missing required string field: capability",
        ),
        (
            json!({"capability": "tools"}),
            "missing required string field: provider",
        ),
        (
            json!({"provider": "p1"}),
            "missing required string field: model_id",
        ),
        (json!("x"), "missing required string field: provider"),
        (
            json!(["p1", "m1", "tools"]),
            "missing required string field: provider",
        ),
    ] {
        assert_eq!(rig.error("models::supports", request).await, expected);
    }
}

async fn c09_case_22_ids_with_slashes_and_colons() {
    let rig = Rig::start().await;
    let record = json!({"id": "qwen/qwen3:4b", "provider": "lmstudio"});
    assert_eq!(
        rig.ok("models::register", record.clone()).await["key"],
        json!("models:lmstudio:qwen/qwen3:4b")
    );
    let request = json!({"provider": "lmstudio", "model_id": "qwen/qwen3:4b"});
    assert_eq!(rig.ok("models::get", request).await, record);
    assert_eq!(list(&rig, json!({})).await, ["qwen/qwen3:4b"]);
}

async fn c09_case_23_junk_in_the_scope_is_skipped() {
    let rig = Rig::start().await;
    rig.ok("models::register", m1()).await;
    for (key, value) in [
        ("junk", json!("junk")),
        ("models:p1", json!([m1()])),
        ("n", json!(7)),
    ] {
        rig.ok(
            "state::set",
            json!({"scope": "models", "key": key, "value": value}),
        )
        .await;
    }
    assert_eq!(list(&rig, json!({})).await, ["m1"]);
}

async fn what_others_write_is_seen() {
    let rig = Rig::start().await;
    assert_eq!(list(&rig, json!({})).await, Vec::<String>::new());
    rig.ok(
        "state::set",
        json!({"scope": "models", "key": "models:p1:m1", "value": m1()}),
    )
    .await;
    // A miss is looked up at once, the list follows within a second.
    assert_eq!(
        rig.ok("models::get", json!({"provider": "p1", "model_id": "m1"}))
            .await,
        m1()
    );
    rig.ok("state::delete", json!({"scope": "models", "key": "models:p1:m1"}))
        .await;
    rig.eventually(async || list(&rig, json!({})).await.is_empty().then_some(()))
        .await;
}

async fn a_record_can_be_removed() {
    let rig = Rig::start().await;
    rig.ok("models::register", m1()).await;
    assert_eq!(
        rig.ok(
            "models::register",
            json!({"provider": "p1", "id": "m1", "removed": true})
        )
        .await,
        json!({"key": "models:p1:m1", "registered": false})
    );
    assert_eq!(list(&rig, json!({})).await, Vec::<String>::new());
    let stored = rig
        .ok("state::get", json!({"scope": "models", "key": "models:p1:m1"}))
        .await;
    assert_eq!(stored, Value::Null);
}

/// On an engine of its own the program hears of each write, so that the map is right without being read again.
#[tokio::test]
async fn c09_weakness_8_lookups_ask_no_state() {
    let spy = Spy::default();
    let test = TestBus::with(TestOptions {
        workers: vec![workers::models::worker()],
        wrap: spy.wrap(),
        ..TestOptions::default()
    })
    .await;
    let reads = || {
        let calls = spy.calls();
        let reads = calls
            .iter()
            .filter(|(id, scope)| ["state::get", "state::list"].contains(&id.as_str()) && scope == "models");
        reads.count()
    };
    test.ok("models::register", m1()).await;
    let known = json!({"provider": "p1", "model_id": "m1"});
    assert_eq!(test.ok("models::get", known.clone()).await, m1());
    let before = reads();
    for _ in 0..50 {
        assert_eq!(test.ok("models::get", known.clone()).await, m1());
        let unknown = json!({"provider": "p1", "model_id": "m2"});
        assert_eq!(test.ok("models::get", unknown).await, Value::Null);
        assert_eq!(
            test.ok("models::list", json!({})).await,
            json!({"models": [m1()]})
        );
    }
    assert_eq!(reads(), before);
    // Written and removed by hand: seen by the very next call.
    let (m2, row) = (json!({"id": "m2", "provider": "p1"}), ("models", "models:p1:m2"));
    test.set_state(row.0, row.1, m2.clone()).await;
    assert_eq!(
        test.ok("models::list", json!({})).await,
        json!({"models": [m1(), m2]})
    );
    test.ok("state::delete", json!({"scope": row.0, "key": row.1}))
        .await;
    assert_eq!(
        test.ok("models::list", json!({})).await,
        json!({"models": [m1()]})
    );
    test.stop().await;
}

#[tokio::test]
async fn a_failed_write_fails_the_registration_and_a_failed_read_empties_no_catalog() {
    let rig = Rig::start().await;
    rig.ok("models::register", m1()).await;
    for id in ["state::set", "state::delete", "state::list", "state::get"] {
        rig.fails(id, Error::store(id, "disk"));
    }
    assert_eq!(
        rig.error("models::register", json!({"id": "m2", "provider": "p1"}))
            .await,
        "state::set: disk"
    );
    assert_eq!(
        rig.error(
            "models::register",
            json!({"id": "m1", "provider": "p1", "removed": true})
        )
        .await,
        "state::delete: disk"
    );
    assert_eq!(list(&rig, json!({})).await, ["m1"]);
    assert_eq!(
        rig.ok("models::get", json!({"provider": "p1", "model_id": "m2"}))
            .await,
        Value::Null
    );
    let fresh = Rig::start().await;
    fresh.fails("state::list", Error::store("state::list", "disk"));
    assert_eq!(list(&fresh, json!({})).await, Vec::<String>::new());
}

async fn many_registrations_at_once() {
    let rig = Rig::start().await;
    let calls = (0..200).map(|n| {
        rig.ok(
            "models::register",
            json!({"id": format!("m{n:03}"), "provider": "p"}),
        )
    });
    futures::future::join_all(calls).await;
    let expected: Vec<String> = (0..200).map(|n| format!("m{n:03}")).collect();
    assert_eq!(list(&rig, json!({})).await, expected);
}
