//! Contract 00 §7 on the embedded engine.

use std::sync::Arc;

use harness::bus::embedded::EmbeddedOptions;
use harness::bus::embedded::store::Durability;
use harness::config::MapEnv;
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::engine::{Engine, within};
use crate::support::timed::timed_engine;

fn schema() -> Value {
    json!({"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}}})
}

fn registration() -> Value {
    json!({"id": "my-app", "name": "My app", "description": "What it listens on", "schema": schema()})
}

fn with(mut request: Value, member: &str, value: Value) -> Value {
    request[member] = value;
    request
}

fn set(value: Value) -> Value {
    json!({"id": "my-app", "value": value})
}

fn event(event_type: &str, old: Value, new: Value) -> Value {
    json!({"type": "configuration", "event_type": event_type, "id": "my-app", "name": "My app",
        "description": "What it listens on", "schema": schema(), "old_value": old, "new_value": new})
}

async fn value(engine: &Engine) -> Value {
    engine.ok("configuration::get", json!({"id": "my-app"})).await["value"].clone()
}

#[tokio::test]
async fn c00_case_21_register_set_and_register_again() {
    let engine = Engine::memory().await;
    let mut events = engine
        .watch("w", "configuration", json!({"configuration_id": "my-app"}))
        .await;
    assert_eq!(
        engine.ok("configuration::register", registration()).await,
        with(registration(), "value", Value::Null)
    );
    assert_eq!(
        engine
            .error("configuration::set", set(json!({"port": "x"})))
            .await,
        (
            "SCHEMA_INVALID".to_owned(),
            "schema validation failed: /port: \"x\" is not of type \"integer\"".to_owned()
        )
    );
    assert_eq!(
        engine.ok("configuration::set", set(json!({"port": 1}))).await,
        json!({"old_value": null, "new_value": {"port": 1}})
    );
    assert_eq!(
        engine.ok("configuration::register", registration()).await,
        with(registration(), "value", json!({"port": 1}))
    );
    assert_eq!(value(&engine).await, json!({"port": 1}));
    let replaced = with(
        with(registration(), "initial_value", json!({"port": 2})),
        "metadata",
        json!({"m": 1}),
    );
    assert_eq!(
        engine.ok("configuration::register", replaced).await,
        with(
            with(registration(), "value", json!({"port": 2})),
            "metadata",
            json!({"m": 1})
        )
    );
    let one = json!({"port": 1});
    assert_eq!(
        events.next().await,
        event("configuration:registered", Value::Null, Value::Null)
    );
    assert_eq!(
        events.next().await,
        event("configuration:updated", Value::Null, one.clone())
    );
    assert_eq!(
        events.next().await,
        event("configuration:updated", one.clone(), one.clone())
    );
    assert_eq!(
        events.next().await,
        with(
            event("configuration:updated", one, json!({"port": 2})),
            "metadata",
            json!({"m": 1})
        )
    );
}

#[tokio::test]
async fn c00_case_22_what_is_missing_or_wrong_has_its_code() {
    let engine = Engine::memory().await;
    engine.ok("configuration::register", registration()).await;
    let cases = [
        ("configuration::get", json!({"id": "nope"}), "NOT_FOUND"),
        ("configuration::schema", json!({"id": "nope"}), "NOT_FOUND"),
        (
            "configuration::set",
            json!({"id": "nope", "value": 1}),
            "NOT_REGISTERED",
        ),
        (
            "configuration::set",
            json!({"id": "my-app"}),
            "deserialization_error",
        ),
        ("configuration::get", json!(null), "deserialization_error"),
        (
            "configuration::register",
            with(registration(), "id", json!("Bad Id")),
            "INVALID_ID",
        ),
        (
            "configuration::register",
            json!({"id": "x"}),
            "deserialization_error",
        ),
        (
            "configuration::register",
            with(registration(), "schema", json!({"type": 1})),
            "SCHEMA_INVALID",
        ),
        (
            "configuration::register",
            with(registration(), "initial_value", json!({})),
            "SCHEMA_INVALID",
        ),
    ];
    for (id, request, code) in cases {
        assert_eq!(engine.error(id, request.clone()).await.0, code, "{id} {request}");
    }
    assert_eq!(value(&engine).await, Value::Null);
}

#[tokio::test]
async fn lists_are_sorted_and_never_hold_values() {
    let engine = Engine::memory().await;
    let first = with(
        with(registration(), "id", json!("a")),
        "initial_value",
        json!({"port": 1}),
    );
    engine.ok("configuration::register", registration()).await;
    engine.ok("configuration::register", first).await;
    let list = engine.ok("configuration::list", json!({})).await;
    let rows = list["configurations"].as_array().unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "my-app", "queue"]);
    assert_eq!(rows[0], with(registration(), "id", json!("a")));
    assert_eq!(
        engine.ok("configuration::schema", json!({"id": "my-app"})).await,
        registration()
    );
}

#[tokio::test]
async fn values_survive_and_schemas_must_be_registered_again() {
    let home = tempfile::tempdir().unwrap();
    let engine = Engine::at(home.path().into()).await;
    engine
        .ok(
            "configuration::register",
            with(registration(), "metadata", json!([1])),
        )
        .await;
    engine.ok("configuration::set", set(json!({"port": 1}))).await;
    engine.stop().await;

    let engine = Engine::at(home.path().into()).await;
    assert_eq!(value(&engine).await, json!({"port": 1}));
    assert_eq!(
        engine.ok("configuration::schema", json!({"id": "my-app"})).await,
        with(
            with(registration(), "schema", Value::Null),
            "metadata",
            json!([1])
        )
    );
    assert_eq!(
        engine
            .error("configuration::set", set(json!({"port": 2})))
            .await
            .0,
        "SCHEMA_UNAVAILABLE"
    );
    let mut events = engine.watch("w", "configuration", json!({})).await;
    // A stricter schema does not touch what is stored.
    let strict = json!({"type": "string"});
    engine
        .ok(
            "configuration::register",
            with(registration(), "schema", strict.clone()),
        )
        .await;
    let one = json!({"port": 1});
    assert_eq!(
        events.next().await,
        with(event("configuration:updated", one.clone(), one), "schema", strict)
    );
    assert_eq!(
        engine.ok("configuration::set", set(json!("new"))).await,
        json!({"old_value": {"port": 1}, "new_value": "new"})
    );
}

