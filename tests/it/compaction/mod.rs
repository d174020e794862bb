//! Contract 10 through the bus.

mod background;
mod cases;
mod leases;
mod lessons;
pub(crate) mod preflight;
mod prune;

use std::ops::Deref;

use serde_json::{Value, json};

use crate::support::stub::{Out, Stub, says};
use crate::support::{TestBus, TestOptions};
use crate::turn::of_type;

const NOW: &str = "context-compaction::compact_now";
const SESSION: &str = "context-compaction::compact_session";
const PRUNE: &str = "context-compaction::prune_tool_outputs";
const EVENT: &str = "context-compaction::on_agent_event";

/// The program with a summariser `p` that answers "SUM".
struct Rig {
    t: TestBus,
    stub: Stub,
}

impl Deref for Rig {
    type Target = TestBus;
    fn deref(&self) -> &TestBus {
        &self.t
    }
}

impl Rig {
    async fn start() -> Self {
        Self::answering(|_, _| says(&["SUM"])).await
    }

    async fn answering(answer: impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static) -> Self {
        Self::with(TestOptions::default(), answer).await
    }

    async fn with(
        options: TestOptions,
        answer: impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static,
    ) -> Self {
        let t = TestBus::with(options).await;
        let stub = Stub::of(&t, "p", answer);
        Self { t, stub }
    }

    /// Appends messages to the session `s`; answers their entries.
    async fn fill(&self, messages: Vec<Value>) -> Vec<Value> {
        let mut ids = Vec::new();
        for message in messages {
            let request = json!({ "session_id": "s", "message": message });
            ids.push(self.ok("session-tree::append", request).await["entry_id"].clone());
        }
        ids
    }

    async fn rows(&self) -> Vec<Value> {
        let reply = self
            .ok("session-tree::messages", json!({ "session_id": "s" }))
            .await;
        reply["messages"].as_array().unwrap().clone()
    }

    async fn compactions(&self) -> Vec<Value> {
        let reply = self
            .ok("session-tree::compactions", json!({ "session_id": "s" }))
            .await;
        reply["entries"].as_array().unwrap().clone()
    }

    /// Compaction events of the session.
    async fn announced(&self) -> Vec<Value> {
        let events = self.events("s").await;
        of_type(&events, "compaction_done").into_iter().cloned().collect()
    }

    /// Compacts the session as its user does, with a model of the largest window.
    async fn compact(&self) -> Value {
        self.ok(SESSION, json!({ "session_id": "s", "model": m200() }))
            .await
    }

    /// Compacts before a model call, but for this question.
    async fn compact_now(&self, question: &Value) -> Value {
        let request = json!({ "session_id": "s", "last_user_message_id": question, "model": m200() });
        self.ok(NOW, request).await
    }

    /// What the summariser was given at that time: system prompt and conversation.
    fn asked(&self, number: usize) -> (String, String) {
        let request = &self.stub.requests()[number];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&request["system_prompt"]),
            text(&request["messages"][0]["content"][0]["text"]),
        )
    }

    async fn lease(&self) -> Value {
        self.state("compaction_lease", "s").await
    }

    async fn stop(self) {
        self.t.stop().await;
    }
}

fn m200() -> Value {
    json!({ "id": "m", "providerID": "p", "limit": { "context": 200_000, "input": 200_000, "output": 4096 } })
}

fn said(role: &str, text: &str) -> Value {
    let content = json!([{ "type": "text", "text": text }]);
    match role {
        "user" => json!({ "role": "user", "content": content, "timestamp": 0 }),
        _ => {
            json!({ "role": "assistant", "content": content, "stop_reason": "end", "model": "m", "provider": "p",
            "timestamp": 0 })
        }
    }
}

fn u(length: usize) -> Value {
    said("user", &"x".repeat(length))
}

fn a(length: usize) -> Value {
    said("assistant", &"x".repeat(length))
}

fn r(length: usize) -> Value {
    json!({ "role": "function_result", "function_call_id": "fc", "function_id": "shell::fs::cat",
        "content": [{ "type": "text", "text": "x".repeat(length) }], "details": {}, "is_error": false, "timestamp": 0 })
}

/// Four short messages.
fn talk() -> Vec<Value> {
    vec![
        said("user", "U1"),
        said("assistant", "A1"),
        said("user", "U2"),
        said("assistant", "A2"),
    ]
}
