//! `provider::anthropic::*` against a scripted server over real HTTP (contract 08).

use harness::scripted::{Gate, Reply, Script, Step};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::provider_rig::{KEY, Rig, World, queue, user};
use super::support::three_ways;

three_ways! {
    c08_case_01_a_turn_in_two_deltas,
    c08_case_02_the_request_on_the_wire,
    c08_case_03_a_call_in_fragments_and_its_name,
    c08_case_04_names_come_back_as_they_were,
    c08_case_05_results_in_a_row_are_one_message,
    c08_case_06_repeated_results_the_latest_wins,
    c08_case_07_a_call_without_a_result_gets_one,
    c08_case_08_a_late_result_comes_before_the_text,
    c08_case_09_a_denial_says_so,
    c08_case_10_a_long_system_prompt_is_marked,
    c08_case_11_the_newest_settled_answer_is_marked,
    c08_case_12_kinds_of_refusals,
    c08_case_13_overflow_by_its_text,
    c08_case_14_v6_an_error_in_the_stream_keeps_the_text,
    c08_case_15_usage_of_the_wire,
    c08_case_16_no_credential,
    c08_case_38_discovery_reads_all_pages_and_keeps_on_failure,
    c08_case_42_a_reader_that_goes_ends_the_request,
    the_cost_follows_from_the_catalog,
    a_cut_stream_is_paid_for_as_far_as_it_was_counted,
    an_overloaded_server_is_asked_again_before_any_content,
    thinking_is_asked_for_and_carried_back_unchanged,
    v8_a_session_that_changes_its_provider,
    images_go_along,
    complete_answers_the_final_message,
    the_provider_declares_itself,
    w4_retry_after_as_a_date,
    x1_secrets_are_masked_by_value_and_by_name,
    a_server_that_does_not_stream_is_understood,
}

fn world() -> World {
    World {
        provider: "anthropic",
        ..World::default()
    }
}

async fn start(script: Script) -> Rig {
    Rig::with(script, world()).await
}

fn event(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())
}

/// The events of a stream up to its first text, and that text.
fn half(text: &str) -> String {
    [
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 10, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
    ]
    .iter()
    .map(event)
    .collect()
}

fn assistant(content: Value) -> Value {
    json!({"role": "assistant", "content": content, "stop_reason": "end", "model": "m", "provider": "anthropic",
        "timestamp": 2})
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn call(id: &str) -> Value {
    json!({"type": "function_call", "id": id, "function_id": "agent_trigger", "arguments": {"x": 1}})
}

fn result(id: &str, said: &str) -> Value {
    json!({"role": "function_result", "function_call_id": id, "function_id": "f", "content": [text(said)], "details": {},
        "is_error": false, "timestamp": 3})
}

fn answered(id: &str, said: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": said, "is_error": false})
}

/// The body of the request that these messages make.
async fn body(request: Value) -> Value {
    let rig = start(queue([Reply::says("x", 1)])).await;
    rig.turn(request).await;
    assert_eq!(rig.server.violations(), Vec::<String>::new());
    rig.server.requests()[0].body.clone()
}

async fn rows(messages: Value) -> Value {
    body(json!({ "messages": messages })).await["messages"].take()
}

async fn c08_case_01_a_turn_in_two_deltas() {
    let rig = start(queue([Reply::says("Hello", 2).with_usage(10, 2, 0)])).await;
    let turn = rig.say("hi").await;
    let expected = [
        "start",
        "usage",
        "text_start",
        "text_delta",
        "text_delta",
        "text_end",
        "usage",
        "stop",
        "done",
    ];
    assert_eq!(turn.kinds(), expected);
    let mut message = turn.message().clone();
    assert!(message["timestamp"].take().as_i64().unwrap() > 1_700_000_000_000);
    assert_eq!(
        message,
        json!({
            "role": "assistant", "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end",
            "error_message": null, "error_kind": null, "model": "claude-sonnet-4-5", "provider": "anthropic",
            "timestamp": null, "usage": {"input": 10, "output": 2, "cache_read": 0, "cache_write": 0, "total": 12}
        })
    );
    let partials: Vec<_> = turn.events.iter().map(|event| &event["partial"]).collect();
    assert_eq!(
        (&partials[0]["content"], &partials[0]["usage"]),
        (&json!([]), &Value::Null)
    );
    assert_eq!(partials[3]["content"][0]["text"], "Hel");
    assert_eq!(partials[4]["content"][0]["text"], "Hello");
    assert_eq!(partials[4]["usage"]["input"], 10);
    assert_eq!(rig.server.violations(), Vec::<String>::new());
}

async fn c08_case_02_the_request_on_the_wire() {
    let rig = start(queue([Reply::says("x", 1)])).await;
    rig.say("hi").await;
    let request = &rig.server.requests()[0];
    assert_eq!(request.header("x-api-key"), KEY);
    assert_eq!(request.header("anthropic-version"), "2023-06-01");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("authorization"), "");
    assert_eq!(request.header("anthropic-beta"), "");
    assert_eq!(
        request.body,
        json!({
            "model": "claude-sonnet-4-5", "max_tokens": 8192, "stream": true, "tools": [], "system": "",
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
        })
    );
    let token = World {
        credential: json!({"type": "oauth", "access_token": "tok"}),
        ..world()
    };
    let rig = Rig::with(queue([Reply::says("x", 1)]), token).await;
    rig.say("hi").await;
    let request = &rig.server.requests()[0];
    assert_eq!(request.header("authorization"), "Bearer tok");
    assert_eq!(request.header("x-api-key"), "");
}

