//! A provider that speaks Chat Completions is one constant, and one line in the list of workers: this file adds a sixth one, by
//! what the others use.

use harness::workers::providers::{Known, Long, Quirks, Reasoning, Settings, Spec, Vendor, costs, family};
use pretty_assertions::assert_eq;

use super::*;

three_ways! {
    c08_weakness_17_a_sixth_provider_is_one_constant_and_one_line,
}

static VENDOR: Vendor = Vendor {
    spec: Spec {
        id: "sixth",
        display_name: "The sixth",
        credential_env_var: "SIXTH_API_KEY",
        needs_credential: true,
        descriptions: ["Stream a turn.", "Drain a turn.", "List the models."],
    },
    worker: "provider-sixth",
    about: "A provider that is not there.",
    settings: |config| Settings::cloud(config, "http://127.0.0.1:9/v1/chat/completions", 4096),
    quirks: Quirks {
        reasoning: Reasoning::Never,
        sends_is_error: false,
        needs_user_row: false,
        effort: None,
        max_id_chars: None,
    },
    known: Known {
        output: 1_000,
        families: &[family("six-large", 50_000, 5_000, true, false)],
        prices: &[(
            "six-large",
            costs(1.0, 2.0).long(Long {
                above: 20_000,
                input: 2.0,
                output: 1.5,
            }),
        )],
        ..Known::flat("openai-completions", 10_000)
    },
    offers: |id, _| id.starts_with("six-"),
    local: None,
};

async fn c08_weakness_17_a_sixth_provider_is_one_constant_and_one_line() {
    let script = Script::answer(|_| Reply::says("Hello", 2)).with_models(Reply::models([
        "six-large",
        "six-small",
        "other",
    ]));
    let rig = Rig::start("sixth", script, |options, _| {
        options.workers.push(VENDOR.worker());
    })
    .await;
    assert_eq!(rig.listed().await, json!([]));
    rig.store(json!({"api_key": "k6", "api_url": rig.server.url()}))
        .await;
    // A new key is used at once: nobody asks for this refresh.
    rig.test
        .eventually(async || (rig.listed().await.as_array()?.len() == 2).then_some(()))
        .await;
    assert_eq!(
        rig.listed().await,
        json!([
            {"id": "six-large", "provider": "sixth", "api": "openai-completions", "display_name": "six-large",
                "context_window": 50_000, "max_output_tokens": 5_000, "supports_tools": true, "transports": ["sse"],
                "supports_thinking": true, "supports_vision": false,
                "pricing": {"input_per_1m": 1.0, "output_per_1m": 2.0,
                    "tiers": [{"above_tokens": 20_000, "input_per_1m": 2.0, "output_per_1m": 3.0}]}},
            {"id": "six-small", "provider": "sixth", "api": "openai-completions", "display_name": "six-small",
                "context_window": 10_000, "max_output_tokens": 1_000, "supports_tools": true, "transports": ["sse"]}
        ])
    );
    let turn = rig.say("six-large", "hi").await;
    assert_eq!(
        (&turn.message()["content"], &turn.message()["provider"]),
        (&says("Hello"), &json!("sixth"))
    );
    let request = &rig.server.requests()[0];
    assert_eq!(request.header("authorization"), "Bearer k6");
    assert_eq!(request.body["max_completion_tokens"], 5_000);
    let list = rig.test.ok("harness::provider::list", json!({})).await;
    assert_eq!(
        list["providers"].as_array().unwrap().last(),
        Some(
            &json!({"id": "sixth", "display_name": "The sixth", "supports_model_listing": true, "configured": true})
        )
    );
}
