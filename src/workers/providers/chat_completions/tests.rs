use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::*;
use crate::model::AssistantEvent;
use crate::workers::providers::replay::{kinds, replay};

macro_rules! fixtures {
    ($($name:ident),+ $(,)?) => {
        /// Name and bytes of every recorded stream.
        const FIXTURES: &[(&str, &str)] = &[$((
            stringify!($name),
            include_str!(concat!("../../../../tests/fixtures/streams/", stringify!($name), ".sse")),
        )),+];
    };
}

fixtures!(
    all_index_zero,
    cut_by_length,
    empty_and_broken_arguments,
    error_frame,
    finish_without_done,
    late_ids,
    local_object_arguments,
    no_end,
    not_sse,
    odd_chunks,
    old_function_call,
    parallel_calls,
    reasoning,
    text,
    text_crlf,
    tool_call,
);

fn fixture(name: &str) -> &'static str {
    FIXTURES.iter().find(|(known, _)| *known == name).unwrap().1
}

/// Events and final message of a stream that came in these pieces.
fn decode(pieces: Vec<&[u8]>) -> (Vec<AssistantEvent>, Value) {
    let replay = replay(Box::new(decode::Decoder::new(Arc::default())), "openai", pieces);
    (replay.events, serde_json::to_value(replay.message).unwrap())
}

fn decode_fixture(name: &str) -> (Vec<AssistantEvent>, Value) {
    decode(vec![fixture(name).as_bytes()])
}

#[expect(clippy::needless_pass_by_value, reason = "callers write literals")]
pub(super) fn call(id: &str, name: &str, arguments: Value) -> Value {
    json!({"type": "function_call", "id": id, "function_id": name, "arguments": arguments})
}

#[test]
fn recorded_streams_decode_as_recorded() {
    for (name, _) in FIXTURES {
        let (events, message) = decode_fixture(name);
        insta::assert_json_snapshot!(*name, json!({"events": kinds(&events), "message": message}));
    }
}

#[test]
fn w1_every_split_of_every_recorded_stream_gives_the_same_events() {
    for (name, text) in FIXTURES {
        let whole = decode_fixture(name);
        for at in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(at);
            assert_eq!(decode(vec![head, tail]), whole, "{name} cut at {at}");
        }
        let bytes = text.as_bytes().chunks(1).collect();
        assert_eq!(decode(bytes), whole, "{name} byte by byte");
    }
}

#[test]
fn c08_case_18_a_call_in_two_fragments() {
    let fragment = |function: Value| {
        let item = json!({"index": 0, "id": "c1", "function": function});
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [item]}, "finish_reason": null}]})
    };
    let chunks = [
        fragment(json!({"name": "agent_trigger", "arguments": "{\"x"})),
        fragment(json!({"arguments": "\":1}"})),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
    ];
    let frames = chunks.map(|chunk| format!("data: {chunk}\n\n"));
    let (events, message) = decode(frames.iter().map(String::as_bytes).collect());
    let expected = [
        "functioncall_start",
        "functioncall_delta",
        "functioncall_delta",
        "functioncall_end",
    ];
    assert_eq!(kinds(&events), expected);
    assert_eq!(
        message["content"],
        json!([call("c1", "agent_trigger", json!({"x": 1}))])
    );
    assert_eq!(message["stop_reason"], "function_call");
}

#[test]
fn c08_case_19_usage() {
    let (events, message) = decode_fixture("text");
    let usage = json!({"input": 1500, "output": 200, "cache_read": 1200, "cache_write": 0, "total": 1700});
    assert_eq!(message["usage"], usage);
    let told = events
        .iter()
        .filter(|event| matches!(event, AssistantEvent::Usage { .. }));
    assert_eq!(told.count(), 1);
}

