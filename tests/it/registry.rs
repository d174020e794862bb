//! Contract 09 part B: the provider registry over the configuration functions of the embedded engine. What needs a slow or
//! broken configuration worker is beside the code.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::bridge_rig::Rig;
use crate::support::three_ways;

three_ways! {
    c09_case_01_a_fresh_engine_gets_the_seed,
    c09_case_02_the_schema_lists_the_five,
    c09_case_03_what_the_schema_refuses,
    c09_case_04_stored_values,
    c09_case_05_07_the_environment,
    c09_case_06_08_nothing_configured,
    c09_case_09_11_a_provider_of_somebody_else,
    c09_case_10_a_schema_of_ones_own,
    c09_case_12_templates_of_the_environment,
    c09_case_13_14_keys_survive_restarts,
    a_removed_provider_does_not_invalidate_the_entry,
    c09_case_15_lists_hold_no_secrets,
    c11_case_22_what_the_model_picker_reads,
    an_edit_takes_effect_with_the_next_call,
}

const ANTHROPIC_URL: &str = "https://api.anthropic.com/v1/messages";
const OPENAI_URL: &str = "https://api.openai.com/v1/chat/completions";
const KIMI_URL: &str = "https://api.moonshot.ai/v1/chat/completions";

async fn resolve(rig: &Rig, provider: &str) -> Value {
    rig.ok("harness::provider::resolve", json!({ "provider": provider }))
        .await
}

/// Key and source, the part most cases are about.
async fn key_of(rig: &Rig, provider: &str) -> (Value, Value) {
    let resolved = resolve(rig, provider).await;
    (resolved["source"].clone(), resolved["credential"]["key"].clone())
}

async fn store(rig: &Rig, providers: Value) {
    let value = json!({"permissions": {"default_mode": "manual"}, "providers": providers});
    rig.ok("configuration::set", json!({"id": "harness", "value": value}))
        .await;
}

async fn schema(rig: &Rig) -> Value {
    rig.ok("configuration::schema", json!({"id": "harness"})).await["schema"].take()
}

async fn c09_case_01_a_fresh_engine_gets_the_seed() {
    let rig = Rig::start().await;
    assert_eq!(
        rig.ok("configuration::get", json!({"id": "harness", "raw": true}))
            .await["value"],
        json!({"permissions": {"default_mode": "manual"}, "providers": {}})
    );
}

async fn c09_case_02_the_schema_lists_the_five() {
    let rig = Rig::start().await;
    let schema = schema(&rig).await;
    let slices = schema.pointer("/properties/providers/properties").unwrap();
    let mut ids: Vec<&String> = slices.as_object().unwrap().keys().collect();
    ids.sort();
    assert_eq!(ids, ["anthropic", "kimi", "llamacpp", "lmstudio", "openai"]);
    assert_eq!(
        schema.pointer("/properties/permissions/properties/default_mode/enum"),
        Some(&json!(["manual", "auto", "full"]))
    );
    assert_eq!(
        slices.pointer("/anthropic/properties/api_url/default"),
        Some(&json!(ANTHROPIC_URL))
    );
    assert_eq!(slices.pointer("/lmstudio/properties/api_url/default"), None);
    assert_eq!(
        slices.pointer("/lmstudio/properties/max_tokens/maximum"),
        Some(&json!(1_048_576))
    );
}

async fn c09_case_03_what_the_schema_refuses() {
    let rig = Rig::start().await;
    for value in [
        json!({"permissions": {"default_mode": "manual"}, "providers": {"anthropic": {"max_tokens": 0}}}),
        json!({"permissions": {"default_mode": "manual"}, "providers": {"nosuch": {}}}),
        json!({"permissions": {"default_mode": "yolo"}, "providers": {}}),
    ] {
        let error = rig
            .call("configuration::set", json!({"id": "harness", "value": value}))
            .await
            .unwrap_err();
        assert_eq!(error.wire_code(), "SCHEMA_INVALID");
    }
}

async fn c09_case_04_stored_values() {
    let rig = Rig::start().await;
    let slice = json!({"api_key": "sk-1", "api_url": "http://h/v1/messages", "max_tokens": 5000});
    store(&rig, json!({ "anthropic": slice })).await;
    assert_eq!(
        resolve(&rig, "anthropic").await,
        json!({"configured": true, "source": "stored", "credential": {"type": "api_key", "key": "sk-1"},
               "api_url": "http://h/v1/messages", "max_tokens": 5000, "max_tokens_stored": true})
    );
}

