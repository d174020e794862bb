//! The registry when the configuration worker is slow, broken or empty (contract 09 B3, B4).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::testing::{bare, call, cx, host, settle};
use super::{entry, registry};
use crate::bus::{Bus, FunctionDef};
use crate::config::{Config, MapEnv};
use crate::error::{Error, Result};

/// What a double of the configuration worker does.
type Answer = Arc<dyn Fn(&str, &Value) -> Option<Result<Value>> + Send + Sync>;

/// A configuration worker whose answers the test decides; `None` never answers.
#[derive(Clone)]
struct Double {
    calls: Arc<Mutex<Vec<(String, Value)>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Double {
    fn install(
        bus: &Bus,
        answer: impl Fn(&str, &Value) -> Option<Result<Value>> + Send + Sync + 'static,
    ) -> Self {
        let double = Self {
            calls: Arc::default(),
            answer: Arc::new(Mutex::new(Arc::new(answer))),
        };
        for verb in ["get", "register", "schema"] {
            let own = double.clone();
            let handler = move |payload: Value, _| {
                let own = own.clone();
                async move {
                    own.calls.lock().unwrap().push((verb.to_owned(), payload.clone()));
                    let answer = Arc::clone(&own.answer.lock().unwrap());
                    match answer(verb, &payload) {
                        Some(outcome) => outcome,
                        None => std::future::pending().await,
                    }
                }
            };
            bus.register(FunctionDef::ad_hoc(format!("configuration::{verb}"), handler))
                .unwrap();
        }
        double
    }

    fn now(&self, answer: impl Fn(&str, &Value) -> Option<Result<Value>> + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    fn registered(&self) -> Vec<Value> {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap());
        calls
            .into_iter()
            .filter(|(verb, _)| verb == "register")
            .map(|(_, payload)| payload)
            .collect()
    }
}

fn holding(value: Value) -> impl Fn(&str, &Value) -> Option<Result<Value>> {
    move |verb, _| {
        Some(Ok(match verb {
            "get" => json!({"id": "harness", "value": value}),
            _ => json!({"id": "harness", "schema": {}}),
        }))
    }
}

fn empty() -> impl Fn(&str, &Value) -> Option<Result<Value>> {
    |verb, _| {
        Some(match verb {
            "get" => Err(Error::coded("NOT_FOUND", "no such entry")),
            _ => Ok(json!({"id": "harness", "schema": {}})),
        })
    }
}

async fn resolve(bus: &Bus, provider: &str) -> Value {
    call(bus, "harness::provider::resolve", json!({ "provider": provider }))
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn c09_case_01_one_registration_with_the_seed_when_there_is_nothing() {
    for nothing in [json!(null), json!("absent")] {
        let bus = bare(Config::default(), MapEnv::default());
        let double = if nothing.is_null() {
            Double::install(&bus, holding(Value::Null))
        } else {
            Double::install(&bus, empty())
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
    let double = Double::install(&bus, holding(stored));
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
    let double = Double::install(&bus, |_, _| None);
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
    let double = Double::install(&bus, |verb, _| {
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
    let double = Double::install(&bus, holding(entry::seed()));
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
    let double = Double::install(&bus, holding(entry::seed()));
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
async fn c09_case_12_one_bad_slice_does_not_disable_the_others() {
    for code in ["EXPAND_FAILED", "SCHEMA_INVALID"] {
        let bus = bare(
            Config::default(),
            MapEnv::from([("ANTHROPIC_API_KEY", "from-env"), ("HKEY", "0123")]),
        );
        let stored = json!({"permissions": {"default_mode": "manual"}, "providers": {
            "anthropic": {"api_key": "${UNSET}", "max_tokens": "x"},
            "openai": {"api_key": "${UNSET:fallback}"},
            "kimi": {"api_key": "${HKEY}"},
        }});
        Double::install(&bus, move |verb, request| {
            Some(match verb {
                "get" if request["raw"] == json!(false) => Err(Error::coded(code, "sk-in-the-message")),
                "get" => Ok(json!({"id": "harness", "value": stored})),
                _ => Ok(json!({"id": "harness", "schema": {}})),
            })
        });
        host(&bus).await;
        let mut seen = Vec::new();
        for provider in ["anthropic", "openai", "kimi"] {
            let resolved = resolve(&bus, provider).await;
            seen.push((resolved["source"].clone(), resolved["credential"]["key"].clone()));
        }
        assert_eq!(
            seen,
            [
                (json!("environment"), json!("from-env")),
                (json!("stored"), json!("fallback")),
                (json!("stored"), json!("0123")),
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_became_a_number_is_read_as_it_was_written() {
    let bus = bare(Config::default(), MapEnv::from([("DIGITS", "000123")]));
    Double::install(&bus, |verb, request| {
        let key = if request["raw"] == json!(true) {
            json!("${DIGITS}")
        } else {
            json!(123)
        };
        Some(Ok(match verb {
            "get" => json!({"id": "harness", "value": {"providers": {"foo": {"api_key": key}}}}),
            _ => json!({"id": "harness", "schema": {}}),
        }))
    });
    host(&bus).await;
    assert_eq!(resolve(&bus, "foo").await["credential"]["key"], json!("000123"));
}

#[tokio::test(start_paused = true)]
async fn c09_case_27_without_a_configuration_worker_the_environment_answers() {
    let bus = bare(Config::default(), MapEnv::from([("OPENAI_API_KEY", "sk-e")]));
    Double::install(&bus, |_, _| None);
    host(&bus).await;
    let started = tokio::time::Instant::now();
    assert_eq!(
        resolve(&bus, "openai").await,
        json!({"configured": true, "source": "environment", "credential": {"type": "api_key", "key": "sk-e"},
               "api_url": "https://api.openai.com/v1/chat/completions", "max_tokens": 8192,
               "max_tokens_stored": false})
    );
    assert!(started.elapsed() < Duration::from_secs(6));
    assert_eq!(
        call(&bus, "harness::provider::register", json!({"id": "foo"})).await,
        Ok(json!({"ok": true}))
    );
    let list = call(&bus, "harness::provider::list", json!({})).await.unwrap();
    assert_eq!(list["providers"].as_array().map(Vec::len), Some(6));
}

#[tokio::test(start_paused = true)]
async fn concurrent_declarations_are_written_one_after_the_other() {
    let bus = bare(Config::default(), MapEnv::default());
    let double = Double::install(&bus, holding(entry::seed()));
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
