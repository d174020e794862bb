//! `provider::llamacpp::*` (contract 08 §9, §10).

use harness::scripted::{Gate, Step};
use pretty_assertions::assert_eq;

use super::*;

three_ways! {
    c08_case_32_a_key_only_where_there_is_one,
    c08_case_33_calls_beyond_any_honest_number_are_ignored,
    c08_case_34_a_server_that_never_answers,
    c08_case_40_discovery_asks_for_the_window,
    the_placeholder_goes_out_as_it_is,
    v9_an_overflow_is_told_as_one,
    v9_an_overflow_in_a_line_that_is_no_event_is_told_as_one,
    a_server_that_is_still_loading_is_waited_for,
}

async fn llamacpp(script: Script) -> Rig {
    Rig::start("llamacpp", script, |options, url| {
        url.clone_into(&mut options.config.provider_llamacpp.default_api_url);
    })
    .await
}

async fn c08_case_32_a_key_only_where_there_is_one() {
    let rig = llamacpp(Script::answer(|_| Reply::says("x", 1))).await;
    let key_of = async || {
        rig.say("m", "hi").await;
        let requests = rig.server.requests();
        requests.last().unwrap().header("authorization").to_owned()
    };
    assert_eq!(key_of().await, "");
    rig.store(json!({"api_key": "own"})).await;
    assert_eq!(key_of().await, "Bearer own");
}

async fn c08_case_33_calls_beyond_any_honest_number_are_ignored() {
    let call = |index: Value| {
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": index, "id": "c", "function":
            {"name": "agent_trigger", "arguments": "{}"}}]}, "finish_reason": null}]})
    };
    let mut steps: Vec<_> = [json!(100_000), json!(-1), json!(1.5), json!("0"), json!(256)]
        .into_iter()
        .map(|index| Step::send(event(&call(index))))
        .collect();
    steps.push(Step::send(chunk("goes on")));
    steps.push(Step::send("data: [DONE]\n\n"));
    let rig = llamacpp(Script::queue([Reply::raw(steps)])).await;
    let turn = rig.say("m", "hi").await;
    assert_eq!(turn.message()["content"], says("goes on"));
    assert_eq!(turn.message()["stop_reason"], "end");
}

async fn c08_case_34_a_server_that_never_answers() {
    let rig = Rig::start(
        "llamacpp",
        Script::queue([Reply::hangs(Gate::new())]),
        |options, url| {
            url.clone_into(&mut options.config.provider_llamacpp.default_api_url);
            let of_variable = config_of("LLAMACPP_FETCH_TIMEOUT_MS", "1000").provider_llamacpp;
            options.config.provider_llamacpp.headers_timeout_ms = of_variable.headers_timeout_ms;
            options.config.provider.max_retries = 2;
        },
    )
    .await;
    let turn = rig.say("m", "hi").await;
    assert_eq!(
        turn.failure(),
        (
            "error",
            "transient",
            "llamacpp timed out: no answer within 1000 ms"
        )
    );
    assert_eq!(rig.server.requests().len(), 1);
}

async fn c08_case_40_discovery_asks_for_the_window() {
    let script = Script::queue([]).with_models(answers(&json!({"object": "list", "data": [
        {"id": "tiny.gguf", "object": "model", "meta": {"n_ctx_train": 131_072, "n_params": 1}}
    ]})));
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let rig = llamacpp(script.with_others(move |path, _| {
        let n = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        // Answered to the start and to the refresh that waits for it.
        match (path, n) {
            ("/props", 0 | 1) => Some(answers(&json!({"n_ctx": 16_384}))),
            _ => Some(Reply::fails(500, "")),
        }
    }))
    .await;
    let record = |context: u64| {
        json!([{"id": "tiny.gguf", "provider": "llamacpp", "api": "openai-completions", "display_name": "tiny.gguf",
            "context_window": context, "max_output_tokens": 8192, "supports_tools": true, "transports": ["sse"],
            "supports_vision": false}])
    };
    rig.test
        .eventually(async || (rig.server.others().len() >= 2).then_some(()))
        .await;
    assert_eq!(rig.listed().await, record(16_384));
    assert_eq!(rig.refresh().await, json!(["tiny.gguf"]));
    assert_eq!(rig.listed().await, record(32_768));
}

async fn the_placeholder_goes_out_as_it_is() {
    let rig = llamacpp(Script::queue([Reply::says("x", 1)])).await;
    let turn = rig.say("llamacpp-local", "hi").await;
    assert_eq!(turn.message()["model"], "llamacpp-local");
    assert_eq!(rig.last_body()["model"], "llamacpp-local");
}

async fn v9_an_overflow_is_told_as_one() {
    let body = json!({"error": {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 4096,
        "message": "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it"}});
    let rig = llamacpp(Script::queue([Reply::fails(400, body.to_string())])).await;
    let turn = rig.say("m", "hi").await;
    assert_eq!(
        turn.failure(),
        (
            "error",
            "context_overflow",
            "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it"
        )
    );
}

/// llama.cpp through 2025 told failures within a stream like this, and ended it as if all was well.
async fn v9_an_overflow_in_a_line_that_is_no_event_is_told_as_one() {
    let error = json!({"code": 400, "message": "the request exceeds the available context size", "type": "invalid_request_error"});
    let stream = format!("error: {error}\n\ndata: [DONE]\n\n");
    let rig = llamacpp(Script::queue([Reply::raw([Step::send(stream)])])).await;
    let turn = rig.say("m", "hi").await;
    let text = "the request exceeds the available context size";
    assert_eq!(turn.failure(), ("error", "context_overflow", text));
}

async fn a_server_that_is_still_loading_is_waited_for() {
    let loading = json!({"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}});
    let replies = [Reply::fails(503, loading.to_string()), Reply::says("ready", 1)];
    let rig = Rig::start("llamacpp", Script::queue(replies), |options, url| {
        url.clone_into(&mut options.config.provider_llamacpp.default_api_url);
        options.config.provider.max_retries = 1;
    })
    .await;
    assert_eq!(rig.say("m", "hi").await.message()["content"], says("ready"));
}