#[test]
fn what_was_written_to_the_cache_is_counted() {
    let usage = json!({"prompt_tokens": 3000, "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 1500}});
    let said = json!({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]});
    let counted = json!({"choices": [], "usage": usage});
    let stream = format!("data: {said}\n\ndata: {counted}\n\ndata: [DONE]\n\n");
    let (_, message) = decode(vec![stream.as_bytes()]);
    assert_eq!(
        message["usage"],
        json!({"input": 3000, "output": 5, "cache_read": 1000, "cache_write": 1500, "total": 3005})
    );
}

#[test]
fn c08_case_21_crlf_without_space_is_the_same_stream() {
    assert_eq!(decode_fixture("text_crlf"), decode_fixture("text"));
    assert_eq!(decode_fixture("text").1["content"][0]["text"], "Hello 😀");
}

#[test]
fn c08_case_30_an_error_frame_ends_the_turn_and_keeps_the_text() {
    let (_, message) = decode_fixture("error_frame");
    assert_eq!(message["error_message"], "The server is overloaded");
    assert_eq!(message["error_kind"], "transient");
    assert_eq!(message["content"], json!([{"type": "text", "text": "so far"}]));
}

#[test]
fn c08_case_20_v7_no_end_is_an_error() {
    let (_, message) = decode_fixture("no_end");
    assert_eq!(message["stop_reason"], "error");
    assert_eq!(message["error_message"], "stream closed mid-response");
    assert_eq!(message["content"], json!([{"type": "text", "text": "half"}]));
    let (_, message) = decode_fixture("not_sse");
    assert_eq!(message["error_message"], "non-SSE body");
    let (_, message) = decode_fixture("finish_without_done");
    assert_eq!(message["stop_reason"], "end");
    let (_, message) = decode(vec![b""]);
    assert_eq!(message["error_message"], "non-SSE body");
}

#[test]
fn v1_odd_chunks_are_skipped_and_usage_is_found_in_the_choice() {
    let (_, message) = decode_fixture("odd_chunks");
    assert_eq!(message["content"], json!([{"type": "text", "text": "ok"}]));
    assert_eq!(message["stop_reason"], "end");
    assert_eq!(message["usage"]["total"], 7);
}

#[test]
fn v2_fragments_find_their_call() {
    let calls = |name: &str| decode_fixture(name).1["content"].clone();
    assert_eq!(
        calls("parallel_calls"),
        json!([call("a", "f", json!({"n": 1})), call("b", "g", json!({"m": 2}))])
    );
    assert_eq!(
        calls("late_ids"),
        json!([call("late", "f", json!({"a": 1})), call("two", "f", json!({}))])
    );
    assert_eq!(
        calls("all_index_zero"),
        json!([call("a", "f", json!({"n": 1})), call("b", "f", json!({"n": 2}))])
    );
    assert_eq!(
        calls("local_object_arguments"),
        json!([
            call(
                "call_000000000000400080000000_2_0",
                "agent_trigger",
                json!({"a": 1})
            ),
            call(
                "call_000000000000400080000000_3_0",
                "agent_trigger",
                json!({"b": 2})
            )
        ])
    );
    assert_eq!(calls("old_function_call")[0]["arguments"], json!({"a": 1}));
    assert_eq!(
        calls("empty_and_broken_arguments"),
        json!([
            call("a", "f", json!({})),
            call("b", "g", json!({})),
            call("c", "h", Value::Null)
        ])
    );
}

#[test]
fn v3_a_call_cut_by_length_is_reported_as_such() {
    let (_, message) = decode_fixture("cut_by_length");
    assert_eq!(message["stop_reason"], "length");
    assert_eq!(message["content"][1], call("c", "f", Value::Null));
}

#[test]
fn c08_case_23_reasoning_comes_first_and_once() {
    let (events, message) = decode_fixture("reasoning");
    assert_eq!(
        kinds(&events),
        [
            "thinking_start",
            "thinking_delta",
            "thinking_delta",
            "thinking_end",
            "text_start",
            "text_delta",
            "text_end"
        ]
    );
    let content = json!([{"type": "thinking", "text": "Let me think."}, {"type": "text", "text": "Done."}]);
    assert_eq!(message["content"], content);
}

#[test]
fn c08_case_33_more_calls_than_any_honest_answer_are_ignored() {
    let mut text = String::new();
    for n in 0..2000 {
        let id = format!("c{n}");
        let chunk = json!({"choices": [{"delta": {"tool_calls": [{"id": id, "function": {"name": "f", "arguments": "{}"}},
            {"index": 100_000, "id": id, "function": {"name": "f", "arguments": "{}"}}]}}]});
        text.push_str("data: ");
        text.push_str(&chunk.to_string());
        text.push_str("\n\n");
    }
    text.push_str("data: [DONE]\n\n");
    let (_, message) = decode(vec![text.as_bytes()]);
    assert_eq!(message["content"].as_array().unwrap().len(), 256);
}
