//! `provider::anthropic::*` against a scripted server over real HTTP (contract 08).

mod discovery;
mod requests;
mod turns;

use harness::scripted::Script;
use serde_json::{Value, json};

use super::provider_rig::{KEY, Rig, World, config_of, event, half, queue, user};
use super::support::three_ways;

fn world() -> World {
    World {
        provider: "anthropic",
        ..World::default()
    }
}

async fn start(script: Script) -> Rig {
    Rig::with(script, world()).await
}

fn assistant(content: Value) -> Value {
    json!({"role": "assistant", "content": content, "stop_reason": "end", "model": "m", "provider": "anthropic",
        "timestamp": 2})
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn call(id: &str) -> Value {
    json!({"type": "function_call", "id": id, "function_id": "agent_trigger", "arguments": {"x": 1}})
}

fn result(id: &str, said: &str) -> Value {
    json!({"role": "function_result", "function_call_id": id, "function_id": "f", "content": [text(said)], "details": {},
        "is_error": false, "timestamp": 3})
}
