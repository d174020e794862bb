//! The rules that strict Chat Completions servers enforce.

use std::collections::HashSet;

use serde_json::Value;

use super::request::role;

/// What is wrong with a request; empty when nothing is.
pub(super) fn violations(body: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if body
        .get("model")
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        found.push("model is missing".to_owned());
    }
    match body.get("messages").and_then(Value::as_array) {
        Some(rows) if !rows.is_empty() => found.extend(rows_violations(rows)),
        _ => found.push("messages is empty".to_owned()),
    }
    found.extend(tool_violations(body));
    found
}

fn rows_violations(rows: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    // Calls of the assistant row just before that have no answer yet.
    let mut waiting: HashSet<&str> = HashSet::new();
    for (at, row) in rows.iter().enumerate() {
        let mut complain = |what: String| found.push(format!("messages[{at}]: {what}"));
        let role = role(row);
        if role != "tool" && !waiting.is_empty() {
            let mut ids: Vec<_> = waiting.drain().collect();
            ids.sort_unstable();
            complain(format!("calls without an answer before it: {}", ids.join(", ")));
        }
        match role {
            "system" if at != 0 => complain("a system row that is not the first".into()),
            "system" | "user" if is_empty(row) => complain(format!("an empty {role} row")),
            "system" | "user" => {}
            "assistant" => {
                let calls = row.get("tool_calls").and_then(Value::as_array);
                if is_empty(row) && calls.is_none_or(Vec::is_empty) {
                    complain("an assistant row with neither text nor calls".into());
                }
                for call in calls.into_iter().flatten() {
                    if let Some(problem) = call_problem(call) {
                        complain(problem);
                    }
                    let id = call.get("id").and_then(Value::as_str).unwrap_or_default();
                    if !waiting.insert(id) {
                        complain(format!("call id {id} twice in one row"));
                    }
                }
            }
            "tool" => {
                let id = row
                    .get("tool_call_id")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                if !waiting.remove(id) {
                    complain(format!("a tool row for {id}, which the row before did not call"));
                }
                if is_empty(row) {
                    complain("an empty tool row".into());
                }
            }
            other => complain(format!("unknown role {other:?}")),
        }
    }
    if !waiting.is_empty() {
        found.push("messages: the last calls have no answer".to_owned());
    }
    found
}

fn is_empty(row: &Value) -> bool {
    match row.get("content") {
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(parts)) => {
            parts.is_empty()
                || parts
                    .iter()
                    .any(|part| part.get("text") == Some(&Value::from("")))
        }
        _ => true,
    }
}

fn call_problem(call: &Value) -> Option<String> {
    let text = |pointer: &str| call.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if text("/id").is_empty() {
        return Some("a call without an id".into());
    }
    if !is_name(text("/function/name")) {
        return Some(format!(
            "a call of {:?}, which is no valid name",
            text("/function/name")
        ));
    }
    let arguments: Option<Value> = serde_json::from_str(text("/function/arguments")).ok();
    arguments
        .is_none()
        .then(|| format!("call {}: arguments are no JSON text", text("/id")))
}

fn tool_violations(body: &Value) -> Vec<String> {
    let Some(tools) = body.get("tools") else {
        return Vec::new();
    };
    match tools.as_array().map(Vec::as_slice) {
        None | Some([]) => vec!["tools is empty".to_owned()],
        Some(tools) => {
            let names = tools
                .iter()
                .map(|tool| tool.pointer("/function/name").and_then(Value::as_str));
            let bad = names.filter(|name| !name.is_some_and(is_name));
            bad.map(|name| format!("tool {name:?} has no valid name"))
                .collect()
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn found(messages: &Value) -> Vec<String> {
        violations(&json!({"model": "m", "messages": messages}))
    }

    fn call(id: &str) -> Value {
        json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}})
    }

    #[test]
    fn a_correct_conversation_has_no_violation() {
        let rows = json!([
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {"role": "assistant", "tool_calls": [call("a"), call("b")]},
            {"role": "tool", "tool_call_id": "b", "content": "1"},
            {"role": "tool", "tool_call_id": "a", "content": "2"},
            {"role": "assistant", "content": "done"}
        ]);
        assert_eq!(found(&rows), Vec::<String>::new());
    }

    #[test]
    fn every_rule_is_enforced() {
        let cases = [
            (json!([]), "messages is empty"),
            (
                json!([{"role": "user", "content": ""}]),
                "messages[0]: an empty user row",
            ),
            (json!([{"role": "user"}]), "messages[0]: an empty user row"),
            (
                json!([{"role": "developer", "content": "x"}]),
                "messages[0]: unknown role \"developer\"",
            ),
            (
                json!([{"role": "user", "content": "x"}, {"role": "system", "content": "s"}]),
                "messages[1]: a system row that is not the first",
            ),
            (
                json!([{"role": "assistant", "content": ""}]),
                "messages[0]: an assistant row with neither text nor calls",
            ),
            (
                json!([{"role": "assistant", "tool_calls": [call("a")]}, {"role": "user", "content": "x"}]),
                "messages[1]: calls without an answer before it: a",
            ),
            (
                json!([{"role": "assistant", "tool_calls": [call("a")]}]),
                "messages: the last calls have no answer",
            ),
            (
                json!([{"role": "tool", "tool_call_id": "a", "content": "x"}]),
                "messages[0]: a tool row for a, which the row before did not call",
            ),
        ];
        for (rows, expected) in cases {
            assert_eq!(found(&rows), [expected]);
        }
        let bad_tools = violations(&json!({"messages": [{"role": "user", "content": "x"}], "tools": [
            {"function": {"name": "a::b"}}]}));
        assert_eq!(
            bad_tools,
            ["model is missing", "tool Some(\"a::b\") has no valid name"]
        );
    }
}
