//! What a provider's settings are when the entry is not as it should be, or cannot be read (contract 09 B3).

use std::time::Duration;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::testing::{ConfigurationDouble, bare, call, host, resolve};
use crate::config::{Config, MapEnv};
use crate::error::Error;

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
        ConfigurationDouble::install(&bus, move |verb, request| {
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
async fn a_key_that_became_something_else_is_read_as_it_was_written() {
    for (text, retyped) in [
        ("000123", json!(123)),
        ("1e3", json!(1000.0)),
        ("true", json!(true)),
        ("null", Value::Null),
    ] {
        let bus = bare(Config::default(), MapEnv::from([("KEY", text)]));
        let double = ConfigurationDouble::install(&bus, move |verb, request| {
            let key = if request["raw"] == json!(true) {
                json!("${KEY}")
            } else {
                retyped.clone()
            };
            Some(Ok(match verb {
                "get" => json!({"id": "harness", "value": {"providers": {"foo": {"api_key": key}}}}),
                _ => json!({"id": "harness", "schema": {}}),
            }))
        });
        host(&bus).await;
        assert_eq!(resolve(&bus, "foo").await["credential"]["key"], json!(text));
        // The text cannot be read: a number is better than no key.
        double.now(|_, request| {
            let value = json!({"id": "harness", "value": {"providers": {"foo": {"api_key": 42}}}});
            (request["raw"] == json!(false)).then_some(Ok(value))
        });
        assert_eq!(resolve(&bus, "foo").await["credential"]["key"], json!("42"));
    }
}

#[tokio::test(start_paused = true)]
async fn c09_case_27_without_a_configuration_worker_the_environment_answers() {
    let bus = bare(Config::default(), MapEnv::from([("OPENAI_API_KEY", "sk-e")]));
    ConfigurationDouble::install(&bus, |_, _| None);
    host(&bus).await;
    let started = Instant::now();
    assert_eq!(
        resolve(&bus, "openai").await,
        json!({"configured": true, "source": "environment", "credential": {"type": "api_key", "key": "sk-e"},
               "api_url": "https://api.openai.com/v1/chat/completions", "max_tokens": 8192,
               "max_tokens_stored": false})
    );
    // Its callers wait for 5 s (contract 08 §11), and so do those of the other two.
    assert_eq!(started.elapsed(), Duration::from_secs(4));
    let started = Instant::now();
    assert_eq!(
        call(&bus, "harness::provider::register", json!({"id": "foo"})).await,
        Ok(json!({"ok": true}))
    );
    assert_eq!(started.elapsed(), Duration::from_secs(4));
    let started = Instant::now();
    let list = call(&bus, "harness::provider::list", json!({})).await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(4));
    assert_eq!(list["providers"].as_array().map(Vec::len), Some(6));
}
