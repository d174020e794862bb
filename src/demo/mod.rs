//! `harness demo`: the main job, shown and checked, without a key and without a network.
//!
//! The real program runs on its embedded engine in a temporary directory and talks, over real HTTP, to a scripted model
//! server on a free port. Four scenes are printed as they happen; afterwards the events and the transcript of each are
//! compared with what they must be.

mod check;
mod scenes;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};

use crate::app::{App, Parts};
use crate::bus::{Bus, CallContext, CallOptions, FunctionDef, WorkerDef};
use crate::config::{Config, EngineChoice, MapEnv};
use crate::error::Error;
use crate::scripted::{Script, Server};
use check::Seen;
use scenes::{SCENES, Scene};

/// The browser that watches the scenes.
const BROWSER: &str = "demo";
/// Longest silence within a scene.
const SILENCE: Duration = Duration::from_secs(20);
const EVENTS: usize = 1024;

/// Where nobody listens.
const NOBODY: &str = "http://127.0.0.1:9/v1/chat/completions";

/// Runs all scenes.
///
/// # Errors
/// Something could not be started, or a scene did not go as it must; the text shows the difference.
pub async fn run(out: &mut impl Write, workers: Vec<WorkerDef>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = Server::start(Script::answer(scenes::answer)).context("scripted model server")?;
    let app = App::start(parts(dir.path(), &model, workers)?).await?;
    let (sender, mut events) = mpsc::channel(EVENTS);
    register_client(app.bus(), sender)?;
    writeln!(
        out,
        "model server  {}\nengine        embedded, {}\n",
        model.url(),
        dir.path().display()
    )?;

    let mut wrong = Vec::new();
    for scene in SCENES {
        let seen = play(out, app.bus(), scene, &mut events)
            .await
            .with_context(|| scene.title)?;
        wrong.extend(seen.differences(scene));
    }
    wrong.extend(
        model
            .violations()
            .into_iter()
            .map(|what| format!("a request broke the protocol: {what}")),
    );
    if !app.stop().await {
        wrong.push("the program did not drain".to_owned());
    }
    if wrong.is_empty() {
        writeln!(out, "all {} scenes went as they must", SCENES.len())?;
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

fn parts(dir: &Path, model: &Server, workers: Vec<WorkerDef>) -> Result<Parts> {
    let mut config = Config::default();
    config.http.listen = String::new();
    config.engine.listen = "127.0.0.1:0".into();
    config.engine.data_dir = dir.join("data").to_string_lossy().into_owned().into();
    config.permissions_path = dir.join("iii-permissions.yaml");
    config.provider_openai.default_api_url = model.url();
    // Model servers that happen to run on this machine are no part of it.
    NOBODY.clone_into(&mut config.provider_lmstudio.default_api_url);
    NOBODY.clone_into(&mut config.provider_llamacpp.default_api_url);
    std::fs::write(&config.permissions_path, scenes::RULES)?;
    Ok(Parts {
        config,
        engine: EngineChoice::Embedded {
            reason: "demo".into(),
        },
        env: Arc::new(MapEnv::from([("OPENAI_API_KEY", "not-a-secret")])),
        workers,
    })
}

/// What another worker would bring: the functions the agent calls, and the browser that watches.
fn register_client(bus: &Bus, sender: mpsc::Sender<Value>) -> Result<()> {
    for (id, reply) in scenes::FUNCTIONS {
        bus.register(FunctionDef::ad_hoc(
            id,
            move |_, _| async move { Ok(json!(reply)) },
        ))?;
    }
    let watch = move |payload: Value, _: CallContext| {
        let sender = sender.clone();
        async move {
            let event = payload.get("event").cloned().unwrap_or_default();
            sender.send(event).await.map_err(|_| Error::Stopped)?;
            Ok(Value::Null)
        }
    };
    bus.register(FunctionDef::ad_hoc(
        format!("ui::session::event::{BROWSER}"),
        watch,
    ))?;
    Ok(())
}

/// Plays one scene: asks, watches until the run ends, decides what is asked for on the way.
async fn play(
    out: &mut impl Write,
    bus: &Bus,
    scene: &Scene,
    events: &mut mpsc::Receiver<Value>,
) -> Result<Seen> {
    writeln!(out, "── {}\nuser       {}", scene.title, scene.prompt)?;
    let session = scene.session;
    call(
        bus,
        "ui::subscribe",
        json!({ "browser_id": BROWSER, "session_id": session }),
    )
    .await?;
    let kickoff = json!({ "session_id": session, "payload": {
        "session_id": session, "provider": "openai", "model": "gpt-5",
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": scene.prompt }], "timestamp": bus.now_ms() }],
    }});
    let reply = call(bus, "harness::trigger", kickoff).await?;
    if reply["status_code"] != 200 {
        bail!("harness::trigger answered {reply}");
    }

    let mut seen = Seen::default();
    loop {
        let event = timeout(SILENCE, events.recv())
            .await
            .context("no event came")?
            .context("the program ended")?;
        show(out, &event)?;
        seen.event(&event);
        for parked in parked(&event) {
            let function = parked["function_id"].as_str().unwrap_or_default();
            writeln!(
                out,
                "approve?   {function} {}
           yes",
                parked["args"]
            )?;
            let decision = json!({
                "session_id": session, "function_call_id": parked["function_call_id"], "decision": "allow",
            });
            call(bus, "approval::resolve", decision).await?;
        }
        if event["type"] == "agent_end" {
            break;
        }
    }
    seen.transcript(&call(bus, "session-tree::messages", json!({ "session_id": session })).await?);
    call(
        bus,
        "ui::unsubscribe",
        json!({ "browser_id": BROWSER, "session_id": session }),
    )
    .await?;
    writeln!(out)?;
    Ok(seen)
}

/// Calls that began to wait for a person with this event.
fn parked(event: &Value) -> Vec<Value> {
    let waits =
        event["type"] == "turn_state_changed" && event["new_value"]["state"] == "function_awaiting_approval";
    let list = event["new_value"]["awaiting_approval"]
        .as_array()
        .filter(|_| waits);
    list.cloned().unwrap_or_default()
}

fn show(out: &mut impl Write, event: &Value) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match event["type"].as_str().unwrap_or_default() {
        "message_update" if event["llm_event"]["type"] == "text_start" => write!(out, "assistant  ")?,
        "message_update" if event["llm_event"]["type"] == "text_delta" => {
            write!(out, "{}", text(&event["llm_event"]["delta"]))?;
        }
        "message_update" if event["llm_event"]["type"] == "text_end" => writeln!(out)?,
        "function_execution_start" => {
            writeln!(
                out,
                "call       {} {}",
                text(&event["function_id"]),
                event["args"]
            )?;
        }
        "function_execution_end" => {
            let what = if event["is_error"] == true {
                "refused"
            } else {
                "result"
            };
            writeln!(out, "{what:10} {}", text(&event["result"]["content"][0]["text"]))?;
        }
        _ => {}
    }
    Ok(out.flush()?)
}

async fn call(bus: &Bus, id: &str, payload: Value) -> Result<Value> {
    bus.invoke(&CallContext::default(), id, payload, CallOptions::default())
        .await
        .map_err(|error| anyhow::anyhow!("{id}: {error}"))
}
