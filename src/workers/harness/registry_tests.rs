//! The registry when the configuration worker is slow, broken or empty (contract 09 B3, B4).

use std::sync::{Arc, Mutex};

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::testing::{ConfigurationDouble, bare, call, cx, empty, holding, host, resolve, settle};
use super::{entry, registry};
use crate::bus::FunctionDef;
use crate::config::{Config, MapEnv};
use crate::error::Error;

#[tokio::test(start_paused = true)]
async fn c09_case_01_one_registration_with_the_seed_when_there_is_nothing() {
    for nothing in [json!(null), json!("absent")] {
        let bus = bare(Config::default(), MapEnv::default());
        let double = if nothing.is_null() {
            ConfigurationDouble::install(&bus, holding(Value::Null))
        } else {
            ConfigurationDouble::install(&bus, empty())
        };
        host(&bus).await;
        settle(1_000).await;
        let config = Config::default();
        let declared = cx(&bus).state().registry.all(&config);
        assert_eq!(
            double.registered(),
            [
                json!({"id": "harness", "name": "harness", "description": entry::DESCRIPTION,
                    "schema": entry::schema(&declared, []), "initial_value": entry::seed()})
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c09_case_13_stored_keys_are_never_overwritten() {
    let stored = json!({"permissions": {"default_mode": "auto"}, "providers": {"gone": {"api_key": "sk"}}});
    let bus = bare(Config::default(), MapEnv::default());
    let double = ConfigurationDouble::install(&bus, holding(stored));
    host(&bus).await;
    let registered = double.registered();
    assert_eq!(registered.len(), 1);
    assert_eq!(registered[0].get("initial_value"), None);
    assert_eq!(
        registered[0].pointer("/schema/properties/providers/properties/gone"),
        Some(&json!({"type": "object", "title": "gone"}))
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_or_late_read_is_not_taken_for_an_empty_entry() {
    let bus = bare(Config::default(), MapEnv::default());
    let double = ConfigurationDouble::install(&bus, |_, _| None);
    host(&bus).await;
    assert_eq!(double.registered(), Vec::<Value>::new());
    double.now(|_, _| Some(Err(Error::coded("ADAPTER_ERROR", "disk"))));
    settle(20_000).await;
    assert_eq!(double.registered(), Vec::<Value>::new());
    double.now(empty());
    settle(31_000).await;
    assert_eq!(double.registered().len(), 1, "the background work got through");
    settle(120_000).await;
    assert_eq!(double.registered(), Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn a_lost_schema_is_registered_again_without_an_initial_value() {
    // Lost at once: the read-back notices.
    let bus = bare(Config::default(), MapEnv::default());
    let double = ConfigurationDouble::install(&bus, |verb, _| {
        Some(match verb {
            "get" => Err(Error::coded("NOT_FOUND", "")),
            _ => Ok(json!({"id": "harness", "schema": null})),
        })
    });
    host(&bus).await;
    let registered = double.registered();
    assert_eq!(
        registered
            .iter()
            .map(|request| request.get("initial_value").is_some())
            .collect::<Vec<_>>(),
        [true, false]
    );
    // Lost later, with a restart of the engine: the background work notices.
    double.now(holding(entry::seed()));
    settle(31_000).await;
    double.registered();
    double.now(|verb, _| {
        Some(match verb {
            "schema" => Err(Error::coded("NOT_FOUND", "")),
            _ => Ok(json!({"id": "harness", "value": entry::seed()})),
        })
    });
    settle(31_000).await;
    let registered = double.registered();
    assert!(!registered.is_empty());
    assert!(
        registered
            .iter()
            .all(|request| request.get("initial_value").is_none())
    );
}

#[tokio::test(start_paused = true)]
async fn c09_case_09_11_declaring_and_declaring_again() {
    let env = MapEnv::from([("FOO_KEY", "k")]);
    let bus = bare(Config::default(), env);
    let double = ConfigurationDouble::install(&bus, holding(entry::seed()));
    host(&bus).await;
    double.registered();
    let foo = json!({"id": "foo", "credential_env_var": "FOO_KEY", "unknown": 1,
                     "defaults": {"api_url": "http://foo/v1/chat/completions", "max_tokens": 1234}});
    let register = |payload: Value| call(&bus, "harness::provider::register", payload);
    assert_eq!(register(foo.clone()).await, Ok(json!({"ok": true})));
    let registered = double.registered();
    assert_eq!(registered.len(), 1);
    assert_eq!(
        registered[0].pointer("/schema/properties/providers/properties/foo/properties/max_tokens/default"),
        Some(&json!(1234))
    );
    assert_eq!(
        resolve(&bus, "foo").await,
        json!({"configured": true, "source": "environment", "credential": {"type": "api_key", "key": "k"},
               "api_url": "http://foo/v1/chat/completions", "max_tokens": 1234, "max_tokens_stored": false})
    );
    assert_eq!(register(foo).await, Ok(json!({"ok": true})));
    assert_eq!(double.registered(), Vec::<Value>::new(), "nothing changed");

    for payload in [
        json!({"id": "bar"}),
        json!({"id": "foo", "display_name": "Foo 2"}),
    ] {
        assert_eq!(register(payload).await, Ok(json!({"ok": true})));
    }
    let list = call(&bus, "harness::provider::list", json!("ignored"))
        .await
        .unwrap();
    let names: Vec<(&str, &str)> = list["providers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row["display_name"].as_str().unwrap()))
        .collect();
    assert_eq!(
        names,
        [
            ("anthropic", "anthropic"),
            ("openai", "openai"),
            ("kimi", "kimi (moonshot)"),
            ("lmstudio", "lm studio"),
            ("llamacpp", "llama.cpp"),
            ("foo", "Foo 2"),
            ("bar", "bar"),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn c09_case_11_hostile_declarations_change_nothing() {
    let bus = bare(Config::default(), MapEnv::default());
    let double = ConfigurationDouble::install(&bus, holding(entry::seed()));
    host(&bus).await;
    double.registered();
    for payload in [
        json!({}),
        json!(null),
        json!("foo"),
        json!([]),
        json!({"id": ""}),
        json!({"id": 5}),
        json!({"id": "Foo"}),
        json!({"id": "foo", "display_name": 5}),
        json!({"id": "foo", "credential_env_var": {}}),
        json!({"id": "foo", "config_schema": "x"}),
        json!({"id": "foo", "config_schema": {"type": "bogus"}}),
        json!({"id": "foo", "defaults": []}),
        json!({"id": "foo", "defaults": {"max_tokens": "many"}}),
        json!({"id": "foo", "defaults": {"max_tokens": 0}}),
        json!({"id": "foo", "supports_model_listing": "yes"}),
    ] {
        let error = call(&bus, "harness::provider::register", payload.clone())
            .await
            .unwrap_err();
        assert!(
            error.to_string().starts_with("invalid provider declaration: "),
            "{payload}: {error}"
        );
    }
    assert_eq!(double.registered(), Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn a_slow_write_goes_on_behind_the_answer() {
    let bus = bare(Config::default(), MapEnv::default());
    let double = ConfigurationDouble::install(&bus, holding(entry::seed()));
    host(&bus).await;
    double.registered();
    // It answers after 4.5 s, when nobody waits for the answer any more.
    let slow = FunctionDef::ad_hoc("configuration::register", {
        let double = double.clone();
        move |payload: Value, _| {
            let calls = Arc::clone(&double.calls);
            async move {
                settle(4_500).await;
                calls.lock().unwrap().push(("register".to_owned(), payload));
                Ok(json!({}))
            }
        }
    });
    bus.unregister("configuration::register");
    bus.register(slow).unwrap();
    assert_eq!(
        call(&bus, "harness::provider::register", json!({"id": "foo"})).await,
        Ok(json!({"ok": true}))
    );
    assert_eq!(double.registered().len(), 0);
    settle(1_000).await;
    assert_eq!(double.registered().len(), 1);
    settle(120_000).await;
    assert_eq!(double.registered(), Vec::<Value>::new(), "once is enough");
}

/// Were two writes under way at once, the older schema could be the one that stays.
#[tokio::test(start_paused = true)]
async fn a_slow_registration_is_not_overtaken() {
    let bus = bare(Config::default(), MapEnv::default());
    ConfigurationDouble::install(&bus, holding(entry::seed()));
    host(&bus).await;
    let (pauses, applied) = (Arc::new(Mutex::new(10..)), Arc::new(Mutex::new(Value::Null)));
    let stays = Arc::clone(&applied);
    let slow = FunctionDef::ad_hoc("configuration::register", move |mut payload: Value, _| {
        let (pauses, applied) = (Arc::clone(&pauses), Arc::clone(&applied));
        async move {
            let pause: u64 = pauses.lock().unwrap().next().unwrap();
            settle(1_000 / pause).await;
            *applied.lock().unwrap() = payload["schema"].take();
            Ok(json!({}))
        }
    });
    bus.unregister("configuration::register");
    bus.register(slow).unwrap();
    let calls = (0..5).map(|n| {
        let bus = &bus;
        async move {
            settle(n).await;
            call(
                bus,
                "harness::provider::register",
                json!({ "id": format!("p{n}") }),
            )
            .await
        }
    });
    for outcome in futures::future::join_all(calls).await {
        assert_eq!(outcome, Ok(json!({"ok": true})));
    }
    let schema = stays.lock().unwrap().take();
    let slices = schema.pointer("/properties/providers/properties").unwrap();
    let missing: Vec<u64> = (0..5).filter(|n| slices.get(format!("p{n}")).is_none()).collect();
    assert_eq!(missing, Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn concurrent_declarations_are_written_one_after_the_other() {
    let bus = bare(Config::default(), MapEnv::default());
    let double = ConfigurationDouble::install(&bus, holding(entry::seed()));
    host(&bus).await;
    double.registered();
    let ids: Vec<String> = (0..20).map(|n| format!("p{n}")).collect();
    let calls = ids
        .iter()
        .map(|id| call(&bus, "harness::provider::register", json!({ "id": id })));
    for outcome in futures::future::join_all(calls).await {
        assert_eq!(outcome, Ok(json!({"ok": true})));
    }
    let registered = double.registered();
    let last = registered.last().unwrap();
    let slices = last.pointer("/schema/properties/providers/properties").unwrap();
    assert!(ids.iter().all(|id| slices.get(id).is_some()));
    assert!(registered.len() <= ids.len());
}

#[tokio::test(start_paused = true)]
async fn publishing_without_any_configuration_worker_is_an_error_that_is_tried_again() {
    let bus = bare(Config::default(), MapEnv::default());
    let error = registry::publish(&cx(&bus)).await.unwrap_err();
    assert_eq!(error, Error::FunctionNotFound("configuration::get".into()));
}
