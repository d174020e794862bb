//! Turns as streams of the Messages protocol, and the rules that its server enforces.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::reply::{Part, Step, pieces};
use super::request::{Request, role};

/// The proof under reasoning; it must come back with it.
const SIGNATURE: &str = "c2lnbmVk";

/// A turn as a stream; `usage`: prompt, completion, cached.
pub(super) fn steps(parts: &[Part], [prompt, completion, cached]: [u64; 3], model: &str) -> Vec<Step> {
    let usage = json!({"input_tokens": prompt.saturating_sub(cached), "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached, "output_tokens": 1});
    let message = json!({"id": "msg_scripted", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage});
    let mut events = vec![
        json!({"type": "message_start", "message": message}),
        json!({"type": "ping"}),
    ];
    let mut index = 0;
    let mut block = |start: Value, deltas: Vec<Value>| {
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        let deltas = deltas.into_iter();
        events.extend(
            deltas.map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta})),
        );
        events.push(json!({"type": "content_block_stop", "index": index}));
        index += 1;
    };
    let mut stop = "end_turn";
    for part in parts {
        match part {
            Part::Thinks(text) => block(
                json!({"type": "thinking", "thinking": "", "signature": ""}),
                vec![
                    json!({"type": "thinking_delta", "thinking": text}),
                    json!({"type": "signature_delta", "signature": SIGNATURE}),
                ],
            ),
            Part::Says { text, deltas } => {
                let deltas = pieces(text, *deltas).into_iter();
                let deltas = deltas.map(|piece| json!({"type": "text_delta", "text": piece}));
                block(json!({"type": "text", "text": ""}), deltas.collect());
            }
            Part::Calls(calls) => {
                stop = "tool_use";
                for [id, name, arguments] in calls {
                    let deltas = pieces(arguments, 2).into_iter();
                    let deltas =
                        deltas.map(|piece| json!({"type": "input_json_delta", "partial_json": piece}));
                    let start = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                    block(start, deltas.collect());
                }
            }
        }
    }
    events.push(
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null},
        "usage": {"output_tokens": completion}}),
    );
    events.push(json!({"type": "message_stop"}));
    let frame = |event: &Value| {
        let name = event.get("type").and_then(Value::as_str).unwrap_or_default();
        Step::send(format!("event: {name}\ndata: {event}\n\n"))
    };
    events.iter().map(frame).collect()
}

/// What is wrong with a request; empty when nothing is.
pub(super) fn violations(request: &Request) -> Vec<String> {
    let body = &request.body;
    let mut found = Vec::new();
    if request.header("anthropic-version").is_empty() {
        found.push("anthropic-version: header is required".to_owned());
    }
    if request.model().is_empty() {
        found.push("model: field required".to_owned());
    }
    let max_tokens = body.get("max_tokens").and_then(Value::as_u64).unwrap_or_default();
    if max_tokens == 0 {
        found.push("max_tokens: must be above 0".to_owned());
    }
    let known = [
        "model",
        "max_tokens",
        "stream",
        "thinking",
        "output_config",
        "tools",
        "system",
        "messages",
    ];
    let members = body.as_object().into_iter().flatten();
    let extra = members.filter(|(key, _)| !known.contains(&key.as_str()));
    found.extend(extra.map(|(key, _)| format!("{key}: extra inputs are not permitted")));
    found.extend(thinking_violations(body, max_tokens));
    for tool in body.get("tools").and_then(Value::as_array).into_iter().flatten() {
        let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
        if !is_name(name, 128) || !tool.get("input_schema").is_some_and(Value::is_object) {
            found.push(format!("tools: {name:?} is no valid tool"));
        }
    }
    if count(body, "cache_control") > 4 {
        found.push("a maximum of 4 blocks with cache_control may be provided".to_owned());
    }
    found.extend(rows_violations(request.rows()));
    found
}

fn thinking_violations(body: &Value, max_tokens: u64) -> Option<String> {
    let thinking = body.get("thinking")?;
    let budget = thinking.get("budget_tokens").and_then(Value::as_u64);
    match thinking.get("type").and_then(Value::as_str) {
        Some("enabled") if budget.is_some_and(|budget| (1024..max_tokens).contains(&budget)) => None,
        Some("enabled") => Some("thinking.budget_tokens: must be from 1024 to below max_tokens".to_owned()),
        Some("adaptive") if budget.is_none() => None,
        _ => Some("thinking: unknown type".to_owned()),
    }
}

fn rows_violations(rows: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    let mut ids: HashSet<&str> = HashSet::new();
    // Calls of the row just before.
    let mut waiting: HashSet<&str> = HashSet::new();
    if rows.is_empty() || rows.len().is_multiple_of(2) {
        found.push("messages: must begin and end with a user row".to_owned());
    }
    for (at, row) in rows.iter().enumerate() {
        let mut complain = |what: String| found.push(format!("messages[{at}]: {what}"));
        let expected = if at % 2 == 0 { "user" } else { "assistant" };
        if role(row) != expected {
            complain(format!("role {expected} expected"));
        }
        let blocks = row
            .get("content")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        if blocks.is_empty() {
            complain("an empty row".into());
        }
        let mut results_are_over = false;
        for block in blocks {
            let text = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default();
            let is_result = text("type") == "tool_result";
            match text("type") {
                "text" if text("text").trim().is_empty() => complain("text must not be blank".into()),
                "thinking" if text("signature").is_empty() => complain("thinking without a signature".into()),
                "redacted_thinking" if text("data").is_empty() => {
                    complain("hidden thinking without data".into());
                }
                "thinking" | "redacted_thinking" if block.get("cache_control").is_some() => {
                    complain("thinking cannot be a cache mark".into());
                }
                "tool_use" if !is_name(text("id"), usize::MAX) || !is_name(text("name"), 128) => {
                    complain(format!("{:?} {:?} is no valid call", text("id"), text("name")));
                }
                "tool_use" if !block.get("input").is_some_and(Value::is_object) => {
                    complain("input must be an object".into());
                }
                "tool_use" if !ids.insert(text("id")) => complain(format!("call id {} twice", text("id"))),
                "tool_result" if results_are_over || !waiting.remove(text("tool_use_id")) => {
                    complain(format!("unexpected tool_result for {}", text("tool_use_id")));
                }
                "text" | "thinking" | "redacted_thinking" | "tool_use" | "tool_result" | "image" => {}
                other => complain(format!("unknown block {other:?}")),
            }
            results_are_over |= !is_result;
        }
        if !waiting.is_empty() {
            let mut ids: Vec<_> = waiting.drain().collect();
            ids.sort_unstable();
            complain(format!("calls without a result: {}", ids.join(", ")));
        }
        let calls = blocks
            .iter()
            .filter(|block| block.get("type").is_some_and(|kind| kind == "tool_use"));
        waiting.extend(calls.filter_map(|call| call.get("id")?.as_str()));
    }
    found
}

fn is_name(name: &str, max: usize) -> bool {
    (1..=max).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// How many members of this name there are, at any depth.
fn count(value: &Value, name: &str) -> usize {
    match value {
        Value::Object(members) => {
            let own = usize::from(members.contains_key(name));
            own + members.values().map(|value| count(value, name)).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(|item| count(item, name)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}