async fn c09_case_05_07_the_environment() {
    let rig = Rig::with(&[("OPENAI_API_KEY", "sk-e")], None).await;
    let expected = json!({"configured": true, "source": "environment",
                          "credential": {"type": "api_key", "key": "sk-e"}, "api_url": OPENAI_URL,
                          "max_tokens": 8192, "max_tokens_stored": false});
    assert_eq!(resolve(&rig, "openai").await, expected);
    store(&rig, json!({"openai": {"api_key": ""}})).await;
    assert_eq!(resolve(&rig, "openai").await, expected);
}

async fn c09_case_06_08_nothing_configured() {
    let rig = Rig::start().await;
    let nothing = |url: Value, tokens: Value| {
        json!({"configured": false, "source": null, "credential": null, "api_url": url, "max_tokens": tokens,
               "max_tokens_stored": false})
    };
    assert_eq!(resolve(&rig, "kimi").await, nothing(json!(KIMI_URL), json!(8192)));
    assert_eq!(resolve(&rig, "lmstudio").await, nothing(Value::Null, json!(8192)));
    assert_eq!(resolve(&rig, "nosuch").await, nothing(Value::Null, Value::Null));
    for payload in [
        json!({}),
        json!({"provider": ""}),
        json!({"provider": 1}),
        json!(null),
    ] {
        assert_eq!(
            rig.error("harness::provider::resolve", payload).await,
            "missing required string field: provider"
        );
    }
}

async fn c09_case_09_11_a_provider_of_somebody_else() {
    let rig = Rig::with(&[("FOO_KEY", "k")], None).await;
    let foo = json!({"id": "foo", "credential_env_var": "FOO_KEY",
                     "defaults": {"api_url": "http://foo/v1/chat/completions", "max_tokens": 1234}});
    assert_eq!(
        rig.ok("harness::provider::register", foo).await,
        json!({"ok": true})
    );
    let rows = rig.ok("harness::provider::list", json!({})).await["providers"].take();
    assert_eq!(
        rows.as_array().unwrap().last(),
        Some(
            &json!({"id": "foo", "display_name": "foo", "supports_model_listing": false, "configured": true})
        )
    );
    assert!(
        schema(&rig)
            .await
            .pointer("/properties/providers/properties/foo")
            .is_some()
    );
    assert_eq!(
        resolve(&rig, "foo").await,
        json!({"configured": true, "source": "environment", "credential": {"type": "api_key", "key": "k"},
               "api_url": "http://foo/v1/chat/completions", "max_tokens": 1234, "max_tokens_stored": false})
    );
    for name in ["One", "Two"] {
        rig.ok(
            "harness::provider::register",
            json!({"id": "foo", "display_name": name}),
        )
        .await;
    }
    let rows = rig.ok("harness::provider::list", json!({})).await["providers"].take();
    let names: Vec<&Value> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["display_name"])
        .collect();
    assert_eq!(
        names,
        [
            "anthropic",
            "openai",
            "kimi (moonshot)",
            "lm studio",
            "llama.cpp",
            "Two"
        ]
    );
    assert!(rig.call("harness::provider::register", json!({})).await.is_err());
}

async fn c09_case_10_a_schema_of_ones_own() {
    let rig = Rig::start().await;
    let own =
        json!({"type": "object", "required": ["region"], "properties": {"region": {"enum": ["eu", "us"]}}});
    rig.ok(
        "harness::provider::register",
        json!({"id": "foo", "config_schema": own}),
    )
    .await;
    assert_eq!(
        schema(&rig).await.pointer("/properties/providers/properties/foo"),
        Some(&own)
    );
    store(&rig, json!({"foo": {"region": "eu", "api_key": "k"}})).await;
    assert_eq!(key_of(&rig, "foo").await, (json!("stored"), json!("k")));
}

async fn c09_case_12_templates_of_the_environment() {
    let env = [
        ("HKEY", "abc"),
        ("DIGITS", "007"),
        ("ANTHROPIC_API_KEY", "sk-env"),
    ];
    let rig = Rig::with(&env, None).await;
    // What has no value makes the entry as a whole unreadable, and so does a key that YAML reads as a number.
    for broken in ["${HARNESS_TEST_UNSET_KEY}", "no template"] {
        let slices = json!({
            "openai": {"api_key": "${HARNESS_TEST_UNSET_KEY:fallback}"},
            "kimi": {"api_key": "${HKEY:fallback}"},
            "lmstudio": {"api_key": "${DIGITS}"},
            "anthropic": {"api_key": broken},
        });
        store(&rig, slices).await;
        let mut keys = Vec::new();
        for provider in ["openai", "kimi", "lmstudio", "anthropic"] {
            let (source, key) = key_of(&rig, provider).await;
            keys.push(format!("{}: {}", source.as_str().unwrap(), key.as_str().unwrap()));
        }
        let last = if broken == "no template" {
            "stored: no template"
        } else {
            "environment: sk-env"
        };
        assert_eq!(keys, ["stored: fallback", "stored: abc", "stored: 007", last]);
    }
}

