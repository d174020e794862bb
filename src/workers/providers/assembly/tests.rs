use super::*;
use crate::model::{ErrorKind, StopReason};
use crate::workers::providers::failure::Failure;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

fn assembly() -> Assembly {
    Assembly::new("openai", "m", 7, "00000000-0000-4000-8000-000000000001")
}

fn kinds(assembly: &mut Assembly) -> Vec<String> {
    let events = assembly.take_events();
    events
        .iter()
        .map(|event| {
            serde_json::to_value(event).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

fn call(assembly: &mut Assembly, key: Key, id: &str, name: &str, arguments: &str) {
    let call = assembly.call(key);
    call.id = id.into();
    call.name = name.into();
    assembly.call_arguments(key, arguments);
}

#[test]
fn blocks_start_and_end_once_in_order_and_land_in_place() {
    let mut a = assembly();
    a.thinking((0, 0), "hm");
    a.text((1, 0), "Hel");
    a.text((1, 0), "lo");
    call(&mut a, (2, 0), "c1", "f", "{}");
    a.thinking((0, 0), "late");
    a.close();
    a.close();
    assert_eq!(
        kinds(&mut a),
        [
            "thinking_start",
            "thinking_delta",
            "thinking_end",
            "text_start",
            "text_delta",
            "text_delta",
            "text_end",
            "functioncall_start",
            "functioncall_delta",
            "functioncall_end",
            "thinking_delta"
        ]
    );
    let message = serde_json::to_value(a.done(StopReason::End)).unwrap();
    assert_eq!(
        message["content"],
        json!([
            {"type": "thinking", "text": "hmlate"},
            {"type": "text", "text": "Hello"},
            {"type": "function_call", "id": "c1", "function_id": "f", "arguments": {}}
        ])
    );
    assert_eq!(message["stop_reason"], "function_call");
}

#[test]
fn v2_missing_and_repeated_ids_become_unique() {
    let mut a = assembly();
    call(&mut a, (2, 0), "", "f", "");
    call(&mut a, (3, 0), "x", "f", "null");
    call(&mut a, (4, 0), "x", "f", "[1");
    call(&mut a, (5, 0), "y", "", "{}");
    let message = a.done(StopReason::FunctionCall);
    let calls: Vec<_> = message
        .calls()
        .map(|(id, _, args)| (id.as_str(), args.clone()))
        .collect();
    assert_eq!(
        calls,
        [
            ("call_000000000000400080000000_2_0", json!({})),
            ("x", json!({})),
            ("call_000000000000400080000000_4_0", Value::Null)
        ]
    );
}

#[test]
fn v3_a_call_cut_by_the_output_limit_has_no_arguments() {
    for (arguments, expected) in [
        ("", Value::Null),
        ("{\"a\":", Value::Null),
        ("{\"a\":1}", json!({"a": 1})),
    ] {
        let mut a = assembly();
        call(&mut a, (2, 0), "c", "f", arguments);
        let message = a.done(StopReason::Length);
        assert_eq!(message.stop_reason, StopReason::Length);
        assert_eq!(message.calls().next().unwrap().2, &expected);
    }
}

#[test]
fn a_failed_message_keeps_its_text_but_no_cut_call() {
    let mut a = assembly();
    assert_eq!(a.snapshot().usage, None);
    a.text((1, 0), "so far");
    call(&mut a, (2, 0), "c1", "f", "{\"a\":1}");
    call(&mut a, (3, 0), "c2", "f", "{\"a\":");
    call(&mut a, (4, 0), "c3", "f", "");
    let failure = Failure::transient("gone");
    let message = a.failed(StopReason::Error, &failure);
    assert_eq!(message.content.len(), 2);
    assert_eq!(
        message.calls().map(|call| call.0.as_str()).collect::<Vec<_>>(),
        ["c1"]
    );
    assert_eq!(message.error_message.as_deref(), Some("gone"));
    assert_eq!(message.error_kind, Some(ErrorKind::Transient));
    assert_eq!(message.usage, Some(a.usage().clone()));
}

#[test]
fn no_calls_means_no_function_call_stop() {
    let a = assembly();
    assert_eq!(a.done(StopReason::FunctionCall).stop_reason, StopReason::End);
    assert_eq!(a.done(StopReason::End).usage.unwrap().input, Some(0));
}
