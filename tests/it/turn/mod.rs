//! Contract 02 through the bus.

mod abort;
mod answered;
mod approvals;
mod batches;
mod branches;
mod calls;
mod compacted;
mod effects;
mod ends;
mod floods;
mod gate;
mod inboxes;
mod late;
mod lifecycle;
mod limits;
mod moments;
mod panics;
mod slow;
mod start;
mod store;
mod streaming;
mod waits;

use serde_json::{Value, json};

use crate::support::stub::{Door, Out, Stub, says};
use crate::support::{TestBus, TestOptions};

/// The program with a stub provider.
pub(crate) struct Rig {
    pub(crate) t: TestBus,
    pub(crate) stub: Stub,
}

/// Allows everything that a test calls.
const ALLOW_ALL: &str = "rules: ['*']";

impl Rig {
    pub(crate) async fn new(
        options: TestOptions,
        answer: impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static,
    ) -> Self {
        let t = TestBus::with(options).await;
        let stub = Stub::register(&t, answer);
        Self { t, stub }
    }

    /// With rules that allow everything.
    pub(crate) async fn allowing(answer: impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static) -> Self {
        Self::new(
            TestOptions {
                rules: Some(ALLOW_ALL),
                ..TestOptions::default()
            },
            answer,
        )
        .await
    }

    /// With rules that allow everything, and a model whose first answer waits for the door.
    pub(crate) async fn held_up() -> (Self, Door) {
        let door = Door::closed();
        let held = door.clone();
        let rig = Self::allowing(move |number, _| match number {
            0 => vec![Out::Wait(held.clone())],
            _ => says(&["ok"]),
        })
        .await;
        (rig, door)
    }

    /// With rules that leave everything to a person.
    pub(crate) async fn asking(answer: impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static) -> Self {
        Self::new(
            TestOptions {
                rules: Some("rules: [free]"),
                ..TestOptions::default()
            },
            answer,
        )
        .await
    }

    pub(crate) async fn start(&self, session: &str) -> Value {
        self.t.ok("run::start", run(session)).await
    }

    /// Starts a run and waits for its end; answers its events.
    pub(crate) async fn run(&self, session: &str) -> Vec<Value> {
        assert_eq!(
            self.start(session).await,
            json!({ "session_id": session, "started": true })
        );
        self.t.ended(session, 1).await
    }

    pub(crate) async fn decide(&self, session: &str, call: &str, decision: &str, reason: Option<&str>) {
        let request = json!({
            "session_id": session, "function_call_id": call, "decision": decision, "reason": reason,
        });
        assert_eq!(
            self.t.ok("approval::resolve", request).await,
            json!({ "ok": true })
        );
    }

    pub(crate) async fn transcript(&self, session: &str) -> Vec<Value> {
        let reply = self
            .t
            .ok("session-tree::messages", json!({ "session_id": session }))
            .await;
        reply["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["message"].clone())
            .collect()
    }

    pub(crate) async fn record(&self, session: &str) -> Value {
        self.t.state("turn_state", session).await
    }
}

/// A request of `run::start` to the stub.
pub(crate) fn run(session: &str) -> Value {
    json!({ "session_id": session, "provider": "stub", "model": "m", "messages": [user("hi")] })
}

pub(crate) fn user(text: &str) -> Value {
    json!({ "role": "user", "content": [{ "type": "text", "text": text }], "timestamp": 1 })
}

/// Events as short lines.
pub(crate) fn lines(events: &[Value]) -> Vec<String> {
    events.iter().map(line).collect()
}

fn line(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match event["type"].as_str().unwrap() {
        "turn_state_changed" => {
            let view = &event["new_value"];
            let waiting = view["awaiting_approval"].as_array().into_iter().flatten();
            let waiting: Vec<String> = waiting.map(|call| text(&call["function_call_id"])).collect();
            let waiting = if waiting.is_empty() {
                String::new()
            } else {
                format!(" [{}]", waiting.join(","))
            };
            format!(
                "{} {}{waiting}",
                text(&event["event_type"]).replace("state:", ""),
                text(&view["state"])
            )
        }
        "message_update" => format!(
            "{} {}",
            text(&event["llm_event"]["type"]),
            text(&event["llm_event"]["delta"])
        ),
        "message_complete" => format!("complete {}", text(&event["message"]["stop_reason"])),
        "function_execution_start" => format!("start {}", text(&event["function_call_id"])),
        "function_execution_end" => {
            let failed = if event["is_error"] == true { " error" } else { "" };
            format!("end {}{failed}", text(&event["function_call_id"]))
        }
        "turn_end" => format!("turn_end {}", event["function_results"].as_array().unwrap().len()),
        other => other.to_owned(),
    }
}

/// A message as a short line.
pub(crate) fn said(message: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let first = &message["content"][0];
    let body = match first["type"].as_str() {
        Some("text") => text(&first["text"]),
        Some("function_call") => format!("calls {}", text(&first["arguments"]["function"])),
        _ => String::new(),
    };
    match text(&message["role"]).as_str() {
        "function_result" => format!("{} {body}", text(&message["function_call_id"])),
        role => format!("{role} {body}"),
    }
}

/// The events of one type.
pub(crate) fn of_type<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}
