//! What goes upstream: rows, tools, cache marks, thinking, images.

use harness::scripted::{Reply, Step};
use pretty_assertions::assert_eq;

use super::*;

three_ways! {
    c08_case_02_the_request_on_the_wire,
    c08_case_03_a_call_in_fragments_and_its_name,
    c08_case_04_weakness_09_names_come_back_as_they_were,
    c08_case_05_results_in_a_row_are_one_message,
    c08_case_06_repeated_results_the_latest_wins,
    c08_case_07_a_call_without_a_result_gets_one,
    c08_case_08_a_late_result_comes_before_the_text,
    c08_case_09_a_denial_says_so,
    c08_case_10_a_long_system_prompt_is_marked,
    c08_case_11_the_newest_settled_answer_is_marked,
    thinking_is_asked_for_and_carried_back_unchanged,
    v8_a_session_that_changes_its_provider,
    c08_weakness_08_images_go_along_or_leave_a_notice,
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

fn answered(id: &str, said: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": said, "is_error": false})
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

async fn c08_case_04_weakness_09_names_come_back_as_they_were() {
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
    assert_eq!(rows.as_array().unwrap().len(), 3);
    let made_up = &rows[2]["content"][0];
    assert_eq!(made_up["type"], "tool_result");
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
    let system = async |prompt: &str, variable: &str| {
        let world = World {
            config: config_of("HARNESS_ANTHROPIC_CACHE", variable),
            ..world()
        };
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
    assert_eq!(system(&short, "").await, (json!(short), marker.clone()));
    assert_eq!(system(&long, "").await, (marked, marker));
    assert_eq!(system(&long, "0").await, (json!(long), Value::Null));
    assert_eq!(system("short", "").await.1, Value::Null);
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

async fn c08_weakness_08_images_go_along_or_leave_a_notice() {
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
