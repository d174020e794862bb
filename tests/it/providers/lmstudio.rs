//! `provider::lmstudio::*` (contract 08 §7, §8).

use harness::scripted::Step;
use pretty_assertions::assert_eq;

use super::*;

three_ways! {
    c08_case_25_a_user_row_where_templates_need_one,
    c08_case_26_the_placeholder_is_the_first_model_of_the_server,
    c08_case_29_a_page_is_no_answer,
    c08_case_30_an_error_in_the_stream,
    c08_case_31_the_end_mark_may_be_missing,
    c08_case_39_discovery,
    c08_section_7_bodies_are_cut,
    c08_weakness_13_a_stored_address_counts_everywhere,
    an_error_in_a_success_is_told,
    an_answer_that_is_not_streamed_is_an_answer,
}

pub(super) async fn lmstudio(script: Script) -> Rig {
    Rig::start("lmstudio", script, |options, url| {
        url.clone_into(&mut options.config.provider_lmstudio.default_api_url);
    })
    .await
}

pub(super) const LOAD: &str = "/api/v1/models/load";

/// Loads whatever it is asked to.
pub(super) fn loads(path: &str, body: &Value) -> Option<Reply> {
    let loaded =
        json!({"type": "llm", "instance_id": body["model"], "load_time_seconds": 3.2, "status": "loaded"});
    (path == LOAD).then(|| answers(&loaded))
}

async fn c08_case_25_a_user_row_where_templates_need_one() {
    let rig = lmstudio(Script::queue([Reply::says("x", 1)])).await;
    let call = json!({"role": "assistant", "stop_reason": "function_call", "timestamp": 1, "content":
        [{"type": "function_call", "id": "c", "function_id": "agent_trigger", "arguments": {"a": 1}}]});
    let result = json!({"role": "function_result", "function_call_id": "c", "function_id": "f", "details": {},
        "is_error": false, "content": [{"type": "text", "text": "r"}], "timestamp": 2});
    rig.turn(json!({"model": "m", "messages": [call, result], "system_prompt": "Be brief."}))
        .await;
    assert_eq!(
        rig.last_body(),
        json!({
            "model": "m", "max_completion_tokens": 8192, "stream": true, "stream_options": {"include_usage": true},
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "assistant", "tool_calls": [{"id": "c", "type": "function",
                    "function": {"name": "agent_trigger", "arguments": "{\"a\":1}"}}]},
                {"role": "tool", "tool_call_id": "c", "content": "r"},
                {"role": "user", "content": "(continue)"}
            ]
        })
    );
    // A server of this machine gets the usual key when there is none.
    assert_eq!(
        rig.server.requests()[0].header("authorization"),
        "Bearer lm-studio"
    );
}

async fn c08_case_26_the_placeholder_is_the_first_model_of_the_server() {
    let script = Script::answer(|_| Reply::says("x", 1)).with_models(Reply::models(["", "qwen/q3", "b"]));
    let rig = lmstudio(script).await;
    let asked_and_told = async |model: &str| {
        let turn = rig.say(model, "hi").await;
        (rig.last_body()["model"].clone(), turn.message()["model"].clone())
    };
    assert_eq!(
        asked_and_told("lmstudio-local").await,
        (json!("qwen/q3"), json!("qwen/q3"))
    );
    assert_eq!(asked_and_told("b").await, (json!("b"), json!("b")));
    for odd in [
        Reply::models([]),
        Reply::fails(500, ""),
        Reply::fails(200, "no json"),
    ] {
        rig.server.set_models(odd);
        let same = json!("lmstudio-local");
        assert_eq!(asked_and_told("lmstudio-local").await, (same.clone(), same));
    }
}

async fn c08_case_29_a_page_is_no_answer() {
    let page = Reply::raw([Step::send("<html><body>please load me</body></html>")]);
    let rig = lmstudio(Script::queue([page.with_header("content-type", "text/html")])).await;
    let turn = rig.say("m", "hi").await;
    assert_eq!(turn.failure(), ("error", "transient", "non-SSE body (text/html)"));
    assert_eq!(turn.message()["content"], json!([]));
    assert_eq!(rig.posted(LOAD), Vec::<Value>::new());
}

async fn c08_case_30_an_error_in_the_stream() {
    let replies = [
        json!({"error": {"message": "template failed"}}),
        json!({"error": "template failed"}),
        json!({"error": {"error_message": "template failed", "detail": "other"}}),
    ];
    let replies = replies.map(|error| Reply::raw([Step::send(event(&error)), Step::send(chunk("late"))]));
    let rig = lmstudio(Script::queue(replies)).await;
    for _ in 0..3 {
        let turn = rig.say("m", "hi").await;
        assert_eq!(turn.kinds(), ["start", "error"]);
        assert_eq!(turn.failure(), ("error", "transient", "template failed"));
        assert_eq!(turn.message()["content"], json!([]));
    }
}

