//! `provider::kimi::*` (contract 08 §6.6).

use harness::scripted::Step;
use pretty_assertions::assert_eq;

use super::*;

three_ways! {
    c08_case_23_reasoning_comes_first_and_goes_back,
    v5_calls_of_other_models_get_reasoning_and_ids_stay,
    usage_is_where_kimi_has_it,
    w5_a_spent_month_is_not_tried_again,
    c08_case_41_a_model_is_required,
    without_a_key_the_remedies_are_named,
    the_listing_fills_the_catalog,
}

const KEY: &str = "sk-kimi-0123456789";

async fn kimi(script: Script) -> Rig {
    Rig::start("kimi", script, |options, url| {
        url.clone_into(&mut options.config.provider_kimi.default_api_url);
        options.env.insert("MOONSHOT_API_KEY".into(), KEY.into());
    })
    .await
}

async fn c08_case_23_reasoning_comes_first_and_goes_back() {
    let thinking = Reply::thinks("let me see").then(Reply::says("Hello", 2));
    let rig = kimi(Script::queue([thinking, Reply::says("b", 1)])).await;
    let turn = rig.say("kimi-k2.5", "q").await;
    assert_eq!(
        turn.kinds(),
        [
            "start",
            "thinking_start",
            "thinking_delta",
            "thinking_end",
            "text_start",
            "text_delta",
            "text_delta",
            "usage",
            "text_end",
            "stop",
            "done"
        ]
    );
    let message = turn.message();
    assert_eq!(
        message["content"],
        json!([{"type": "thinking", "text": "let me see"}, {"type": "text", "text": "Hello"}])
    );
    assert_eq!(message["provider"], "kimi");
    rig.turn(json!({"model": "kimi-k2.5", "messages": [user("q"), message, user("r")]}))
        .await;
    let requests = rig.server.requests();
    assert_eq!(
        requests[1].rows()[1],
        json!({"role": "assistant", "content": "Hello", "reasoning_content": "let me see"})
    );
    assert_eq!(requests[0].header("authorization"), format!("Bearer {KEY}"));
    assert_eq!(rig.server.violations(), Vec::<String>::new());
}

/// Kimi refuses a row with calls and no reasoning while it thinks, and counts its own call ids over the conversation.
async fn v5_calls_of_other_models_get_reasoning_and_ids_stay() {
    let script = Script::answer(|_| Reply::says("x", 1)).with_models(answers(&json!({"data": [
        {"id": "kimi-k2.6", "supports_reasoning": true}, {"id": "moonshot-v1-8k", "supports_reasoning": false}
    ]})));
    let rig = kimi(script).await;
    let call = |id: &str| {
        json!({"role": "assistant", "stop_reason": "function_call", "timestamp": 2, "content":
            [{"type": "function_call", "id": id, "function_id": "agent_trigger", "arguments": {}}]})
    };
    let result = |id: &str| {
        json!({"role": "function_result", "function_call_id": id, "function_id": "f", "details": {}, "is_error": true,
            "content": [{"type": "text", "text": "r"}], "timestamp": 3})
    };
    let [first, second] = ["functions.agent_trigger:0", "functions.agent_trigger:1"];
    let messages = json!([
        user("q"),
        call(first),
        result(first),
        call(second),
        result(second)
    ]);
    for (model, reasoning) in [("kimi-k2.6", json!(" ")), ("moonshot-v1-8k", Value::Null)] {
        rig.turn(json!({"model": model, "messages": messages})).await;
        let rows = rig.last_body()["messages"].clone();
        for (at, id) in [(1, first), (3, second)] {
            assert_eq!(rows[at]["tool_calls"][0]["id"], id);
            assert_eq!(rows[at]["reasoning_content"], reasoning, "{model}");
            assert_eq!(
                rows[at + 1],
                json!({"role": "tool", "tool_call_id": id, "content": "r", "is_error": true})
            );
        }
    }
}

