//! What the scripted model answers: the same pieces for the program and for the bare client.

use harness::scripted::Step;
use serde_json::{Value, json};

/// Content deltas of an answer.
const DELTAS: usize = 24;

/// The pieces of the usual answer.
pub(crate) fn usual_pieces() -> Vec<Step> {
    pieces((0..DELTAS).map(|n| format!(" piece {n:05} of it")))
}

/// The pieces of a streamed answer: role, deltas, end, usage, goodbye.
pub(crate) fn pieces(deltas: impl Iterator<Item = String>) -> Vec<Step> {
    let choice = |delta: Value, finish: Option<&str>| {
        chunk(
            &json!([{"index": 0, "delta": delta, "finish_reason": finish}]),
            &Value::Null,
        )
    };
    let mut pieces = vec![choice(json!({"role": "assistant", "content": ""}), None)];
    pieces.extend(deltas.map(|delta| choice(json!({ "content": delta }), None)));
    pieces.push(choice(json!({}), Some("stop")));
    pieces.push(chunk(
        &json!([]),
        &json!({"prompt_tokens": 500, "completion_tokens": 100, "total_tokens": 600}),
    ));
    pieces.push(Step::send("data: [DONE]\n\n"));
    pieces
}

fn chunk(choices: &Value, usage: &Value) -> Step {
    let chunk = json!({"id": "bench", "object": "chat.completion.chunk", "created": 0, "model": "gpt-5",
        "choices": choices, "usage": usage});
    Step::send(format!("data: {chunk}\n\n"))
}
