use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::tests::call;
use super::*;
use crate::model::{AgentFunction, RawMessage};
use crate::workers::providers::local::QUIRKS as LOCAL;
use crate::workers::providers::openai::QUIRKS as OPENAI;

fn facts(supports_vision: Option<bool>) -> ModelFacts {
    ModelFacts {
        id: "m".into(),
        max_tokens: 8192,
        supports_vision,
        ..ModelFacts::default()
    }
}

fn body(quirks: Quirks, call: &Call, model: &ModelFacts) -> Value {
    serde_json::from_slice(&quirks.encode(call, model).unwrap().body).unwrap()
}

/// A conversation with everything that needs care.
fn conversation() -> Call {
    let messages = json!([
        {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image", "mime": "image/png", "data": "QUJD"},
            {"type": "text", "text": ""}], "timestamp": 1},
        {"role": "assistant", "content": [{"type": "thinking", "text": "hm"}, {"type": "text", "text": "I look."},
            call("c1", "agent_trigger", json!({"function": "shell::fs::ls"})), call("c2", "shell::fs::ls", Value::Null)],
            "stop_reason": "function_call", "model": "m", "provider": "openai", "timestamp": 2},
        {"role": "user", "content": "meanwhile", "timestamp": 3},
        {"role": "function_result", "function_call_id": "c1", "function_id": "shell::fs::ls",
            "content": [{"type": "text", "text": "no"}], "details": {"status": "denied"}, "is_error": true, "timestamp": 4},
        {"role": "function_result", "function_call_id": "c9", "function_id": "shell::exec",
            "content": [{"type": "text", "text": "old"}], "details": {}, "is_error": false, "timestamp": 4},
        {"role": "custom", "custom_type": "note", "content": [], "timestamp": 5},
        {"role": "assistant", "content": [{"type": "text", "text": "<h1>502</h1>"}], "stop_reason": "error", "timestamp": 6},
        {"role": "assistant", "content": [call("c3", "agent_trigger", json!({}))], "stop_reason": "function_call", "timestamp": 7},
        {"role": "function_result", "function_call_id": "c3", "function_id": "f", "content": [], "details": {},
            "is_error": true, "timestamp": 8},
        {"role": "user", "content": [{"type": "text", "text": "go on"}], "timestamp": 9}
    ]);
    let Value::Array(messages) = messages else {
        panic!("an array")
    };
    Call {
        model: "m".into(),
        system_prompt: "Be brief.".into(),
        messages: messages.into_iter().filter_map(RawMessage::stored).collect(),
        tools: vec![tool("agent_trigger"), tool("shell::fs::ls")],
        ..Call::default()
    }
}

fn tool(name: &str) -> AgentFunction {
    let tool =
        json!({"name": name, "description": "d", "parameters": {"type": "object"}, "label": "not sent"});
    serde_json::from_value(tool).unwrap()
}

#[test]
fn c08_case_24_an_openai_body() {
    insta::assert_json_snapshot!("body_openai", body(OPENAI, &conversation(), &facts(Some(true))));
}

#[test]
fn a_body_for_a_local_server_that_sees_no_images() {
    insta::assert_json_snapshot!("body_local", body(LOCAL, &conversation(), &facts(None)));
}

#[test]
fn c08_case_25_a_user_row_is_added_at_the_end_where_templates_need_one() {
    let mut call = conversation();
    call.messages.drain(..7);
    call.messages.pop();
    let roles = |quirks| {
        let body = body(quirks, &call, &facts(None));
        let rows = body["messages"].as_array().unwrap().clone();
        rows.iter()
            .map(|row| row["role"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(roles(LOCAL), ["system", "assistant", "tool", "user"]);
    assert_eq!(roles(OPENAI), ["system", "assistant", "tool"]);
}

#[test]
fn c08_case_17_a_minimal_body() {
    let call = Call {
        model: "m".into(),
        messages: vec![RawMessage::new(json!({"role": "user", "content": "hi"})).unwrap()],
        ..Call::default()
    };
    let expected = r#"{"model":"m","max_completion_tokens":8192,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;
    let encoded = OPENAI.encode(&call, &facts(None)).unwrap();
    assert_eq!(String::from_utf8(encoded.body.to_vec()).unwrap(), expected);
}

#[test]
fn v4_a_request_has_nothing_that_some_server_refuses() {
    for quirks in [OPENAI, LOCAL] {
        let text = body(quirks, &conversation(), &facts(None)).to_string();
        for refused in [
            "strict",
            "developer",
            "temperature",
            "tool_choice",
            "parallel_tool_calls",
            "null",
            r#""content":[""#,
        ] {
            assert!(!text.contains(refused), "{refused} in {text}");
        }
    }
}

#[test]
fn v8_openai_gets_ids_it_takes_and_kimi_gets_its_own_back() {
    let long = "functions.a_function_with_quite_a_name:10";
    let longer = "functions.a_function_with_quite_a_name:11";
    let round = |ids: [&str; 2]| {
        let results = ids.map(|id| {
            json!({"role": "function_result", "function_call_id": id, "function_id": "f", "details": {}, "is_error": false,
                "content": [{"type": "text", "text": id}], "timestamp": 2})
        });
        let calls = ids.map(|id| call(id, "f", json!({})));
        let [first, second] = results;
        [
            json!({"role": "assistant", "content": calls, "stop_reason": "function_call", "timestamp": 1}),
            second,
            first,
        ]
    };
    let messages = [round([long, longer]), round([long, "call_1"])].concat();
    let turn = Call {
        messages: messages.into_iter().filter_map(RawMessage::stored).collect(),
        ..Call::default()
    };
    let ids = |quirks| {
        let body = body(quirks, &turn, &facts(None));
        let rows = body["messages"].as_array().unwrap().clone();
        let id_of = |id: &Value| id.as_str().unwrap().to_owned();
        let called = |at: usize| {
            rows[at]["tool_calls"]
                .as_array()
                .unwrap()
                .iter()
                .map(|call| id_of(&call["id"]))
        };
        let answered = |at: usize| {
            let row = &rows[at];
            (id_of(&row["tool_call_id"]), id_of(&row["content"]))
        };
        let calls: Vec<_> = called(0).chain(called(3)).collect();
        let answers = [1, 2, 4, 5].map(answered);
        for (id, (answer, _)) in calls.iter().zip(&answers) {
            assert_eq!(id, answer);
        }
        assert_eq!(answers.map(|(_, said)| said), [long, longer, long, "call_1"]);
        calls
    };
    let cut = "functions.a_function_with_quite_a_name:1";
    let numbered = |n| format!("{}_{n}", cut.split_at(38).0);
    assert_eq!(
        ids(OPENAI),
        [cut.to_owned(), numbered(2), numbered(3), "call_1".to_owned()]
    );
    assert_eq!(ids(LOCAL), [long, longer, long, "call_1"]);
}
