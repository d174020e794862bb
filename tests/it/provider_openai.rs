//! `provider::openai::*` against a scripted server over real HTTP (contract 08).

use std::time::Duration;

use harness::bus::{CallContext, ChannelOptions, Frame};
use harness::model::AssistantEvent;
use harness::scripted::{Gate, Reply, Script, Server, Step};
use harness::workers::providers::openai;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::provider_rig::{KEY, Rig, Turn, World, queue, user};
use super::support::engine::within;
use super::support::{TestBus, TestOptions, three_ways};

three_ways! {
    c08_case_01_a_turn_in_two_deltas,
    c08_case_12_kinds_of_refusals,
    c08_case_12_passing_failures_are_tried_again_with_one_start,
    w3_retries_end_and_the_last_failure_is_told,
    w4_w5_no_retry_where_it_makes_no_sense,
    c08_case_16_no_credential,
    c08_case_17_the_request_on_the_wire,
    c08_case_18_a_call_comes_back_whole_and_is_answered,
    c08_case_19_usage_of_the_wire,
    c08_case_20_half_a_stream_is_an_error,
    c08_case_21_crlf_without_space,
    c08_case_22_a_character_cut_between_reads,
    c08_case_24_reasoning_is_shown_but_never_sent_back,
    c08_case_37_discovery_registers_and_prunes,
    without_a_credential_the_catalog_slice_is_emptied,
    c08_case_42_a_reader_that_goes_ends_the_request,
    a_server_that_never_answers_times_out_without_a_retry,
    w2_a_silent_stream_times_out_and_keeps_what_was_streamed,
    nobody_listening_is_a_transient_failure,
    a_byte_order_mark_does_no_harm,
    x1_an_endless_refusal_that_echoes_the_key_is_cut_and_masked,
    requests_that_are_wrong_fail_the_call,
    odd_messages_and_null_tools_do_not_fail_a_turn,
    c08_case_41_complete_answers_the_final_message,
    the_output_limit_and_the_effort_follow_the_catalog_and_the_user,
    the_operators_own_limit_wins_over_the_default,
    the_provider_declares_itself,
    sessions_beside_each_other_do_not_mix,
}

/// One chunk of text, as a frame.
pub(crate) fn chunk(text: &str) -> String {
    let chunk = json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    format!("data: {chunk}\n\n")
}

async fn c08_case_01_a_turn_in_two_deltas() {
    let rig = Rig::start(queue([Reply::says("Hello", 2).with_usage(10, 2, 0)])).await;
    let turn = rig.say("hi").await;
    let expected = [
        "start",
        "text_start",
        "text_delta",
        "text_delta",
        "usage",
        "text_end",
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
            "error_message": null, "error_kind": null, "model": "gpt-4o", "provider": "openai", "timestamp": null,
            "usage": {"input": 10, "output": 2, "cache_read": 0, "cache_write": 0, "total": 12}
        })
    );
    let partials: Vec<_> = turn.events.iter().map(|event| &event["partial"]).collect();
    assert_eq!(
        (&partials[0]["content"], &partials[0]["usage"]),
        (&json!([]), &Value::Null)
    );
    assert_eq!(partials[2]["content"][0]["text"], "Hel");
    assert_eq!(partials[3]["content"][0]["text"], "Hello");
    assert_eq!(partials[3]["usage"]["input"], 0);
    assert_eq!(rig.server.violations(), Vec::<String>::new());
}