#[tokio::test]
async fn placeholders_are_kept_as_written_and_expanded_on_the_way_out() {
    let env = MapEnv::from([("PORT", "8080"), ("HOST", "box")]);
    let options = EmbeddedOptions {
        durability: Durability::Normal,
        ..EmbeddedOptions::default()
    };
    let engine = timed_engine(options, env).await;
    let mut events = engine
        .watch(
            "w",
            "configuration",
            json!({"event_types": ["configuration:updated"]}),
        )
        .await;
    engine.ok("configuration::register", registration()).await;
    let raw = json!({"port": "${PORT}", "url": "http://${HOST}:${PORT}/", "level": "${LEVEL:info}"});
    assert_eq!(
        engine.ok("configuration::set", set(raw.clone())).await,
        json!({"old_value": null, "new_value": raw})
    );
    let expanded = json!({"port": 8080, "url": "http://box:8080/", "level": "info"});
    assert_eq!(value(&engine).await, expanded);
    assert_eq!(
        engine
            .ok("configuration::get", json!({"id": "my-app", "raw": true}))
            .await,
        json!({"id": "my-app", "value": raw})
    );
    assert_eq!(
        events.next().await,
        event("configuration:updated", Value::Null, expanded)
    );
    assert_eq!(
        engine
            .error("configuration::set", set(json!({"port": "${HOST}"})))
            .await
            .0,
        "SCHEMA_INVALID"
    );

    engine
        .ok("configuration::set", set(json!({"port": "${NOPE}"})))
        .await;
    assert_eq!(
        engine.error("configuration::get", json!({"id": "my-app"})).await,
        (
            "EXPAND_FAILED".to_owned(),
            "Configuration 'my-app': variable 'NOPE' at '/port' is not set and has no default".to_owned()
        )
    );
}

#[tokio::test]
async fn c00_case_19_a_slow_subscriber_does_not_hold_up_another() {
    let engine = Engine::memory().await;
    let release = Arc::new(Notify::new());
    let held = Arc::clone(&release);
    engine.serve("slow", move |_, _| {
        let held = Arc::clone(&held);
        async move {
            held.notified().await;
            Ok(Value::Null)
        }
    });
    engine
        .bind("slow", "configuration", "slow", json!({}))
        .await
        .unwrap();
    let mut quick = engine.watch("quick", "configuration", json!({})).await;
    engine.ok("configuration::register", registration()).await;
    engine.ok("configuration::set", set(json!({"port": 1}))).await;
    assert_eq!(
        quick.next().await,
        event("configuration:registered", Value::Null, Value::Null)
    );
    assert_eq!(
        quick.next().await,
        event("configuration:updated", Value::Null, json!({"port": 1}))
    );
    release.notify_one();
    release.notify_waiters();
}

#[tokio::test]
async fn c00_case_20_only_false_blocks() {
    let engine = Engine::memory().await;
    engine.serve("no", |_, _| std::future::ready(Ok(json!(false))));
    engine.serve("null", |_, _| std::future::ready(Ok(Value::Null)));
    engine.serve("broken", |_, _| std::future::ready(Err(Error::invalid("broken"))));
    let config = |condition: &str| json!({"condition_function_id": condition});
    let blocked = engine.watch("blocked", "configuration", config("no")).await;
    let failed = engine.watch("failed", "configuration", config("broken")).await;
    let mut passed = engine.watch("passed", "configuration", config("null")).await;
    for _ in 0..3 {
        engine.ok("configuration::register", registration()).await;
        passed.next().await;
    }
    assert!(blocked.is_empty() && failed.is_empty());
}

#[tokio::test]
async fn bindings_see_what_they_ask_for() {
    let engine = Engine::memory().await;
    let other = engine
        .watch("other", "configuration", json!({"configuration_id": "other"}))
        .await;
    let registered = json!({"event_types": ["configuration:registered"]});
    let mut born = engine.watch("born", "configuration", registered).await;
    let mut all = engine
        .watch(
            "all",
            "configuration",
            json!({"event_types": [], "configuration_id": ""}),
        )
        .await;
    engine.ok("configuration::register", registration()).await;
    engine.ok("configuration::set", set(json!({"port": 1}))).await;
    born.next().await;
    all.next().await;
    all.next().await;
    assert!(other.is_empty() && born.is_empty());
    for config in [
        json!({"configuration_id": 1}),
        json!({"event_types": "x"}),
        json!({"event_types": [1]}),
    ] {
        let error = engine
            .bind("b", "configuration", "all", config)
            .await
            .unwrap_err();
        assert_eq!(error.wire_code(), "trigger_registration_failed");
    }
}

#[tokio::test]
async fn concurrent_sets_are_seen_in_the_order_of_their_writes() {
    let engine = Engine::memory().await;
    engine.ok("configuration::register", registration()).await;
    let mut events = engine.watch("w", "configuration", json!({})).await;
    for n in 0..200 {
        engine.fire("configuration::set", set(json!({"port": n})));
    }
    for n in 0..200 {
        assert_eq!(within(events.next()).await["new_value"], json!({"port": n}));
    }
}