/// In the choice of the last chunk, cached tokens beside the others.
async fn usage_is_where_kimi_has_it() {
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop",
        "usage": {"prompt_tokens": 1900, "completion_tokens": 13, "total_tokens": 1913, "cached_tokens": 1200}}]});
    let reply = Reply::raw([chunk("x"), event(&last), "data: [DONE]\n\n".to_owned()].map(Step::send));
    let rig = kimi(Script::queue([reply])).await;
    let turn = rig.say("kimi-k3", "q").await;
    assert_eq!(
        turn.message()["usage"],
        json!({"input": 1900, "output": 13, "cache_read": 1200, "cache_write": 0, "total": 1913})
    );
}

async fn w5_a_spent_month_is_not_tried_again() {
    let body = r#"{"error":{"message":"Your account is suspended due to insufficient balance","type":"exceeded_current_quota_error"}}"#;
    let rig = Rig::start(
        "kimi",
        Script::answer(move |_| Reply::fails(429, body)),
        |options, url| {
            url.clone_into(&mut options.config.provider_kimi.default_api_url);
            options.config.provider.max_retries = 2;
            options.env.insert("MOONSHOT_API_KEY".into(), KEY.into());
        },
    )
    .await;
    let turn = rig.say("kimi-k2.5", "q").await;
    assert_eq!(
        turn.failure(),
        (
            "error",
            "rate_limited",
            "Your account is suspended due to insufficient balance"
        )
    );
    assert_eq!(rig.server.requests().len(), 1);
}

async fn c08_case_41_a_model_is_required() {
    let rig = kimi(Script::queue([Reply::says("Hello", 1)])).await;
    for payload in [json!({}), json!({"model": ""}), json!({"model": 5})] {
        let error = rig.test.error("provider::kimi::complete", payload).await;
        assert_eq!(error, "missing required string field: model");
    }
    let message = rig
        .call(
            "complete",
            json!({"model": "kimi-k2.5", "messages": [user("hi")]}),
        )
        .await;
    assert_eq!(message["content"], says("Hello"));
}

async fn without_a_key_the_remedies_are_named() {
    let rig = Rig::start("kimi", Script::queue([]), |_, _| {}).await;
    let turn = rig.say("kimi-k2.5", "q").await;
    let (_, kind, text) = turn.failure();
    assert_eq!(kind, "auth_expired");
    assert!(
        text.contains("MOONSHOT_API_KEY") && text.contains("providers.kimi.api_key"),
        "{text}"
    );
}

async fn the_listing_fills_the_catalog() {
    let rig = kimi(Script::queue([])).await;
    assert_eq!(rig.refresh().await, json!(["gpt-5"]));
    rig.server.set_models(answers(&json!({"object": "list", "data": [
        {"id": "kimi-k2.6", "object": "model", "context_length": 262_144, "supports_image_in": true, "supports_reasoning": true},
        {"id": "kimi-next", "object": "model"},
        {"id": ""},
        {"id": "moonshot-v1-8k", "object": "model"}
    ]})));
    assert_eq!(
        rig.refresh().await,
        json!(["kimi-k2.6", "kimi-next", "moonshot-v1-8k"])
    );
    let common = |id: &str, context: u64, output: u64| {
        json!({"id": id, "provider": "kimi", "api": "openai-completions", "display_name": id, "context_window": context,
            "max_output_tokens": output, "supports_tools": true, "transports": ["sse"]})
    };
    let mut k2 = common("kimi-k2.6", 262_144, 262_144);
    k2["supports_thinking"] = json!(true);
    k2["supports_vision"] = json!(true);
    k2["pricing"] = json!({"input_per_1m": 0.95, "output_per_1m": 4.0, "cache_read_per_1m": 0.16});
    let mut v1 = common("moonshot-v1-8k", 8_192, 2_048);
    v1["supports_thinking"] = json!(false);
    v1["supports_vision"] = json!(false);
    // What is no longer listed is gone, and nothing goes when the listing fails.
    let expected = json!([k2, common("kimi-next", 256_000, 8_192), v1]);
    assert_eq!(rig.listed().await, expected);
    for odd in [
        Reply::fails(500, ""),
        Reply::fails(200, "no json"),
        Reply::raw([Step::Break]),
    ] {
        rig.server.set_models(odd);
        assert_eq!(rig.refresh().await, json!([]));
        assert_eq!(rig.listed().await, expected);
    }
    rig.server.set_models(Reply::fails(401, ""));
    assert_eq!(rig.refresh().await, json!([]));
    assert_eq!(rig.listed().await, json!([]));
}
