//! What goes upstream, and what is refused before.

use harness::scripted::{Reply, Script};
use pretty_assertions::assert_eq;

use super::*;

three_ways! {
    c08_case_17_the_request_on_the_wire,
    c08_case_18_a_call_comes_back_whole_and_is_answered,
    c08_case_24_reasoning_is_shown_but_never_sent_back,
    requests_that_are_wrong_fail_the_call,
    odd_messages_and_null_tools_do_not_fail_a_turn,
    the_output_limit_and_the_effort_follow_the_catalog_and_the_user,
    the_operators_own_limit_wins_over_the_default,
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
    let deltas: Vec<_> = deltas.map(|event| event["delta"].as_str().unwrap()).collect();
    assert_eq!(deltas, ["", "{\"x\"", ":1}", "", "{", "}"]);

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