async fn c08_case_31_the_end_mark_may_be_missing() {
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let rig = lmstudio(Script::queue([Reply::raw([
        Step::send(chunk("all")),
        Step::send(event(&last)),
    ])]))
    .await;
    let turn = rig.say("m", "hi").await;
    assert_eq!(turn.kinds().last(), Some(&"done"));
    assert_eq!(
        (&turn.message()["stop_reason"], &turn.message()["content"]),
        (&json!("end"), &says("all"))
    );
}

async fn c08_case_39_discovery() {
    let listing = json!({"object": "list", "data": [
        {"id": "a", "type": "llm", "loaded_context_length": 4096, "max_context_length": 32_768, "state": "loaded"},
        {"id": "b", "type": "vlm", "max_context_length": 8192, "state": "not-loaded"},
        {"id": "c", "type": "embeddings", "max_context_length": 512},
        {"id": "d"},
        {"type": "llm"}
    ]});
    let rig = lmstudio(
        Script::queue([]).with_others(move |path, _| (path == "/api/v0/models").then(|| answers(&listing))),
    )
    .await;
    assert_eq!(rig.refresh().await, json!(["a", "b", "d"]));
    let record = |id: &str, context: u64, vision: bool| {
        json!({"id": id, "provider": "lmstudio", "api": "openai-completions", "display_name": id,
            "context_window": context, "max_output_tokens": 8192, "supports_tools": true, "transports": ["sse"],
            "supports_vision": vision})
    };
    assert_eq!(
        rig.listed().await,
        json!([
            record("a", 4096, false),
            record("b", 8192, true),
            record("d", 32_768, false)
        ])
    );
}

async fn c08_section_7_bodies_are_cut() {
    let body = format!("\u{1b}[1m{}", "é".repeat(500));
    let rig = lmstudio(Script::queue([Reply::fails(500, body)])).await;
    let turn = rig.say("m", "hi").await;
    let expected = format!("[1m{}", "é".repeat(253));
    assert_eq!(turn.failure(), ("error", "transient", expected.as_str()));
}

async fn c08_weakness_13_a_stored_address_counts_everywhere() {
    let script = Script::answer(|_| Reply::says("x", 1)).with_others(|path, body| {
        let listing = json!({"data": [{"id": "a"}]});
        (path == "/api/v0/models")
            .then(|| answers(&listing))
            .or_else(|| loads(path, body))
    });
    let rig = Rig::start("lmstudio", script, |_, _| {}).await;
    let root = rig.server.url().replace("/v1/chat/completions", "/");
    rig.store(json!({"api_url": format!(" {root} "), "api_key": "own"}))
        .await;
    assert_eq!(rig.refresh().await, json!(["a"]));
    assert_eq!(rig.say("a", "hi").await.message()["content"], says("x"));
    assert_eq!(
        rig.call("load_model", json!({"model": "a"})).await["status"],
        "loaded"
    );
    assert_eq!(rig.server.requests()[0].header("authorization"), "Bearer own");
}

async fn an_error_in_a_success_is_told() {
    let replies = [
        answers(&json!({"error": "Prompt template failed"})),
        answers(
            &json!({"error": {"message": "the request exceeds the available context size", "code": 400}}),
        ),
        answers(&json!({"detail": "odd"})),
    ];
    let rig = lmstudio(Script::queue(replies)).await;
    for (kind, text) in [
        ("transient", "Prompt template failed"),
        (
            "context_overflow",
            "the request exceeds the available context size",
        ),
        ("transient", "stream closed mid-response"),
    ] {
        let turn = rig.say("m", "hi").await;
        assert_eq!(turn.failure(), ("error", kind, text));
        assert_eq!(turn.message()["content"], json!([]));
    }
}

/// Some servers ignore `stream`, give calls no ids, and their arguments whole.
async fn an_answer_that_is_not_streamed_is_an_answer() {
    let whole = json!({"id": "x", "object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", "message":
    {"role": "assistant", "content": "Look:", "tool_calls": [
        {"type": "function", "function": {"name": "agent_trigger", "arguments": {"a": 1}}},
        {"type": "function", "function": {"name": "agent_trigger", "arguments": "{\"b\":2}"}}
    ]}}]});
    let pretty = serde_json::to_string_pretty(&whole).unwrap();
    let rig = lmstudio(Script::queue([Reply::fails(200, pretty)])).await;
    let turn = rig.say("m", "hi").await;
    let message = turn.message();
    assert_eq!(message["stop_reason"], "function_call");
    assert_eq!(message["content"][0], says("Look:")[0]);
    let arguments: Vec<_> = message["content"].as_array().unwrap()[1..]
        .iter()
        .map(|call| call["arguments"].clone())
        .collect();
    assert_eq!(arguments, [json!({"a": 1}), json!({"b": 2})]);
    let ids: std::collections::BTreeSet<_> = message["content"].as_array().unwrap()[1..]
        .iter()
        .map(|call| call["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(
        message["usage"],
        json!({"input": 0, "output": 0, "cache_read": 0, "cache_write": 0})
    );
}