async fn c08_case_12_kinds_of_refusals() {
    let bad_field = r#"{"error":{"message":"bad field"}}"#;
    let cases = [
        (401, "no", "auth_expired", "no"),
        (403, "", "auth_expired", "openai http 403"),
        (429, "slow down", "rate_limited", "slow down"),
        (500, "", "transient", "openai http 500"),
        (503, "<html>503</html>", "transient", "<html>503</html>"),
        (400, bad_field, "permanent", "bad field"),
        (413, "large", "context_overflow", "large"),
    ];
    let rig = Rig::start(Script::queue(
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

async fn c08_case_12_passing_failures_are_tried_again_with_one_start() {
    let mut world = World::default();
    world.config.provider.max_retries = 2;
    let failures = [
        Reply::raw([Step::Break]),
        Reply::fails(503, "a").with_header("retry-after", "0"),
        Reply::says("ok", 1),
    ];
    let rig = Rig::with(queue(failures), world).await;
    let turn = rig.say("hi").await;
    assert_eq!(turn.message()["content"][0]["text"], "ok");
    assert_eq!(turn.kinds().iter().filter(|kind| **kind == "start").count(), 1);
    assert_eq!(rig.server.requests().len(), 3);
    let bodies: Vec<_> = rig
        .server
        .requests()
        .into_iter()
        .map(|request| request.body)
        .collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

async fn w3_retries_end_and_the_last_failure_is_told() {
    let mut world = World::default();
    world.config.provider.max_retries = 1;
    let limited = Reply::fails(429, "slow down").with_header("retry-after", "0");
    let rig = Rig::with(Script::answer(move |_| limited.clone()), world).await;
    let turn = rig.say("hi").await;
    assert_eq!(turn.failure(), ("error", "rate_limited", "slow down"));
    assert_eq!(rig.server.requests().len(), 2);
}

async fn w4_w5_no_retry_where_it_makes_no_sense() {
    let mut world = World::default();
    world.config.provider.max_retries = 2;
    let replies = [
        Reply::fails(400, "bad"),
        Reply::fails(
            429,
            r#"{"error":{"message":"spent","code":"insufficient_quota"}}"#,
        ),
        Reply::fails(503, "busy").with_header("retry-after", "21"),
        Reply::raw([Step::send(chunk("half")), Step::Break]),
        Reply::fails(500, "maximum context length is 8"),
    ];
    let rig = Rig::with(Script::queue(replies), world).await;
    let expected = [
        ("permanent", "bad"),
        ("rate_limited", "spent"),
        ("transient", "busy (the server asks to wait 21 s)"),
        ("transient", "stream read failed"),
        ("context_overflow", "maximum context length is 8"),
    ];
    for (n, (kind, text)) in expected.into_iter().enumerate() {
        let turn = rig.say("hi").await;
        let (_, seen_kind, seen_text) = turn.failure();
        assert_eq!(seen_kind, kind);
        assert!(seen_text.starts_with(text), "{seen_text}");
        assert_eq!(rig.server.requests().len(), n + 1, "{text}");
    }
}

async fn c08_case_16_no_credential() {
    let world = World {
        credential: Value::Null,
        ..World::default()
    };
    let rig = Rig::with(queue([]), world).await;
    let turn = rig.say("hi").await;
    assert_eq!(turn.kinds(), ["error"]);
    let (reason, kind, text) = turn.failure();
    assert_eq!((reason, kind), ("error", "auth_expired"));
    assert!(
        text.contains("OPENAI_API_KEY") && text.contains("providers.openai.api_key"),
        "{text}"
    );
    let error = rig
        .test
        .error("provider::openai::complete", json!({"model": "gpt-4o"}))
        .await;
    assert_eq!(error, text);
    assert_eq!(rig.server.requests().len(), 0);
}

async fn c08_case_17_the_request_on_the_wire() {
    let rig = Rig::start(queue([Reply::says("x", 1)])).await;
    rig.say("hi").await;
    let request = &rig.server.requests()[0];
    assert_eq!(request.header("authorization"), format!("Bearer {KEY}"));
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(
        request.body,
        json!({
            "model": "gpt-4o", "max_completion_tokens": 8192, "stream": true,
            "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": "hi"}]
        })
    );
}

async fn c08_case_18_a_call_comes_back_whole_and_is_answered() {
    let calls = [
        ("c1", "agent_trigger", r#"{"x":1}"#),
        ("c2", "shell__fs__ls", "{}"),
    ];
    let rig = Rig::start(queue([Reply::calls(calls), Reply::says("done", 1)])).await;
    let tools = json!([
        {"name": "agent_trigger", "description": "d", "parameters": {"type": "object"}},
        {"name": "shell::fs::ls", "description": "d", "parameters": {}}
    ]);
    let turn = rig.turn(json!({"messages": [user("go")], "tools": tools})).await;
    let message = turn.message();
    assert_eq!(message["stop_reason"], "function_call");
    assert_eq!(
        message["content"],
        json!([
            {"type": "function_call", "id": "c1", "function_id": "agent_trigger", "arguments": {"x": 1}},
            {"type": "function_call", "id": "c2", "function_id": "shell::fs::ls", "arguments": {}}
        ])
    );
    let deltas = turn
        .events
        .iter()
        .filter(|event| event["type"] == "functioncall_delta");
    let text: String = deltas.map(|event| event["delta"].as_str().unwrap()).collect();
    assert_eq!(text, "{\"x\":1}{}");

    // The next turn: one call is answered, the other is not.
    let result = json!({"role": "function_result", "function_call_id": "c1", "function_id": "f", "details": {},
        "content": [{"type": "text", "text": "r1"}], "is_error": false, "timestamp": 3});
    let messages = json!([user("go"), message, user("and?"), result]);
    let turn = rig.turn(json!({"messages": messages, "tools": tools})).await;
    assert_eq!(turn.message()["content"][0]["text"], "done");
    let request = &rig.server.requests()[1];
    assert_eq!(request.tools(), ["agent_trigger", "shell__fs__ls"]);
    let rows: Vec<_> = request
        .rows()
        .iter()
        .map(|row| row["role"].as_str().unwrap())
        .collect();
    assert_eq!(rows, ["user", "assistant", "tool", "tool", "user"]);
    assert_eq!(rig.server.violations(), Vec::<String>::new());
}

async fn c08_case_19_usage_of_the_wire() {
    let rig = Rig::start(queue([Reply::says("x", 1).with_usage(1500, 200, 1200)])).await;
    let turn = rig.say("hi").await;
    assert_eq!(
        turn.message()["usage"],
        json!({"input": 1500, "output": 200, "cache_read": 1200, "cache_write": 0, "total": 1700})
    );
}

async fn c08_case_20_half_a_stream_is_an_error() {
    let rig = Rig::start(queue([Reply::raw([Step::send(chunk("half"))])])).await;
    let turn = rig.say("hi").await;
    assert_eq!(
        turn.failure(),
        ("error", "transient", "stream closed mid-response")
    );
    assert_eq!(
        turn.message()["content"],
        json!([{"type": "text", "text": "half"}])
    );
}

async fn c08_case_21_crlf_without_space() {
    let text = include_str!("../fixtures/streams/text_crlf.sse");
    let rig = Rig::start(queue([Reply::raw([Step::send(text)])])).await;
    assert_eq!(rig.say("hi").await.message()["content"][0]["text"], "Hello 😀");
}

async fn c08_case_22_a_character_cut_between_reads() {
    let frame = chunk("a😀b").into_bytes();
    let cut = frame.iter().position(|byte| *byte == 0xF0).unwrap() + 2;
    let gate = Gate::new();
    let (head, tail) = frame.split_at(cut);
    let steps = [
        Step::send(chunk("first")),
        Step::send(head),
        Step::Wait(gate.clone()),
        Step::send(tail),
        Step::send("data: [DONE]\n\n"),
    ];
    let rig = Rig::start(queue([Reply::raw(steps)])).await;
    let mut deltas = Vec::new();
    let look = |text: &str| {
        let event: Value = serde_json::from_str(text).unwrap();
        if event["type"] == "text_delta" {
            deltas.push(event["delta"].as_str().unwrap().to_owned());
            // The first one arrived, so the cut character is on its way.
            gate.release();
        }
        true
    };
    let answer = rig.read_turn(json!({"messages": [user("hi")]}), look).await;
    assert_eq!(answer, json!({"ok": true}));
    assert_eq!(deltas, ["first", "a😀b"]);
}

async fn c08_case_24_reasoning_is_shown_but_never_sent_back() {
    let reply = Reply::thinks("hm").then(Reply::says("a", 1));
    let rig = Rig::start(queue([reply, Reply::says("b", 1)])).await;
    let turn = rig.say("q").await;
    let message = turn.message();
    assert_eq!(message["content"][0], json!({"type": "thinking", "text": "hm"}));
    rig.turn(json!({"messages": [user("q"), message, user("r")]}))
        .await;
    let requests = rig.server.requests();
    assert_eq!(
        requests[1].rows()[1],
        json!({"role": "assistant", "content": "a"})
    );
}

async fn c08_case_37_discovery_registers_and_prunes() {
    let listed = json!([{"id": "gpt-5", "provider": "openai"}, {"id": "gone", "provider": "openai"},
        {"id": "other", "provider": "kimi"}]);
    let ids = [
        "gpt-5",
        "o3",
        "text-embedding-3-small",
        "whisper-1",
        "gpt-4o-audio-preview",
        "chatgpt-4o-latest",
    ];
    let world = World {
        listed,
        ..World::default()
    };
    let rig = Rig::with(queue([]).with_models(Reply::fails(500, "")), world).await;
    assert_eq!(rig.calls("models::register"), Vec::<Value>::new());

    let refresh = async || {
        rig.test
            .ok("provider::openai::refresh_models", json!("ignored"))
            .await
    };
    rig.server.set_models(Reply::models(ids));
    assert_eq!(
        refresh().await,
        json!({"registered": ["gpt-5", "o3", "chatgpt-4o-latest"]})
    );
    let written = rig.calls("models::register");
    let mut ids: Vec<_> = written
        .iter()
        .map(|record| record["id"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, ["chatgpt-4o-latest", "gone", "gpt-5", "o3"]);
    assert_eq!(
        written[3],
        json!({"provider": "openai", "id": "gone", "removed": true})
    );

    for odd in [
        Reply::fails(500, ""),
        Reply::fails(200, "no json"),
        Reply::fails(200, "{}"),
    ] {
        rig.server.set_models(odd);
        assert_eq!(refresh().await, json!({"registered": []}));
        assert_eq!(rig.calls("models::register").len(), 4);
    }
    rig.server.set_models(Reply::fails(401, ""));
    assert_eq!(refresh().await, json!({"registered": []}));
    let removed: Vec<_> = rig.calls("models::register").split_off(4);
    assert_eq!(
        removed,
        [
            json!({"provider": "openai", "id": "gpt-5", "removed": true}),
            json!({"provider": "openai", "id": "gone", "removed": true})
        ]
    );
}

async fn without_a_credential_the_catalog_slice_is_emptied() {
    let world = World {
        credential: Value::Null,
        listed: json!([{"id": "gpt-5", "provider": "openai"}]),
        ..World::default()
    };
    let rig = Rig::with(queue([]), world).await;
    let answer = rig.test.ok("provider::openai::refresh_models", json!({})).await;
    assert_eq!(answer, json!({"registered": []}));
    let removed = json!({"provider": "openai", "id": "gpt-5", "removed": true});
    assert!(rig.calls("models::register").contains(&removed));
    assert_eq!(rig.server.listings(), 0);
}

async fn c08_case_42_a_reader_that_goes_ends_the_request() {
    let steps = [Step::send(chunk("a")), Step::Wait(Gate::new())];
    let rig = Rig::start(queue([Reply::raw(steps)])).await;
    let until_text = |text: &str| !text.contains("text_delta");
    let answer = rig.read_turn(json!({"messages": [user("hi")]}), until_text).await;
    assert_eq!(answer, json!({"ok": true}));
    rig.server_is_idle().await;
}

#[tokio::test]
async fn a_cancelled_turn_ends_at_once_and_keeps_what_was_streamed() {
    let steps = [Step::send(chunk("so far")), Step::Wait(Gate::new())];
    let rig = Rig::start(queue([Reply::raw(steps)])).await;
    let token = CancellationToken::new();
    let context = CallContext {
        cancel: Some(token.clone()),
        ..CallContext::default()
    };
    let channel = rig.test.bus().create_channel(ChannelOptions::default());
    let mut reader = rig.test.bus().open_reader(&channel.reader).await.unwrap();
    let reading = async {
        let mut events: Vec<Value> = Vec::new();
        while let Some(Frame::Text(text)) = reader.next().await {
            if text.contains("text_delta") {
                token.cancel();
            }
            events.push(serde_json::from_str(&text).unwrap());
        }
        events
    };
    let turn = rig.say_inside(&channel, context);
    let (answer, events) = within(async { tokio::join!(turn, reading) }).await;
    let turn = Turn { events, answer };
    assert_eq!(turn.failure(), ("aborted", "transient", "aborted"));
    assert_eq!(
        turn.message()["content"],
        json!([{"type": "text", "text": "so far"}])
    );
    rig.server_is_idle().await;
}

async fn a_server_that_never_answers_times_out_without_a_retry() {
    let mut world = World::default();
    world.config.provider.max_retries = 2;
    world.config.provider.headers_timeout_ms = 150;
    let rig = Rig::with(queue([Reply::hangs(Gate::new())]), world).await;
    let turn = rig.say("hi").await;
    let (_, kind, text) = turn.failure();
    assert_eq!(
        (kind, text),
        ("transient", "openai timed out: no answer within 150 ms")
    );
    assert_eq!(rig.server.requests().len(), 1);
    rig.server_is_idle().await;
}

async fn w2_a_silent_stream_times_out_and_keeps_what_was_streamed() {
    let mut world = World::default();
    world.config.provider.idle_timeout_ms = 150;
    let steps = [Step::send(chunk("a")), Step::Wait(Gate::new())];
    let rig = Rig::with(queue([Reply::raw(steps)]), world).await;
    let turn = rig.say("hi").await;
    let (_, kind, text) = turn.failure();
    assert_eq!((kind, text), ("transient", "timed out: no data for 150 ms"));
    assert_eq!(turn.message()["content"][0]["text"], "a");
}

async fn nobody_listening_is_a_transient_failure() {
    let mut rig = Rig::start(queue([])).await;
    rig.server = Server::start(queue([])).unwrap();
    let turn = rig.say("hi").await;
    let (_, kind, text) = turn.failure();
    assert_eq!(kind, "transient");
    assert!(text.starts_with("openai fetch failed: "), "{text}");
}

/// A port whose queue of waiting connections is full: one more is neither taken nor refused.
#[tokio::test]
async fn a_server_that_takes_no_connection_times_out() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let is_full = async {
        while let Ok(connected) = tokio::time::timeout(
            Duration::from_millis(100),
            tokio::net::TcpStream::connect(address),
        )
        .await
        {
            waiting.push(connected.unwrap());
        }
    };
    within(is_full).await;
    let mut world = World::default();
    world.config.provider.connect_timeout_ms = 100;
    world.api_url = Some(format!("http://{address}/v1/chat/completions"));
    let rig = Rig::with(queue([]), world).await;
    let turn = rig.say("hi").await;
    let expected = "openai fetch failed: timed out: no connection within 100 ms";
    assert_eq!(turn.failure(), ("error", "transient", expected));
}

#[tokio::test]
async fn hostile_bodies_end_in_one_error() {
    let html =
        Reply::raw([Step::send("<html>\n\n<body>hi</body></html>")]).with_header("content-type", "text/html");
    let long_line = Step::send([b"data: ".to_vec(), vec![b'x'; 5 * 1024 * 1024]].concat());
    let replies = [
        html,
        Reply::raw([]),
        Reply::raw([Step::send("data: {garbage\n\ndata: 7\n\n")]),
        Reply::raw([long_line]),
        Reply::raw([Step::Forever(vec![b'x'; 64 * 1024].into())]),
        Reply::raw([Step::Forever(
            [vec![b':'; 64 * 1024], b"\n\n".to_vec()].concat().into(),
        )]),
        Reply::raw([
            Step::send(chunk("a")),
            Step::send("data: {\"error\":\"overloaded\"}\n\n"),
            Step::Wait(Gate::new()),
        ]),
    ];
    let rig = Rig::start(Script::queue(replies)).await;
    for expected in [
        "non-SSE body (text/html)",
        "non-SSE body (text/event-stream)",
        "non-SSE body (text/event-stream)",
        "stream read failed: a line is longer than 1048576 bytes",
        "stream read failed: a line is longer than 1048576 bytes",
        "stream read failed: the body is longer than 67108864 bytes",
        "overloaded",
    ] {
        assert_eq!(rig.say("hi").await.failure(), ("error", "transient", expected));
    }
    rig.server_is_idle().await;
}

async fn a_byte_order_mark_does_no_harm() {
    let text = format!("\u{feff}{}data: [DONE]\n\n", chunk("a"));
    let rig = Rig::start(queue([Reply::raw([Step::send(text)])])).await;
    assert_eq!(rig.say("hi").await.message()["content"][0]["text"], "a");
}

async fn x1_an_endless_refusal_that_echoes_the_key_is_cut_and_masked() {
    let echo = format!("\u{1b}[1mIncorrect API key provided: {KEY}. ");
    let endless = Reply::raw([Step::Forever(echo.into())]);
    let mut refusal = endless.with_header("content-type", "text/plain");
    refusal = refusal.with_status(401);
    let in_stream = format!(
        "data: {}\n\n",
        json!({"error": {"message": format!("bad key {KEY}")}})
    );
    let rig = Rig::start(queue([refusal, Reply::raw([Step::send(in_stream)])])).await;
    let turn = rig.say("hi").await;
    let (_, kind, text) = turn.failure();
    assert_eq!(kind, "auth_expired");
    assert!(
        text.starts_with("[1mIncorrect API key provided: [REDACTED]. "),
        "{text}"
    );
    assert_eq!(text.chars().count(), 1024);
    assert_eq!(
        rig.say("hi").await.failure(),
        ("error", "transient", "bad key [REDACTED]")
    );
}

async fn requests_that_are_wrong_fail_the_call() {
    let rig = Rig::start(queue([])).await;
    let (writer, reader) = rig.test.channel().await;
    let request = |change: Value| {
        let mut request = json!({"writer_ref": writer, "model": "m", "messages": []});
        request
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        request
    };
    let reader = json!({ "writer_ref": reader });
    let unknown = json!({"writer_ref": {"channel_id": "x", "access_key": "y", "direction": "write"}});
    for (change, expected) in [
        (json!({"model": ""}), "missing required string field: model"),
        (
            json!({"messages": {}}),
            "messages: invalid type: object, expected an array",
        ),
        (
            json!({"tools": [{"name": "x"}]}),
            "tools[0]: missing field `description`",
        ),
        (reader, "writer_ref: direction must be write"),
        (unknown, "no channel x"),
    ] {
        let error = rig.test.error("provider::openai::stream", request(change)).await;
        assert!(error.contains(expected), "{error}");
    }
    let mut stranger = writer.clone();
    stranger["access_key"] = json!("y");
    let error = rig
        .test
        .error(
            "provider::openai::stream",
            request(json!({ "writer_ref": stranger })),
        )
        .await;
    let id = writer["channel_id"].as_str().unwrap();
    assert!(error.contains(&format!("no channel {id}")), "{error}");
    assert_eq!(rig.server.requests().len(), 0);
}

async fn odd_messages_and_null_tools_do_not_fail_a_turn() {
    let rig = Rig::start(queue([Reply::says("ok", 1)])).await;
    let messages =
        json!([7, null, {"role": "robot"}, {"role": "user"}, {"role": "user", "content": "plain"}]);
    let turn = rig
        .turn(json!({"messages": messages, "tools": null, "thinking_level": "wild", "model_meta": 3}))
        .await;
    assert_eq!(turn.message()["stop_reason"], "end");
    assert_eq!(
        rig.server.requests()[0].rows(),
        [json!({"role": "user", "content": "plain"})]
    );
}

async fn c08_case_41_complete_answers_the_final_message() {
    let rig = Rig::start(queue([Reply::says("Hello", 3), Reply::fails(500, "down")])).await;
    let complete = "provider::openai::complete";
    let error = rig.test.error(complete, json!({"body": {"model": "m"}})).await;
    assert_eq!(error, "missing required string field: model");
    let request = json!({"model": "gpt-4o", "messages": [user("hi")], "tools": "x", "system_prompt": 7});
    let message = rig.test.ok(complete, request.clone()).await;
    assert_eq!(message["role"], "assistant");
    assert_eq!(message["content"][0]["text"], "Hello");
    let message = rig.test.ok(complete, request).await;
    assert_eq!(
        (&message["stop_reason"], &message["error_message"]),
        (&json!("error"), &json!("down"))
    );
}

async fn the_output_limit_and_the_effort_follow_the_catalog_and_the_user() {
    let world = World {
        model: json!({"id": "gpt-5", "provider": "openai", "max_output_tokens": 100_000, "supports_thinking": true}),
        max_tokens_stored: false,
        ..World::default()
    };
    let rig = Rig::with(Script::answer(|_| Reply::says("x", 1)), world).await;
    let messages = json!([user("hi")]);
    let requests = [
        json!({"messages": messages, "model": "gpt-5"}),
        json!({"messages": messages, "model": "gpt-5", "max_output_tokens": 50_000, "thinking_level": "high"}),
        json!({"messages": messages, "model": "gpt-5", "max_output_tokens": 500_000, "thinking_level": "off"}),
        json!({"messages": messages, "model": "gpt-5", "model_meta": {"max_output_tokens": 9}}),
    ];
    for request in requests {
        rig.turn(request).await;
    }
    let sent: Vec<_> = rig
        .server
        .requests()
        .iter()
        .map(|request| {
            (
                request.body["max_completion_tokens"].clone(),
                request.body["reasoning_effort"].clone(),
            )
        })
        .collect();
    assert_eq!(
        sent,
        [
            (json!(32_000), Value::Null),
            (json!(50_000), json!("high")),
            (json!(100_000), json!("minimal")),
            (json!(9), Value::Null)
        ]
    );
    assert_eq!(rig.calls("models::get").len(), 3);
}

async fn the_operators_own_limit_wins_over_the_default() {
    let world = World {
        max_tokens_stored: true,
        model: json!({"max_output_tokens": 4096}),
        ..World::default()
    };
    let rig = Rig::with(queue([Reply::says("x", 1)]), world).await;
    rig.say("hi").await;
    assert_eq!(rig.server.requests()[0].body["max_completion_tokens"], 4096);
}

async fn the_provider_declares_itself() {
    let rig = Rig::start(queue([])).await;
    assert_eq!(
        rig.calls("harness::provider::register"),
        [json!({
            "id": "openai", "display_name": "openai", "credential_env_var": "OPENAI_API_KEY",
            "defaults": {"api_url": "https://api.openai.com/v1/chat/completions", "max_tokens": 8192},
            "supports_model_listing": true
        })]
    );
}

#[tokio::test]
async fn a_slim_channel_gets_typed_events_without_the_message_so_far() {
    let rig = Rig::start(queue([Reply::says("Hello", 2)])).await;
    let channel = rig.test.bus().create_channel(ChannelOptions {
        slim: true,
        ..ChannelOptions::default()
    });
    let mut reader = rig.test.bus().open_reader(&channel.reader).await.unwrap();
    let reading = async {
        let mut events = Vec::new();
        while let Some(frame) = reader.next().await {
            let Frame::Event(event) = frame else {
                panic!("{frame:?}")
            };
            events.push(event);
        }
        events
    };
    let turn = rig.say_inside(&channel, CallContext::default());
    let (answer, mut events) = within(async { tokio::join!(turn, reading) }).await;
    assert_eq!(answer, json!({"ok": true}));
    assert!(
        events
            .iter_mut()
            .all(|event| event.partial_mut().is_none_or(|partial| partial.is_none()))
    );
    let text: String = events
        .iter()
        .filter_map(|event| Some(event.delta()?.1.to_owned()))
        .collect();
    assert_eq!(text, "Hello");
    assert!(matches!(events.last(), Some(AssistantEvent::Done { message }) if message.content.len() == 1));
}

#[tokio::test]
async fn a_long_message_is_not_sent_again_for_every_delta() {
    let text = "0123456789".repeat(2_000);
    let rig = Rig::start(queue([Reply::says(text.clone(), 2_000)])).await;
    let turn = rig.say("hi").await;
    let deltas: Vec<_> = turn
        .events
        .iter()
        .filter(|event| event["type"] == "text_delta")
        .collect();
    let joined: String = deltas
        .iter()
        .map(|event| event["delta"].as_str().unwrap())
        .collect();
    assert_eq!(joined, text);
    assert!(deltas.len() < 1_000, "{} frames", deltas.len());
    assert_eq!(turn.message()["content"][0]["text"], Value::from(text));
}

async fn sessions_beside_each_other_do_not_mix() {
    let script = Script::answer(|request| Reply::says(request.last_user_text().repeat(3), 3));
    let rig = Rig::start(script).await;
    let turns = (0..20).map(|n| {
        let rig = &rig;
        async move {
            let text = format!("<{n}>");
            let turn = rig.say(&text).await;
            (
                turn.message()["content"][0]["text"].clone(),
                Value::from(text.repeat(3)),
            )
        }
    });
    for (seen, expected) in futures::future::join_all(turns).await {
        assert_eq!(seen, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_comes_late_is_waited_for() {
    let test = TestBus::with(TestOptions {
        workers: vec![openai::worker()],
        ..TestOptions::default()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let declared = test.record("harness::provider::register", json!({"ok": true}));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(declared.count(), 1);
}
