use super::*;
use crate::model::call::flat_text;
use crate::model::{AgentMessage, ContentBlock};
use pretty_assertions::assert_eq;
use serde_json::json;

/// Entries in short: `u:text`, `a:text+calls`, `r:id=text`.
fn short(messages: Value) -> Vec<String> {
    let Value::Array(items) = messages else {
        panic!("an array")
    };
    let messages: Vec<_> = items.into_iter().filter_map(RawMessage::stored).collect();
    let show = |parts: &[Part]| {
        let shown = parts.iter().map(|part| match part {
            Part::Text(text) => text.to_string(),
            Part::Image { mime, .. } => format!("<{mime}>"),
            Part::Thinking { text, .. } => format!("({text})"),
            Part::Call { id, .. } => format!("!{id}"),
        });
        shown.collect::<Vec<_>>().join("+")
    };
    entries(&messages)
        .iter()
        .map(|entry| match entry {
            Entry::User(parts) => format!("u:{}", show(parts)),
            Entry::Assistant(parts) => format!("a:{}", show(parts)),
            Entry::Answer(answer) => format!("r:{}={}", answer.call_id, answer.text),
        })
        .collect()
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": [{"type": "text", "text": text}], "timestamp": 1})
}

fn calls(ids: &[&str]) -> Value {
    let blocks: Vec<_> = ids
        .iter()
        .map(|id| json!({"type": "function_call", "id": id, "function_id": "agent_trigger", "arguments": {}}))
        .collect();
    json!({"role": "assistant", "content": blocks, "stop_reason": "function_call", "timestamp": 1})
}

fn result(id: &str, text: &str) -> Value {
    json!({"role": "function_result", "function_call_id": id, "function_id": "f", "timestamp": 1,
        "content": [{"type": "text", "text": text}], "details": {}, "is_error": false})
}

#[test]
fn c08_case_06_repeated_results_the_latest_wins() {
    let seen = short(json!([
        user("q"),
        calls(&["a", "b", "c"]),
        result("a", "a1"),
        result("b", "b1"),
        result("a", "a2"),
        result("c", "c1"),
        result("b", "b2")
    ]));
    assert_eq!(seen, ["u:q", "a:!a+!b+!c", "r:a=a2", "r:b=b2", "r:c=c1"]);
}

#[test]
fn c08_case_07_and_08_unanswered_calls_get_an_answer() {
    let seen = short(json!([user("q1"), calls(&["x"]), user("q2")]));
    assert_eq!(seen[..2], ["u:q1", "a:!x"]);
    assert!(seen[2].starts_with("r:x=") && seen[2].contains("interrupted before completing"));
    assert_eq!(seen[3], "u:q2");
}

#[test]
fn c08_weakness_10_late_results_move_up_and_orphans_become_user_text() {
    let seen = short(json!([
        result("gone", "old"),
        calls(&["x"]),
        user("meanwhile"),
        result("x", "done")
    ]));
    let expected = [
        "u:[Result of an earlier call of f]\nold",
        "a:!x",
        "r:x=done",
        "u:meanwhile",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn ids_that_a_server_uses_again_stay_with_their_own_turn() {
    let seen = short(json!([
        calls(&["call_0"]),
        result("call_0", "one"),
        calls(&["call_0"]),
        result("call_0", "two")
    ]));
    assert_eq!(seen, ["a:!call_0", "r:call_0=one", "a:!call_0", "r:call_0=two"]);
}

#[test]
fn c08_weakness_11_empty_odd_and_failed_messages_are_left_out() {
    let seen = short(json!([
        {"role": "user", "content": []},
        {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "new"}, 7]},
        {"role": "user", "content": "plain"},
        {"role": "custom", "custom_type": "x", "content": [{"type": "text", "text": "no"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "502 page"}], "stop_reason": "error"},
        {"role": "assistant", "content": [], "stop_reason": "end"},
        {"role": "robot", "content": "x"},
        {"content": "x"},
        {"role": "assistant", "content": [{"type": "function_call", "id": "", "function_id": "f"},
            {"type": "function_call", "id": "a"}, {"type": "text", "text": "said"}]}
    ]));
    assert_eq!(
        seen,
        [
            "u:plain".to_owned(),
            "a:!call_8_0+said".to_owned(),
            format!("r:call_8_0={INTERRUPTED}")
        ]
    );
}

#[test]
fn the_calls_of_a_failed_message_stay_only_when_they_were_run() {
    let mut failed = calls(&["a", "b"]);
    failed["stop_reason"] = json!("error");
    assert_eq!(short(json!([failed, result("b", "ran")])), ["a:!b", "r:b=ran"]);
}

#[test]
fn c08_case_09_denials_have_the_form_of_contract_01() {
    let message = json!({"role": "function_result", "function_call_id": "c", "function_id": "f", "is_error": true,
        "content": [{"type": "text", "text": "no"}, {"type": "text", "text": "way"}],
        "details": {"status": "denied", "denied_by": "user"}, "timestamp": 1});
    let raw = RawMessage::new(message).unwrap();
    let Some(AgentMessage::FunctionResult(typed)) = raw.typed() else {
        panic!("a function result")
    };
    let answer = read_answer(Cow::Borrowed("c"), &raw);
    assert_eq!(answer.text, flat_text(&typed.content, &typed.details));
    assert_eq!(
        answer.text,
        "[PERMISSION_DENIED]\n{\"status\":\"denied\",\"denied_by\":\"user\"}\n\nno\nway"
    );
    assert_eq!(typed.content[0], ContentBlock::text("no"));
}