async fn c09_case_13_14_keys_survive_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::with(&[], Some(directory.path())).await;
    store(&rig, json!({"openai": {"api_key": "sk-kept", "max_tokens": 7}})).await;
    rig.stop().await;
    for _ in 0..2 {
        let rig = Rig::with(&[], Some(directory.path())).await;
        assert_eq!(key_of(&rig, "openai").await, (json!("stored"), json!("sk-kept")));
        assert_eq!(
            rig.ok("configuration::get", json!({"id": "harness", "raw": true}))
                .await["value"],
            json!({"permissions": {"default_mode": "manual"},
                   "providers": {"openai": {"api_key": "sk-kept", "max_tokens": 7}}})
        );
        rig.stop().await;
    }
}

async fn a_removed_provider_does_not_invalidate_the_entry() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::with(&[], Some(directory.path())).await;
    rig.ok("harness::provider::register", json!({"id": "foo"})).await;
    store(&rig, json!({"foo": {"api_key": "f"}, "openai": {"api_key": "o"}})).await;
    rig.stop().await;
    let rig = Rig::with(&[], Some(directory.path())).await;
    let expanded = rig
        .ok("configuration::get", json!({"id": "harness", "raw": false}))
        .await;
    assert_eq!(expanded["value"]["providers"]["foo"], json!({"api_key": "f"}));
    assert_eq!(key_of(&rig, "openai").await, (json!("stored"), json!("o")));
    assert_eq!(key_of(&rig, "foo").await, (json!("stored"), json!("f")));
    rig.stop().await;
}

async fn c09_case_15_lists_hold_no_secrets() {
    let rig = Rig::with(&[("OPENAI_API_KEY", "sk-from-env")], None).await;
    store(&rig, json!({"anthropic": {"api_key": "sk-stored"}})).await;
    let list = rig.ok("harness::provider::list", json!({"anything": 1})).await;
    let text = list.to_string();
    for secret in ["api_key", "sk-", "API_KEY"] {
        assert!(!text.contains(secret), "{text}");
    }
    let configured: Vec<(&Value, &Value)> = list["providers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["id"], &row["configured"]))
        .collect();
    assert_eq!(
        configured,
        [
            (&json!("anthropic"), &json!(true)),
            (&json!("openai"), &json!(true)),
            (&json!("kimi"), &json!(false)),
            (&json!("lmstudio"), &json!(false)),
            (&json!("llamacpp"), &json!(false)),
        ]
    );
}

async fn c11_case_22_what_the_model_picker_reads() {
    let rig = Rig::with(&[("OPENAI_API_KEY", "sk-from-env")], None).await;
    let record = json!({"id": "gpt", "provider": "openai", "display_name": "GPT", "context_window": 128_000});
    rig.ok("models::register", record.clone()).await;
    assert_eq!(
        rig.ok("models::list", json!({})).await,
        json!({ "models": [record] })
    );
    let list = rig.ok("harness::provider::list", json!({})).await;
    let rows: Vec<(&Value, bool)> = list["providers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["id"], row["supports_model_listing"].as_bool().unwrap()))
        .collect();
    assert_eq!(
        rows,
        [
            (&json!("anthropic"), true),
            (&json!("openai"), true),
            (&json!("kimi"), true),
            (&json!("lmstudio"), true),
            (&json!("llamacpp"), true),
        ]
    );
    assert!(!list.to_string().contains("sk-"));
}

async fn an_edit_takes_effect_with_the_next_call() {
    let rig = Rig::start().await;
    for key in ["one", "two"] {
        store(&rig, json!({"openai": {"api_key": key}})).await;
        assert_eq!(key_of(&rig, "openai").await, (json!("stored"), json!(key)));
    }
    store(&rig, json!({})).await;
    assert_eq!(key_of(&rig, "openai").await, (Value::Null, Value::Null));
}

#[tokio::test]
async fn only_what_browsers_need_is_marked_for_clients() {
    let rig = Rig::start().await;
    let marked: Vec<String> = rig
        .bus()
        .catalog()
        .into_iter()
        .filter(|function| function.metadata == Some(json!({"client": true})))
        .map(|function| function.id.to_string())
        .collect();
    assert_eq!(
        marked,
        [
            "harness::provider::list",
            "harness::trigger",
            "models::list",
            "ui::subscribe",
            "ui::unsubscribe"
        ]
    );
}
