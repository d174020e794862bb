//! Stable names of what passes the line: made of what is written, not of when.

use harness::bus::{Invocation, Write};
use serde_json::Value;

use super::SESSION;
use super::line::Kind;
use crate::turn::lines;

/// An event that counts as a point. Of streamed pieces those that are always there, once per answer.
pub(super) fn event(event: &Value) -> Option<String> {
    if event["type"] == "message_update" && !is_text(event) {
        return None;
    }
    lines(std::slice::from_ref(event)).pop()
}

/// A call of an engine function, if it is about the session.
pub(super) fn call(invocation: &Invocation) -> (Option<String>, Kind) {
    let id = invocation.function_id.as_str();
    let kind = match id.rsplit("::").next() {
        Some("set" | "update" | "delete") => Kind::Write,
        _ => Kind::Read,
    };
    let payload = &invocation.payload;
    let is_ours = payload.to_string().contains(SESSION);
    let place = payload["scope"]
        .as_str()
        .or_else(|| payload["stream_name"].as_str());
    let verb = if kind == Kind::Write { "write" } else { "read" };
    let name = is_ours.then(|| format!("{verb}: {id} {}", place.map_or("", family)));
    (name, kind)
}

/// Scopes that are made for a session have the name of their kind.
fn family(scope: &str) -> &str {
    scope.split(':').next().unwrap_or(scope)
}

/// A commit, if it is about the session. `None` also for one that holds pieces which come as they like.
pub(super) fn commit(writes: &[Write]) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut events = Vec::new();
    for write in writes {
        match write {
            Write::StateSet { scope, key, value } if is_ours(scope, key) => parts.extend(row(scope, value)),
            Write::StateDelete { scope, key } if is_ours(scope, key) && scope == "approvals" => {
                parts.push(format!(
                    "used decision {}",
                    key.rsplit('/').next().unwrap_or_default()
                ));
            }
            Write::StreamSet {
                stream, group, data, ..
            } if stream == "agent::events" && group == SESSION => {
                if data["type"] != "message_update" {
                    events.extend(event(data));
                }
            }
            Write::StateSet { .. } | Write::StateDelete { .. } | Write::StreamSet { .. } => {}
        }
    }
    if parts.is_empty() && events.is_empty() {
        return streams_text(writes).then(|| "commit: streamed text".to_owned());
    }
    if !events.is_empty() {
        parts.push(format!("events [{}]", events.join(", ")));
    }
    Some(format!("commit: {}", parts.join(" + ")))
}

fn is_ours(scope: &str, key: &str) -> bool {
    scope.contains(SESSION) || key.contains(SESSION)
}

fn row(scope: &str, value: &Value) -> Option<String> {
    match scope {
        "turn_state" => Some(record(value)),
        "turn_lease" => None,
        "run_request" => Some("request".to_owned()),
        _ if !value["message"]["role"].is_null() => {
            let role = value["message"]["role"].as_str().unwrap_or_default();
            let call = value["message"]["function_call_id"].as_str();
            Some(
                format!("entry {role} {}", call.unwrap_or_default())
                    .trim_end()
                    .to_owned(),
            )
        }
        _ => Some(family(scope).to_owned()),
    }
}

fn record(record: &Value) -> String {
    let state = record["state"].as_str().unwrap_or_default();
    let ids = |member: &str| -> Vec<String> {
        let calls = record["work"][member].as_object();
        calls
            .into_iter()
            .flat_map(|calls| calls.keys().cloned())
            .collect()
    };
    let mut name = format!("record {state}");
    for member in ["started", "executed"] {
        let ids = ids(member);
        if !ids.is_empty() {
            name = format!("{name}, {member} {}", ids.join(" "));
        }
    }
    name
}

fn is_text(event: &Value) -> bool {
    event["llm_event"]["type"] == "text_delta"
}

/// Whether streamed text is among the writes.
pub(super) fn streams_text(writes: &[Write]) -> bool {
    writes
        .iter()
        .any(|write| matches!(write, Write::StreamSet { data, .. } if is_text(data)))
}

/// The calls whose results are in the record that is written.
pub(super) fn results(writes: &[Write]) -> Vec<String> {
    let records = writes.iter().filter_map(|write| match write {
        Write::StateSet { scope, value, .. } if scope == "turn_state" => {
            value["work"]["executed"].as_object()
        }
        _ => None,
    });
    records.flat_map(|calls| calls.keys().cloned()).collect()
}