async fn c08_case_03_a_call_in_fragments_and_its_name() {
    let reply = Reply::calls([("t1", "shell__fs__ls", r#"{"path":"/tmp"}"#)]);
    let rig = start(queue([reply])).await;
    let tools = json!([{"name": "shell::fs::ls", "description": "d", "parameters": {"type": "object"}}]);
    let turn = rig.turn(json!({"messages": [user("go")], "tools": tools})).await;
    let message = turn.message();
    assert_eq!(message["stop_reason"], "function_call");
    assert_eq!(
        message["content"],
        json!([{"type": "function_call", "id": "t1", "function_id": "shell::fs::ls", "arguments": {"path": "/tmp"}}])
    );
    let deltas = turn
        .events
        .iter()
        .filter(|event| event["type"] == "functioncall_delta");
    assert_eq!(deltas.count(), 2);
    assert_eq!(
        rig.server.requests()[0].body["tools"],
        json!([{"name": "shell__fs__ls", "description": "d", "input_schema": {"type": "object"}}])
    );
}

async fn c08_case_04_names_come_back_as_they_were() {
    let calls = [
        ("t1", "my__tool__run", "{}"),
        ("t2", "of__nobody", "{}"),
        ("t3", "a__b", ""),
    ];
    let rig = start(queue([Reply::calls(calls)])).await;
    let tool = |name: &str| json!({"name": name, "description": "d", "parameters": {}});
    let tools = json!([tool("my__tool::run"), tool("a__b")]);
    let turn = rig.turn(json!({"messages": [user("go")], "tools": tools})).await;
    let content = turn.message()["content"].as_array().unwrap();
    let names: Vec<_> = content
        .iter()
        .map(|block| block["function_id"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["my__tool::run", "of::nobody", "a__b"]);
    assert_eq!(content[2]["arguments"], json!({}));
}

async fn c08_case_05_results_in_a_row_are_one_message() {
    let calls = assistant(json!([call("a"), call("b"), call("c")]));
    let messages = json!([
        user("q"),
        calls,
        result("a", "1"),
        result("b", ""),
        result("c", "3")
    ]);
    let rows = rows(messages).await;
    assert_eq!(
        rows[2],
        json!({"role": "user", "content": [answered("a", "1"), answered("b", "(no output)"), answered("c", "3")]})
    );
    assert_eq!(rows.as_array().unwrap().len(), 3);
}

async fn c08_case_06_repeated_results_the_latest_wins() {
    let calls = assistant(json!([call("a"), call("b"), call("c")]));
    let results = [("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1"), ("b", "b2")];
    let mut messages = vec![user("q"), calls];
    messages.extend(results.map(|(id, said)| result(id, said)));
    let rows = rows(json!(messages)).await;
    assert_eq!(
        rows[2]["content"],
        json!([answered("a", "a2"), answered("b", "b2"), answered("c", "c1")])
    );
}

async fn c08_case_07_a_call_without_a_result_gets_one() {
    let rows = rows(json!([user("q"), assistant(json!([call("t1")]))])).await;
    let made_up = &rows[2]["content"][0];
    assert_eq!(rows[2]["role"], "user");
    assert_eq!(
        (&made_up["tool_use_id"], &made_up["is_error"]),
        (&json!("t1"), &json!(true))
    );
    let said = made_up["content"].as_str().unwrap();
    assert!(said.contains("interrupted before completing"), "{said}");
}

async fn c08_case_08_a_late_result_comes_before_the_text() {
    let rows = rows(json!([user("q1"), assistant(json!([call("x")])), user("q2")])).await;
    let roles: Vec<_> = rows.as_array().unwrap().iter().map(|row| &row["role"]).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
    assert_eq!(rows[2]["content"][0]["tool_use_id"], "x");
    assert_eq!(rows[2]["content"][1], text("q2"));
}

async fn c08_case_09_a_denial_says_so() {
    let mut denied = result("a", "no");
    denied["details"] = json!({"status": "denied", "denied_by": "user"});
    let rows = rows(json!([user("q"), assistant(json!([call("a")])), denied])).await;
    let said = rows[2]["content"][0]["content"].as_str().unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!((lines[0], lines[2], lines[3]), ("[PERMISSION_DENIED]", "", "no"));
    let details: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(details["status"], "denied");
}

async fn c08_case_10_a_long_system_prompt_is_marked() {
    let system = async |prompt: &str, on: bool| {
        let mut world = world();
        world.config.provider_anthropic.prompt_cache = on;
        let rig = Rig::with(queue([Reply::says("x", 1)]), world).await;
        let tools = json!([{"name": "long", "description": prompt, "parameters": {}}]);
        rig.turn(json!({"messages": [user("hi")], "system_prompt": prompt, "tools": tools}))
            .await;
        let body = rig.server.requests()[0].body.clone();
        (body["system"].clone(), body["tools"][0]["cache_control"].clone())
    };
    let (short, long) = ("é".repeat(4095), "é".repeat(4096));
    let marker = json!({"type": "ephemeral"});
    let marked = json!([{"type": "text", "text": long, "cache_control": marker}]);
    // The tool is longer than its description.
    assert_eq!(system(&short, true).await, (json!(short), marker.clone()));
    assert_eq!(system(&long, true).await, (marked, marker));
    assert_eq!(system(&long, false).await, (json!(long), Value::Null));
    assert_eq!(system("short", true).await.1, Value::Null);
}

async fn c08_case_11_the_newest_settled_answer_is_marked() {
    let marked = |rows: &Value| {
        let rows = rows.as_array().unwrap();
        let blocks = rows.iter().enumerate().flat_map(|(row, content)| {
            content["content"]
                .as_array()
                .unwrap()
                .iter()
                .map(move |block| (row, block))
        });
        let marked = blocks.filter(|(_, block)| block["cache_control"] == json!({"type": "ephemeral"}));
        marked
            .map(|(row, block)| (row, block["text"].as_str().unwrap_or("call").to_owned()))
            .collect::<Vec<_>>()
    };
    let settled = assistant(json!([text("a1"), {"type": "thinking", "text": "hm", "signature": "s"}]));
    let waiting = assistant(json!([text("a2"), call("x")]));
    let rows_of = async |messages: Value| marked(&rows(messages).await);
    assert_eq!(
        rows_of(json!([user("q"), settled, user("r")])).await,
        [(1, "a1".to_owned())]
    );
    assert_eq!(rows_of(json!([user("q"), waiting])).await, []);
    assert_eq!(
        rows_of(json!([user("q"), settled, user("r"), waiting])).await,
        [(1, "a1".to_owned())]
    );
    let done = json!([user("q"), settled, user("r"), waiting, result("x", "y")]);
    assert_eq!(rows_of(done).await, [(3, "call".to_owned())]);
}

async fn c08_case_12_kinds_of_refusals() {
    let bad_field = r#"{"type":"error","error":{"type":"invalid_request_error","message":"bad field"}}"#;
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let cases = [
        (401, "no", "auth_expired", "no"),
        (403, "", "auth_expired", "anthropic http 403"),
        (429, "slow down", "rate_limited", "slow down"),
        (503, "", "transient", "anthropic http 503"),
        (529, overloaded, "transient", "Overloaded"),
        (400, bad_field, "permanent", "bad field"),
        (413, "large", "context_overflow", "large"),
    ];
    let rig = start(Script::queue(
        cases.map(|(status, body, ..)| Reply::fails(status, body)),
    ))
    .await;
    for (status, _, kind, text) in cases {
        let turn = rig.say("hi").await;
        assert_eq!(turn.kinds(), ["error"], "{status}");
        assert_eq!(turn.failure(), ("error", kind, text), "{status}");
        assert_eq!(turn.message()["content"], json!([]));
    }
}

async fn c08_case_13_overflow_by_its_text() {
    let refusal = |text: &str| {
        let error = json!({"type": "error", "error": {"type": "invalid_request_error", "message": text}});
        Reply::fails(400, error.to_string())
    };
    let cases = [
        (
            "prompt is too long: 210000 tokens > 200000 maximum",
            "context_overflow",
        ),
        ("unknown context_management field", "permanent"),
    ];
    let rig = start(Script::queue(cases.map(|(text, _)| refusal(text)))).await;
    for (text, kind) in cases {
        assert_eq!(rig.say("hi").await.failure(), ("error", kind, text));
    }
}

async fn c08_case_14_v6_an_error_in_the_stream_keeps_the_text() {
    let cases = [
        ("overloaded_error", "Overloaded", "transient"),
        ("api_error", "Internal", "transient"),
        ("timeout_error", "slow", "transient"),
        ("rate_limit_error", "too fast", "rate_limited"),
        ("authentication_error", "bad key", "auth_expired"),
        ("permission_error", "not yours", "auth_expired"),
        ("request_too_large", "large", "context_overflow"),
        (
            "invalid_request_error",
            "prompt is too long: 9 > 8",
            "context_overflow",
        ),
        ("invalid_request_error", "bad field", "permanent"),
        ("new_error", "what", "transient"),
    ];
    let replies = cases.map(|(kind, text, _)| {
        let error = json!({"type": "error", "error": {"type": kind, "message": text}});
        Reply::raw([
            Step::send(half("so far")),
            Step::send(event(&error)),
            Step::Wait(Gate::new()),
        ])
    });
    let rig = start(Script::queue(replies)).await;
    for (_, text, kind) in cases {
        let turn = rig.say("hi").await;
        assert_eq!(turn.failure(), ("error", kind, text));
        let message = turn.message();
        assert_eq!(message["content"], json!([{"type": "text", "text": "so far"}]));
        assert_eq!(message["usage"]["total"], 11);
    }
    rig.server_is_idle().await;
}

async fn c08_case_15_usage_of_the_wire() {
    let usage = json!({"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 5});
    let events = [
        json!({"type": "message_start", "message": {"usage": usage}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "x"}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 20}}),
        json!({"type": "message_stop"}),
    ];
    let rig = start(queue([Reply::raw(events.iter().map(|it| Step::send(event(it))))])).await;
    let turn = rig.say("hi").await;
    assert_eq!(
        turn.message()["usage"],
        json!({"input": 10, "output": 20, "cache_read": 5, "cache_write": 0, "total": 35})
    );
}

async fn c08_case_16_no_credential() {
    let world = World {
        credential: Value::Null,
        ..world()
    };
    let rig = Rig::with(queue([]), world).await;
    let turn = rig.say("hi").await;
    assert_eq!(turn.kinds(), ["error"]);
    let (reason, kind, text) = turn.failure();
    assert_eq!((reason, kind), ("error", "auth_expired"));
    assert!(
        text.contains("ANTHROPIC_API_KEY") && text.contains("providers.anthropic.api_key"),
        "{text}"
    );
    let error = rig
        .test
        .error(&rig.id("complete"), json!({"model": "claude"}))
        .await;
    assert_eq!(error, text);
    assert_eq!(rig.server.requests().len(), 0);
}

async fn c08_case_38_discovery_reads_all_pages_and_keeps_on_failure() {
    let page = |ids: &[&str], next: Option<&str>| {
        let data: Vec<_> = ids
            .iter()
            .map(|id| json!({"type": "model", "id": id, "display_name": "A model"}))
            .collect();
        let listing = json!({"data": data, "has_more": next.is_some(), "first_id": ids[0], "last_id": next});
        Reply::fails(200, listing.to_string())
    };
    let world = World {
        listed: json!([{"id": "claude-opus-5", "provider": "anthropic"}, {"id": "gone", "provider": "anthropic"}]),
        ..world()
    };
    let rig = Rig::with(queue([]).with_models(Reply::fails(500, "")), world).await;
    let refresh = async || rig.test.ok(&rig.id("refresh_models"), Value::Null).await;
    let nothing = json!({"registered": []});
    assert_eq!(refresh().await, nothing);
    // A page that fails makes the whole listing fail; so does one without an end.
    rig.server
        .set_model_pages([page(&["claude-opus-5"], Some("1")), Reply::fails(500, "")]);
    assert_eq!(refresh().await, nothing);
    rig.server.set_model_pages([page(&["claude-opus-5"], Some("0"))]);
    assert_eq!(refresh().await, nothing);
    assert_eq!(rig.calls("models::register"), Vec::<Value>::new());

    rig.server.set_model_pages([
        page(&["claude-opus-5", "claude-haiku-4-5-20251001"], Some("1")),
        page(&["claude-next"], None),
    ]);
    let all = ["claude-opus-5", "claude-haiku-4-5-20251001", "claude-next"];
    assert_eq!(refresh().await, json!({ "registered": all }));
    let written = rig.calls("models::register");
    assert_eq!(written.len(), 4);
    assert_eq!(
        written[3],
        json!({"provider": "anthropic", "id": "gone", "removed": true})
    );
    let next = written
        .iter()
        .find(|record| record["id"] == "claude-next")
        .unwrap();
    assert_eq!(
        *next,
        json!({"id": "claude-next", "provider": "anthropic", "api": "anthropic-messages", "display_name": "A model",
            "context_window": 200_000, "max_output_tokens": 8192, "supports_tools": true, "transports": ["sse"]})
    );
    let headers = rig.server.listing_headers();
    let last = headers.last().unwrap();
    assert_eq!(
        (&last["x-api-key"], &last["anthropic-version"]),
        (&KEY.parse().unwrap(), &"2023-06-01".parse().unwrap())
    );
}

async fn c08_case_42_a_reader_that_goes_ends_the_request() {
    let steps = [Step::send(half("a")), Step::Wait(Gate::new())];
    let rig = start(queue([Reply::raw(steps)])).await;
    let until_text = |text: &str| !text.contains("text_delta");
    let answer = rig.read_turn(json!({"messages": [user("hi")]}), until_text).await;
    assert_eq!(answer, json!({"ok": true}));
    rig.server_is_idle().await;
}

/// Prices in dollars per million tokens, easy to add up.
fn priced() -> Value {
    json!({"max_output_tokens": 64_000, "pricing": {"input_per_1m": 3, "output_per_1m": 15, "cache_read_per_1m": 0.3,
        "cache_write_per_1m": 3.75}})
}

async fn the_cost_follows_from_the_catalog() {
    let world = World {
        model: priced(),
        ..world()
    };
    let rig = Rig::with(queue([Reply::says("x", 1).with_usage(3_000, 100, 1_000)]), world).await;
    let turn = rig.say("hi").await;
    // 2,000 × 3 + 1,000 × 0.3 + 100 × 15 per million.
    assert_eq!(
        turn.message()["usage"],
        json!({"input": 2000, "output": 100, "cache_read": 1000, "cache_write": 0, "cost_usd": 0.0078, "total": 3100})
    );
}

async fn a_cut_stream_is_paid_for_as_far_as_it_was_counted() {
    let begun = event(
        &json!({"type": "message_start", "message": {"usage": {"input_tokens": 1000, "output_tokens": 1}}}),
    );
    let replies = [
        Reply::raw([Step::send(half("so far"))]),
        Reply::raw([Step::send(half("so far")), Step::Break]),
        Reply::raw([Step::send(begun)]),
    ];
    let world = World {
        model: priced(),
        ..world()
    };
    let rig = Rig::with(Script::queue(replies), world).await;
    let kept = json!([{"type": "text", "text": "so far"}]);
    for (text, content, cost) in [
        (
            "stream closed mid-response after 1 output tokens",
            &kept,
            0.000_045,
        ),
        ("stream read failed", &kept, 0.000_045),
        ("stream closed mid-response", &json!([]), 0.003_015),
    ] {
        let turn = rig.say("hi").await;
        let (_, kind, seen) = turn.failure();
        assert_eq!(kind, "transient");
        assert!(seen.starts_with(text), "{seen}");
        assert_eq!(turn.message()["content"], *content);
        assert_eq!(turn.message()["usage"]["cost_usd"], cost);
    }
}

async fn an_overloaded_server_is_asked_again_before_any_content() {
    let mut world = world();
    world.config.provider.max_retries = 1;
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let replies = [
        Reply::raw([Step::send(event(&error))]),
        Reply::says("ok", 1),
        Reply::raw([Step::send(half("a")), Step::send(event(&error))]),
    ];
    let rig = Rig::with(Script::queue(replies), world).await;
    let turn = rig.say("hi").await;
    assert_eq!(turn.message()["content"][0]["text"], "ok");
    assert_eq!(turn.kinds().iter().filter(|kind| **kind == "start").count(), 1);
    assert_eq!(
        rig.say("hi").await.failure(),
        ("error", "transient", "Overloaded")
    );
    assert_eq!(rig.server.requests().len(), 3);
}

async fn thinking_is_asked_for_and_carried_back_unchanged() {
    let world = World {
        model: json!({"max_output_tokens": 64_000, "supports_thinking": true}),
        ..world()
    };
    let redacted = [
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "redacted_thinking", "data": "ZGF0YQ=="}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t2", "name": "f", "input": {}}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}}),
        json!({"type": "message_stop"}),
    ];
    let script = queue([
        Reply::thinks("hm").then(Reply::calls([("t1", "f", "{}")])),
        Reply::raw(redacted.iter().map(|it| Step::send(event(it)))),
        Reply::says("done", 1),
    ]);
    let rig = Rig::with(script, world).await;
    let mut messages = vec![user("q")];
    for id in ["t1", "t2"] {
        let turn = rig
            .turn(json!({"messages": messages, "thinking_level": "high"}))
            .await;
        messages.extend([turn.message().clone(), result(id, "r")]);
    }
    assert_eq!(
        messages[1]["content"][0],
        json!({"type": "thinking", "text": "hm", "signature": "c2lnbmVk"})
    );
    rig.turn(json!({"messages": messages, "thinking_level": "high"}))
        .await;
    let requests = rig.server.requests();
    for request in &requests {
        assert_eq!(
            request.body["thinking"],
            json!({"type": "enabled", "budget_tokens": 16_000})
        );
        assert_eq!(
            request.header("anthropic-beta"),
            "interleaved-thinking-2025-05-14"
        );
    }
    let rows = requests[2].rows();
    assert_eq!(
        rows[1]["content"][0],
        json!({"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"})
    );
    assert_eq!(
        rows[3]["content"][0],
        json!({"type": "redacted_thinking", "data": "ZGF0YQ=="})
    );
    assert_eq!(rig.server.violations(), Vec::<String>::new());
}

async fn v8_a_session_that_changes_its_provider() {
    let mut foreign = assistant(json!([
        {"type": "thinking", "text": "I should look."},
        text("I look."),
        {"type": "function_call", "id": "functions.agent_trigger:0", "function_id": "agent_trigger", "arguments": null}
    ]));
    foreign["provider"] = json!("kimi");
    let again = foreign.clone();
    let messages = json!([
        user("q"),
        foreign,
        result("functions.agent_trigger:0", "one"),
        again,
        result("functions.agent_trigger:0", "two")
    ]);
    let rig = Rig::with(
        queue([Reply::says("x", 1)]),
        World {
            model: json!({"max_output_tokens": 64_000}),
            ..world()
        },
    )
    .await;
    rig.turn(json!({"messages": messages, "thinking_level": "high"}))
        .await;
    let request = &rig.server.requests()[0];
    let said = |id: &str| json!([text("I should look."), text("I look."), {"type": "tool_use", "id": id, "name": "agent_trigger", "input": {}}]);
    let rows = request.rows();
    assert_eq!(rows[1]["content"], said("functions_agent_trigger_0"));
    assert_eq!(
        rows[2]["content"],
        json!([answered("functions_agent_trigger_0", "one")])
    );
    let last = rows[3]["content"].as_array().unwrap();
    assert_eq!(last[2]["id"], "functions_agent_trigger_0_2");
    assert_eq!(
        rows[4]["content"],
        json!([answered("functions_agent_trigger_0_2", "two")])
    );
    // In the middle of a round of calls that began without thinking, none can be asked for.
    assert_eq!(request.body["thinking"], Value::Null);
    assert_eq!(rig.server.violations(), Vec::<String>::new());
}

async fn images_go_along() {
    let picture = |mime: &str| json!({"type": "image", "mime": mime, "data": "QUJD"});
    let sent = |mime: &str| json!({"type": "image", "source": {"type": "base64", "media_type": mime, "data": "QUJD"}});
    let question = json!({"role": "user", "content": [text("look"), picture("image/png"), picture("image/tiff")], "timestamp": 1});
    let mut shot = result("a", "there");
    shot["content"] = json!([picture("image/webp"), text("there")]);
    let messages = json!([question, assistant(json!([call("a")])), shot]);
    let seen = rows(messages.clone()).await;
    assert_eq!(seen[0]["content"][0], text("look"));
    assert_eq!(seen[0]["content"][1], sent("image/png"));
    let notice = seen[0]["content"][2]["text"].as_str().unwrap();
    assert!(notice.starts_with("[image left out"), "{notice}");
    assert_eq!(
        seen[2]["content"][0]["content"],
        json!([text("there"), sent("image/webp")])
    );

    let blind = World {
        model: json!({"supports_vision": false}),
        ..world()
    };
    let rig = Rig::with(queue([Reply::says("x", 1)]), blind).await;
    rig.turn(json!({ "messages": messages })).await;
    let body = rig.server.requests()[0].body.to_string();
    assert!(
        !body.contains("QUJD") && body.contains("[image left out"),
        "{body}"
    );
}

async fn complete_answers_the_final_message() {
    let rig = start(queue([Reply::says("Hello", 1), Reply::fails(503, "down")])).await;
    let complete = rig.id("complete");
    let error = rig.test.error(&complete, json!({})).await;
    assert_eq!(error, "missing required string field: model");
    let request = json!({"model": "claude", "messages": [user("hi")], "tools": "x", "system_prompt": 7});
    let message = rig.test.ok(&complete, request.clone()).await;
    assert_eq!(
        (&message["role"], &message["content"][0]),
        (&json!("assistant"), &text("Hello"))
    );
    let message = rig.test.ok(&complete, request).await;
    assert_eq!(
        (&message["stop_reason"], &message["error_message"]),
        (&json!("error"), &json!("down"))
    );
}

async fn the_provider_declares_itself() {
    let rig = start(queue([])).await;
    assert_eq!(
        rig.calls("harness::provider::register"),
        [json!({
            "id": "anthropic", "display_name": "anthropic", "credential_env_var": "ANTHROPIC_API_KEY",
            "defaults": {"api_url": "https://api.anthropic.com/v1/messages", "max_tokens": 8192},
            "supports_model_listing": true
        })]
    );
}

async fn w4_retry_after_as_a_date() {
    let in_seconds = |seconds: i64| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&at)
            .unwrap();
        Reply::fails(529, "busy").with_header("retry-after", &date)
    };
    let mut world = world();
    world.config.provider.max_retries = 1;
    let rig = Rig::with(
        queue([in_seconds(-60), Reply::says("ok", 1), in_seconds(3600)]),
        world,
    )
    .await;
    assert_eq!(rig.say("hi").await.message()["content"][0], text("ok"));
    let turn = rig.say("hi").await;
    let (_, kind, said) = turn.failure();
    assert_eq!(kind, "transient");
    assert!(said.starts_with("busy (the server asks to wait 3"), "{said}");
    assert_eq!(rig.server.requests().len(), 3);
}

async fn x1_secrets_are_masked_by_value_and_by_name() {
    let by_value = json!({"type": "error", "error": {"type": "authentication_error", "message": format!("invalid {KEY}")}});
    let by_name =
        json!({"request": {"x-api-key": "sk-of-somebody", "password": "pw"}, "why": format!("bad {KEY}")});
    let in_stream = json!({"type": "error", "error": {"type": "api_error", "headers": {"authorization": "Bearer sk-other"}}});
    let rig = start(queue([
        Reply::fails(401, by_value.to_string()),
        Reply::fails(500, by_name.to_string()),
        Reply::raw([Step::send(event(&in_stream))]),
    ]))
    .await;
    assert_eq!(rig.say("hi").await.failure().2, "invalid [REDACTED]");
    assert_eq!(
        rig.say("hi").await.failure().2,
        r#"{"request":{"x-api-key":"[REDACTED]","password":"[REDACTED]"},"why":"bad [REDACTED]"}"#
    );
    assert_eq!(
        rig.say("hi").await.failure().2,
        r#"{"type":"api_error","headers":{"authorization":"[REDACTED]"}}"#
    );
}

async fn a_server_that_does_not_stream_is_understood() {
    let answer = json!({"type": "message", "role": "assistant", "content": [text("Hi")], "stop_reason": "max_tokens",
        "usage": {"input_tokens": 7, "output_tokens": 2}});
    let rig = start(queue([Reply::fails(200, answer.to_string())])).await;
    let turn = rig.say("hi").await;
    let message = turn.message();
    assert_eq!(
        (&message["content"], &message["stop_reason"]),
        (&json!([text("Hi")]), &json!("length"))
    );
    assert_eq!(message["usage"]["total"], 9);
}
