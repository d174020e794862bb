//! Turns as Chat Completions streams.

use serde_json::{Value, json};

use super::reply::{Part, Step, pieces};

/// A turn as a stream; `usage`: prompt, completion, cached.
pub(super) fn steps(parts: &[Part], [prompt, completion, cached]: [u64; 3], model: &str) -> Vec<Step> {
    let mut deltas = vec![json!({"role": "assistant", "content": ""})];
    let mut finish = "stop";
    for part in parts {
        match part {
            Part::Thinks(text) => deltas.push(json!({"reasoning_content": text})),
            Part::Says { text, deltas: n } => {
                deltas.extend(
                    pieces(text, *n)
                        .into_iter()
                        .map(|piece| json!({"content": piece})),
                );
            }
            Part::Calls(calls) => {
                finish = "tool_calls";
                for (index, [id, name, arguments]) in calls.iter().enumerate() {
                    let open =
                        json!({"id": id, "type": "function", "function": {"name": name, "arguments": ""}});
                    deltas.push(at(index, open));
                    for piece in pieces(arguments, 2) {
                        deltas.push(at(index, json!({"function": {"arguments": piece}})));
                    }
                }
            }
        }
    }
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({"id": "scripted", "object": "chat.completion.chunk", "created": 0, "model": model,
            "choices": choices, "usage": usage});
        Step::send(format!("data: {chunk}\n\n"))
    };
    let choice = |delta: &Value, finish: Option<&str>| {
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        chunk(choices, Value::Null)
    };
    let mut steps: Vec<_> = deltas.iter().map(|delta| choice(delta, None)).collect();
    steps.push(choice(&json!({}), Some(finish)));
    steps.push(chunk(
        json!([]),
        json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached}}),
    ));
    steps.push(Step::send("data: [DONE]\n\n"));
    steps
}

fn at(index: usize, mut call: Value) -> Value {
    if let Value::Object(members) = &mut call {
        members.insert("index".into(), index.into());
    }
    json!({ "tool_calls": [call] })
}
