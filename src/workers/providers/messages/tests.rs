use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::*;
use crate::model::RawMessage;

const QUIRKS: Quirks = Quirks {
    provider: "anthropic",
    thinking: |_, level| level.map_or(Thinking::Unasked, |_| Thinking::Budget(1024)),
};

fn call(messages: Value) -> Call {
    let Value::Array(messages) = messages else {
        panic!("an array")
    };
    Call {
        model: "m".into(),
        messages: messages.into_iter().filter_map(RawMessage::stored).collect(),
        ..Call::default()
    }
}

fn encode(call: &Call) -> Value {
    let model = ModelFacts {
        id: "m".into(),
        max_tokens: 8192,
        marks_cache: true,
        ..ModelFacts::default()
    };
    serde_json::from_slice(&QUIRKS.encode(call, &model).unwrap().body).unwrap()
}

/// Rows in short: role, then the types of its blocks.
fn short(messages: Value) -> Vec<String> {
    let body = encode(&call(messages));
    let rows = body["messages"].as_array().unwrap().clone();
    let kinds = |row: &Value| {
        let blocks = row["content"].as_array().unwrap().iter();
        let kinds: Vec<_> = blocks
            .map(|block| block["type"].as_str().unwrap().to_owned())
            .collect();
        kinds.join("+")
    };
    rows.iter()
        .map(|row| format!("{}:{}", row["role"].as_str().unwrap(), kinds(row)))
        .collect()
}

#[expect(clippy::needless_pass_by_value, reason = "callers write literals")]
fn said(role: &str, content: Value) -> Value {
    json!({"role": role, "content": content, "stop_reason": "end", "provider": "anthropic", "timestamp": 1})
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn used(id: &str) -> Value {
    json!({"type": "function_call", "id": id, "function_id": "f", "arguments": {}})
}

fn result(id: &str) -> Value {
    json!({"role": "function_result", "function_call_id": id, "function_id": "f", "content": [text("r")], "details": {},
        "is_error": false, "timestamp": 1})
}

#[test]
fn a_conversation_begins_and_ends_with_the_user_and_takes_turns() {
    assert_eq!(short(json!([])), ["user:text"]);
    assert_eq!(
        short(json!([said("assistant", json!([text("a")]))])),
        ["user:text", "assistant:text", "user:text"]
    );
    assert_eq!(
        short(json!([
            said("user", json!([text("a")])),
            said("user", json!([text("b")])),
            said("assistant", json!([text("c")])),
            said("assistant", json!([text("d"), used("x")])),
            result("x"),
            said("user", json!([text("e")]))
        ])),
        [
            "user:text+text",
            "assistant:text+text+tool_use",
            "user:tool_result+text"
        ]
    );
}

#[test]
fn r6_blank_blocks_and_the_messages_that_were_nothing_else_are_left_out() {
    let rows = short(json!([
        said("user", json!([text("q"), text(" \n")])),
        said(
            "assistant",
            json!([text(""), text("\n"), {"type": "thinking", "text": "unsigned"}])
        ),
        said(
            "assistant",
            json!([{"type": "thinking", "text": "", "signature": ""}])
        ),
        said("user", json!([text("r")])),
    ]));
    assert_eq!(rows, ["user:text+text"]);
}

#[test]
fn a_result_without_its_call_is_plain_text() {
    assert_eq!(
        short(json!([result("gone"), said("user", json!([text("q")]))])),
        ["user:text+text"]
    );
}

#[test]
fn c08_weakness_19_speech_of_a_failed_message_is_never_sent() {
    let mut failed = said("assistant", json!([text("<h1>502</h1>"), used("x")]));
    failed["stop_reason"] = json!("error");
    let rows = short(json!([said("user", json!([text("q")])), failed]));
    assert_eq!(rows, ["user:text"]);
}

#[test]
fn c08_5_3_arguments_that_are_no_object_become_an_empty_one() {
    for odd in [Value::Null, json!([1]), json!("x"), json!(7)] {
        let mut block = used("x");
        block["arguments"] = odd;
        let body = encode(&call(json!([said("assistant", json!([block]))])));
        assert_eq!(body["messages"][1]["content"][0]["input"], json!({}));
    }
}

#[test]
fn thinking_within_a_round_of_calls_needs_a_thought_at_its_start() {
    let thought = json!({"type": "thinking", "text": "hm", "signature": "s"});
    let thinks = |messages: Value| {
        let mut call = call(messages);
        call.thinking_level = Some(ThinkingLevel::High);
        encode(&call)["thinking"].is_object()
    };
    let question = said("user", json!([text("q")]));
    assert!(thinks(json!([question])));
    assert!(thinks(json!([
        question,
        said("assistant", json!([thought, used("x")])),
        result("x")
    ])));
    assert!(!thinks(json!([
        question,
        said("assistant", json!([used("x")])),
        result("x")
    ])));
    // A new question begins a new round.
    let over = json!([
        question,
        said("assistant", json!([used("x")])),
        result("x"),
        said("user", json!([text("r")]))
    ]);
    assert!(thinks(over));
    // Later steps of a round need none.
    let two = json!([
        question,
        said("assistant", json!([thought, used("x")])),
        result("x"),
        said("assistant", json!([used("y")])),
        result("y")
    ]);
    assert!(thinks(two));
}

#[test]
fn k12_a_longer_conversation_repeats_the_shorter_one() {
    let rounds: Vec<_> = (0..4)
        .flat_map(|n| {
            let id = if n % 2 == 0 { "call_0" } else { "functions.f:0" };
            [
                said("user", json!([text(&format!("q{n}"))])),
                said("assistant", json!([text("look"), used(id)])),
                result(id),
            ]
        })
        .collect();
    let rows = |length: usize| {
        let mut call = call(Value::Array(rounds.iter().take(length).cloned().collect()));
        call.system_prompt = "s".into();
        let body = encode(&call)
            .to_string()
            .replace(r#","cache_control":{"type":"ephemeral"}"#, "");
        body.trim_end_matches(['}', ']']).to_owned()
    };
    for length in [3, 6, 9] {
        assert!(rows(length + 3).starts_with(&rows(length)), "{length}");
    }
}

#[test]
fn members_are_in_the_order_that_a_prefix_cache_needs() {
    let call = call(json!([said("user", json!([text("q")]))]));
    let model = ModelFacts {
        id: "m".into(),
        max_tokens: 10,
        ..ModelFacts::default()
    };
    let body = QUIRKS.encode(&call, &model).unwrap().body;
    let expected = r#"{"model":"m","max_tokens":10,"stream":true,"tools":[],"system":"","messages":[{"role":"user","content":[{"type":"text","text":"q"}]}]}"#;
    assert_eq!(String::from_utf8(body.to_vec()).unwrap(), expected);
}
