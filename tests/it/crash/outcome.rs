//! What must hold for every run that has ended, whatever happened to it on the way.

use std::collections::BTreeMap;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::model::Model;
use super::place::{Place, SESSION};
use crate::support::TestBus;
use crate::turn::{of_type, user};

/// What a run left behind.
pub(super) struct Outcome {
    pub(super) transcript: Vec<String>,
    /// Entry ids, same order.
    pub(super) entries: Vec<String>,
    /// Calls that ran, as often as they ran.
    pub(super) marks: Vec<String>,
    pub(super) events: Vec<Value>,
}

/// Checks what must hold for every run that has ended, whatever happened to it; then another run follows on the session.
pub(super) async fn outcome(place: &Place, model: &Model) -> Outcome {
    let t = place.open().await;
    let events = t.ended(SESSION, 1).await;
    check_events(&events);
    let (entries, transcript) = transcript(&t).await;
    let marks = inbox(&t, "marks", "marks").await;
    check_calls(&transcript, &marks, model);
    for name in ["steering", "followup"] {
        assert_eq!(inbox(&t, name, SESSION).await, Vec::<Value>::new(), "{name}");
    }
    let view = t.ok("turn::get_state", json!({ "session_id": SESSION })).await;
    assert_eq!(view["state"], "stopped", "{view}");

    let next =
        json!({ "session_id": SESSION, "provider": "openai", "model": "gpt-5", "messages": [user("next")] });
    assert_eq!(t.ok("run::start", next).await["started"], true);
    t.ended(SESSION, 2).await;
    let (_, after) = self::transcript(&t).await;
    let expected: Vec<String> = transcript
        .iter()
        .cloned()
        .chain(["user next".to_owned(), "assistant Re: next".to_owned()])
        .collect();
    assert_eq!(after, expected);
    assert_eq!(model.server.violations(), Vec::<String>::new());
    t.stop().await;
    Outcome {
        transcript,
        entries,
        marks: marks
            .iter()
            .map(|mark| mark.as_str().unwrap().to_owned())
            .collect(),
        events,
    }
}

pub(super) async fn inbox(t: &TestBus, name: &str, session: &str) -> Vec<Value> {
    let reply = t
        .ok(
            "session-inbox::peek",
            json!({ "name": name, "session_id": session }),
        )
        .await;
    reply["items"].as_array().unwrap().clone()
}

/// One `agent_end`, at the end; each change of the view starts where the one before it led; each call begins and ends once.
pub(crate) fn check_events(events: &[Value]) {
    assert_eq!(of_type(events, "agent_end").len(), 1);
    assert_eq!(events.last().unwrap()["type"], "agent_end");
    let changes = of_type(events, "turn_state_changed");
    for pair in changes.windows(2) {
        // Not the list of parked calls: its last change is stored before it is shown.
        for member in ["state", "turn_count"] {
            assert_eq!(pair[1]["old_value"][member], pair[0]["new_value"][member]);
        }
    }
    let completed = of_type(events, "message_complete");
    // What says that a turn with calls was stopped comes from no model.
    let of_models = completed
        .iter()
        .filter(|event| event["message"]["provider"] != "");
    assert_eq!(
        of_type(events, "turn_end").len(),
        of_models.count(),
        "one turn_end per turn"
    );
    let mut calls: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in events {
        let kind = event["type"].as_str().unwrap();
        if let Some(kind) = kind.strip_prefix("function_execution_") {
            calls
                .entry(event["function_call_id"].as_str().unwrap())
                .or_default()
                .push(kind);
        }
    }
    for (call, events) in calls {
        assert_eq!(events, ["start", "end"], "{call}");
    }
}

/// A call with a result ran once; one that was interrupted at most once. Marks tell how often; others leave none.
fn check_calls(transcript: &[String], marks: &[Value], model: &Model) {
    for line in transcript {
        let Some((call, result)) = line.strip_prefix("result ").and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let runs = marks.iter().filter(|mark| *mark == call).count();
        match result {
            "ok" if model.marks.contains(&call) => assert_eq!(runs, 1, "{line}"),
            "ok" => {}
            "interrupted" => assert!(runs <= 1, "{line}: {runs} runs"),
            _ => assert_eq!(runs, 0, "{line}"),
        }
    }
}

/// Entry ids and messages of the session, oldest first.
pub(super) async fn transcript(t: &TestBus) -> (Vec<String>, Vec<String>) {
    let reply = t
        .ok("session-tree::messages", json!({ "session_id": SESSION }))
        .await;
    let rows = reply["messages"].as_array().unwrap();
    rows.iter()
        .map(|row| {
            (
                row["entry_id"].as_str().unwrap().to_owned(),
                line(&row["message"]),
            )
        })
        .unzip()
}

/// A message as a short line.
pub(crate) fn line(message: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if message["role"] == "function_result" {
        let outcome = match (&message["is_error"], &message["details"]["error"]) {
            (Value::Bool(false), _) => "ok".to_owned(),
            (_, Value::String(error)) => error.clone(),
            _ => text(&message["details"]["status"]),
        };
        return format!("result {} {outcome}", text(&message["function_call_id"]));
    }
    let blocks = message["content"].as_array().into_iter().flatten();
    let blocks: Vec<String> = blocks
        .map(|block| match block["type"].as_str() {
            Some("function_call") => format!("calls {}", text(&block["id"])),
            _ => text(&block["text"]),
        })
        .collect();
    let failed = match message["stop_reason"].as_str() {
        Some(reason @ ("error" | "aborted")) => format!(" ({reason})"),
        _ => String::new(),
    };
    format!("{} {}{failed}", text(&message["role"]), blocks.join(", "))
}

/// Puts a message into an inbox of the session.
pub(super) async fn push(t: &TestBus, name: &str, text: &str) {
    let item = json!({ "name": name, "session_id": SESSION, "item": user(text) });
    t.ok("session-inbox::push", item).await;
}
