//! The model picker and the configuration page (contract 11 §7, §8).

use harness::scripted::{Reply, Script};
use pretty_assertions::assert_eq;
use serde_json::json;

use super::Console;
use crate::model_rig::ModelRig;
use crate::support::three_ways;

three_ways! {
    c11_case_22_and_23_the_model_picker_works_without_a_credential,
    c11_case_24_a_saved_key_is_used_by_the_next_run,
}

async fn c11_case_22_and_23_the_model_picker_works_without_a_credential() {
    let rig = ModelRig::with(Script::queue([]), |options| options.env.clear()).await;
    let console = Console::on(rig);
    for provider in ["anthropic", "openai", "kimi", "lmstudio", "llamacpp"] {
        // In parallel and with every error ignored, as the refresh button does.
        let id = format!("provider::{provider}::refresh_models");
        let refresh = console.rig.t.call(&id, json!({}));
        let answer = tokio::time::timeout(std::time::Duration::from_secs(5), refresh).await;
        assert!(answer.is_ok(), "{provider} does not answer");
    }
    assert_eq!(
        console.ok("models::list", json!({})).await,
        json!({ "models": [] })
    );
    assert_eq!(console.rig.server.listings(), 0);
    console.close().await;

    let console = Console::open(Script::queue([]).with_models(Reply::models(["gpt-5", "o3"]))).await;
    console.ok("provider::openai::refresh_models", json!({})).await;
    let models = console.ok("models::list", json!({})).await;
    let rows = models["models"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{models}");
    for row in rows {
        for member in ["id", "provider", "display_name"] {
            assert!(!row[member].as_str().unwrap().is_empty(), "{row}");
        }
    }
    let providers = console.ok("harness::provider::list", json!({})).await;
    let text = format!("{models}{providers}");
    assert!(
        !text.contains(crate::model_rig::KEY) && !text.contains("api_key"),
        "{text}"
    );
    console.close().await;
}

async fn c11_case_24_a_saved_key_is_used_by_the_next_run() {
    let console = Console::open(Script::answer(|_| Reply::says("hello", 1))).await;
    for (n, key) in ["sk-new-1", "${NEW_KEY:sk-new-2}"].into_iter().enumerate() {
        let value = json!({ "permissions": { "default_mode": "manual" }, "providers": { "openai": { "api_key": key } } });
        let saved = console
            .ok("configuration::set", json!({ "id": "harness", "value": value }))
            .await;
        assert_eq!(saved["new_value"], value);
        // The page shows what was saved, templates as they are.
        let shown = console
            .ok("configuration::get", json!({ "id": "harness", "raw": true }))
            .await;
        assert_eq!(shown["value"], value);
        console.send("console-a", "hi").await;
        console.rig.t.ended("console-a", n + 1).await;
        let last = console.rig.server.requests().pop().unwrap();
        assert_eq!(last.header("authorization"), format!("Bearer sk-new-{}", n + 1));
    }
    console.close().await;
}
