//! What every client must have seen, and what is left when it has gone.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::process::Program;

/// Who plays the story.
pub(super) struct Client {
    pub(super) name: &'static str,
    /// As its SDK reports it.
    pub(super) runtime: &'static str,
    /// Of one large value, in bytes.
    pub(super) large: usize,
    /// Where models are listed.
    pub(super) models: String,
    /// What its SDK makes of the message of a failed handler.
    pub(super) failed: &'static str,
}

/// What it says at the end of the story.
pub(super) fn told(client: &Client) -> Value {
    let Client {
        name,
        runtime,
        large,
        models: _,
        failed,
    } = client;
    let weather = format!("demo::weather::{name}");
    let city =
        json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    let description = catalog("harness::trigger");
    let not_found =
        |id: &str| json!({ "code": "function_not_found", "message": format!("Function {id} not found") });
    let events = json!([
        "turn_state_changed",
        "message_update",
        "message_complete",
        "turn_state_changed",
        "function_execution_start",
        "turn_state_changed",
        "function_execution_end",
        "turn_end",
        "turn_state_changed",
        "message_update",
        "message_complete",
        "turn_state_changed",
        "turn_end",
        "turn_state_changed",
        "agent_end",
    ]);
    json!({
        "listed": [{
            "function_id": "harness::trigger", "worker_name": "harness", "description": description,
            "metadata": { "client": true },
        }],
        "takes": ["function_id", "message_id", "payload", "session_id"],
        "own": {
            "function_id": weather, "worker_name": name, "description": "The weather of a city",
            "request_schema": city, "metadata": { "made_by": name }, "registered_triggers": [],
        },
        "workers": [{
            "name": name, "runtime": runtime, "status": "available", "description": "A test client", "function_count": 5,
        }],
        "subscribed": { "ok": true, "total_browsers": 1 },
        "started": {
            "status_code": 200, "headers": { "content-type": "application/json" },
            "body": { "session_id": format!("console-chat-{name}"), "started": true },
        },
        "asks": [{ "function_id": weather, "args": { "city": "Oslo" } }],
        "approved": { "ok": true },
        "called_with": { "city": "Oslo" },
        "pushed": events, "streamed": events,
        "said": ["It is clear in Oslo.", "It is clear in Oslo."],
        "result": { "sky": "clear", "city": "Oslo" },
        "transcript": ["user", "assistant", "function_result", "assistant"],
        "unsubscribed": { "ok": true, "total_browsers": 0 },
        "void": [{ "text": "void" }, { "by": "void" }],
        "receipt": ["messageReceiptId"],
        "job": { "text": "job" },
        "large": { "length": large }, "large_came": true,
        "models": ["gpt-5"],
        "bound": {
            "function_id": format!("demo::note::{name}"), "config": { "every": 5 }, "metadata": { "by": "timer" },
        },
        "offered": { "worker_name": name, "description": "Fires now and then", "instance_count": 1 },
        "unbound": true,
        "errors": {
            "own": { "code": "invocation_failed", "message": failed },
            "unknown": not_found("no::such"),
            "engine": {
                "code": "deserialization_error",
                "message": "Failed to deserialize input for state::set: missing field `key`",
            },
            "program": { "code": "invocation_failed", "message": "invalid harness::trigger request: payload must be an object, the request of run::start" },
            "queue": { "code": "enqueue_error", "message": "Queue 'nowhere' not found" },
            "unregistered": not_found(&format!("demo::fails::{name}")),
        },
        "channel": ["first", [1, 2, 255], "last"],
    })
}

/// The published description of a function of the program.
fn catalog(id: &str) -> Value {
    let catalog: Value = serde_json::from_str(include_str!("../../fixtures/functions.json")).unwrap();
    let row = catalog.as_array().unwrap().iter().find(|row| row["id"] == id);
    let row = row.unwrap();
    row["description"].clone()
}

/// Nothing of it may be left.
pub(super) async fn has_gone(program: &Program, name: &str) {
    let mut witness = program.join().await;
    let gone = async {
        loop {
            let workers = witness
                .ok("engine::workers::list", json!({ "search": name }))
                .await;
            if workers == json!({ "workers": [] }) {
                break;
            }
        }
    };
    crate::support::engine::within(gone).await;
    let functions = witness
        .ok("engine::functions::list", json!({ "prefix": "demo::" }))
        .await;
    assert_eq!(functions, json!({ "functions": [] }));
    let bindings = json!({ "function_id": format!("demo::stream::{name}") });
    assert_eq!(
        witness.ok("engine::registered-triggers::list", bindings).await,
        json!({ "registered_triggers": [] })
    );
}
