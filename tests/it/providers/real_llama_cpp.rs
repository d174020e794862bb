//! `provider::llamacpp::*` against llama.cpp itself: `tests/llamacpp`, with a tiny model that is made there. `.ci/run` installs it;
//! without it these tests are left out, unless `HARNESS_TEST_LLAMACPP=required`.

use std::path::Path;
use std::process::Command;

use pretty_assertions::assert_eq;
use tempfile::TempDir;

use super::*;
use crate::clients::process::Process;
use crate::support::installed::is_installed;

const INSTALL: &str = "python3 -m venv tests/llamacpp/.venv && \
                       tests/llamacpp/.venv/bin/pip install -r tests/llamacpp/requirements.txt";

/// The whole program beside a real server; both end with it.
struct Real {
    rig: Rig,
    _process: Process,
    _dir: TempDir,
}

async fn real() -> Option<Real> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llamacpp");
    let python = folder.join(".venv/bin/python");
    if !is_installed(&python, "HARNESS_TEST_LLAMACPP", INSTALL) {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command.arg(folder.join("server.py")).arg(dir.path());
    let mut process = Process::start(command, &dir, "llama.cpp");
    let address = process.first_line().await;
    let rig = Rig::start("llamacpp", Script::queue([]), |options, _| {
        options.config.provider_llamacpp.default_api_url = format!("{address}/v1/chat/completions");
    })
    .await;
    Some(Real {
        rig,
        _process: process,
        _dir: dir,
    })
}

/// A tool whose arguments the server's grammar can write in a few tokens.
fn switch() -> Value {
    json!([{"name": "lamp::switch", "description": "Switches the lamp.", "parameters": {"type": "object",
        "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": false}}])
}

#[tokio::test]
async fn the_real_server_is_discovered_with_its_window() {
    let Some(real) = real().await else { return };
    let listed = real.rig.listed().await;
    let record = &listed[0];
    assert!(record["id"].as_str().unwrap().ends_with("tiny.gguf"), "{listed}");
    assert_eq!(
        (
            &record["context_window"],
            &record["supports_vision"],
            listed.as_array().unwrap().len()
        ),
        (&json!(2048), &json!(false), 1)
    );
}

#[tokio::test]
async fn the_real_server_streams_text() {
    let Some(real) = real().await else { return };
    let turn = real.rig.say("llamacpp-local", "hi").await;
    let message = turn.message();
    assert_eq!(message["content"], says("Hello from llama.cpp"));
    assert_eq!(message["stop_reason"], "end");
    assert_eq!(message["usage"]["output"], 4);
    assert_eq!(
        turn.kinds().iter().filter(|kind| **kind == "text_delta").count(),
        3
    );
}

#[tokio::test]
async fn the_real_server_calls_a_tool_and_takes_its_result() {
    let Some(real) = real().await else { return };
    let request = json!({"model": "llamacpp-local", "messages": [user("light!")], "tools": switch()});
    let turn = real.rig.turn(request).await;
    let message = turn.message();
    assert_eq!(message["stop_reason"], "function_call");
    let content = message["content"].as_array().unwrap();
    assert_eq!(content.len(), 1, "{message}");
    assert_eq!(content[0]["function_id"], "lamp::switch");
    assert!(content[0]["arguments"]["on"].is_boolean(), "{message}");
    let result = json!({"role": "function_result", "function_call_id": content[0]["id"], "function_id": "lamp::switch",
        "details": {}, "is_error": false, "content": [{"type": "text", "text": "done"}], "timestamp": 2});
    let messages = json!([user("light!"), message, result]);
    let turn = real
        .rig
        .turn(json!({"model": "llamacpp-local", "messages": messages}))
        .await;
    assert_eq!(turn.message()["content"], says("Hello from llama.cpp"));
}

#[tokio::test]
async fn v9_the_real_server_tells_an_overflow() {
    let Some(real) = real().await else { return };
    let turn = real.rig.say("llamacpp-local", &"long ".repeat(1_000)).await;
    let (_, kind, text) = turn.failure();
    assert_eq!(kind, "context_overflow", "{text}");
}
