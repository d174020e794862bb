//! The program on an engine elsewhere, an outside worker whose function its model calls, and a bad link for both.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::panic::Location;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use harness::bus::iii::{Iii, IiiOptions};
use harness::bus::{Bus, CallContext, CallOptions, FunctionDef, Ports, WorkerDef};
use harness::clock::SystemClock;
use harness::config::{Config, MapEnv};
use harness::error::Result;
use harness::ids::RandomIds;
use harness::scripted::{Gate, Reply, Request, Script, Server, Step};
use harness::telemetry::Metrics;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::crash::outcome::line;
use crate::support::proxy::Proxy;
use crate::turn::{of_type, user};

pub(super) const SESSION: &str = "s";
pub(super) const ALLOWING: &str = "rules: ['far::work']";
pub(super) const ASKING: &str = "rules: ['free']";

/// The SDK waits two seconds before it connects again; several rigs share the machine.
const DEADLINE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(5);

/// An engine without workers in a process of its own.
pub(super) struct EngineProcess {
    child: Child,
    pub(super) address: SocketAddr,
}

impl EngineProcess {
    pub(super) async fn start(directory: &Path) -> Self {
        let lives = std::fs::read_dir(directory).unwrap().count();
        let log = directory.join(format!("engine-{lives}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_harness"))
            .arg("engine")
            .env_clear()
            .env("HARNESS__ENGINE__DATA_DIR", directory.join("data"))
            .env("HARNESS__ENGINE__LISTEN", "127.0.0.1:0")
            .env("HARNESS__ENGINE__DURABILITY", "normal")
            .env("HARNESS__HTTP__LISTEN", "127.0.0.1:0")
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let address = until(async || listening(&log)).await;
        Self { child, address }
    }
}

impl Drop for EngineProcess {
    /// SIGKILL.
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The address in the line that says it listens.
fn listening(log: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(log).ok()?;
    let line = text.lines().find(|line| line.contains("listening for workers"))?;
    let port: String = line
        .split("127.0.0.1:")
        .nth(1)?
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
}

/// Calls of the outside function, as often as they came.
#[derive(Clone)]
pub(super) struct Work {
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
    /// Calls are answered while this is set.
    open: watch::Sender<bool>,
}

impl Work {
    pub(super) fn counts(&self) -> Vec<(String, usize)> {
        self.calls.lock().unwrap().clone().into_iter().collect()
    }

    pub(super) fn hold(&self) {
        self.open.send_replace(false);
    }

    pub(super) fn release(&self) {
        self.open.send_replace(true);
    }

    fn function(&self) -> FunctionDef {
        let work = self.clone();
        FunctionDef::ad_hoc("far::work", move |payload: Value, _| {
            let mut open = work.open.subscribe();
            let call = payload["call"].as_str().unwrap_or_default().to_owned();
            *work.calls.lock().unwrap().entry(call).or_default() += 1;
            async move {
                open.wait_for(|open| *open).await.ok();
                Ok(json!({ "content": [{ "type": "text", "text": "worked" }], "details": {} }))
            }
        })
    }
}

/// The program, its model, the outside worker, and the proxy on their way to the engine.
pub(super) struct Far {
    pub(super) bus: Bus,
    pub(super) proxy: Proxy,
    pub(super) work: Work,
    /// What the model says to "stream" waits for this in the middle.
    pub(super) gate: Gate,
    pub(super) model: Server,
    outside: Bus,
    _dir: TempDir,
}

impl Far {
    pub(super) async fn on(engine: SocketAddr, rules: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let proxy = Proxy::start(engine).await;
        let gate = Gate::new();
        let waits = gate.clone();
        let model = Server::start(Script::answer(move |request| answer(request, &waits))).unwrap();
        let mut config = Config::default();
        config.turn.step_backoff_ms = 10;
        config.provider_openai.default_api_url = model.url();
        config.permissions_path = dir.path().join("rules.yaml");
        std::fs::write(&config.permissions_path, rules).unwrap();
        let bus = join(&proxy, "harness", config, harness::workers::all()).await;
        let outside = join(&proxy, "outside", Config::default(), Vec::new()).await;
        let work = Work {
            calls: Arc::default(),
            open: watch::Sender::new(true),
        };
        outside.register(work.function()).unwrap();
        let far = Self {
            bus,
            proxy,
            work,
            gate,
            model,
            outside,
            _dir: dir,
        };
        let known = async || {
            let info = far
                .call("engine::functions::info", json!({ "function_id": "far::work" }))
                .await;
            info.is_ok().then_some(())
        };
        until(known).await;
        far
    }

    pub(super) async fn call(&self, id: &str, payload: Value) -> Result<Value> {
        self.bus
            .invoke(&CallContext::default(), id, payload, CallOptions::default())
            .await
    }

    /// Starts a run; asks again while there is no engine. Busy after a failed attempt: that one was taken after all.
    pub(super) async fn start(&self, text: &str) {
        let request = json!({ "session_id": SESSION, "provider": "openai", "model": "gpt-5", "messages": [user(text)] });
        let mut failed = false;
        until(async || match self.call("run::start", request.clone()).await {
            Ok(reply) if failed && reply["reason"] == "session_busy" => Some(()),
            Ok(reply) => {
                assert_eq!(reply["started"], true, "{text}: {reply}");
                Some(())
            }
            Err(_) => {
                failed = true;
                None
            }
        })
        .await;
    }

    pub(super) async fn events(&self) -> Vec<Value> {
        let list = json!({ "stream_name": "agent::events", "group_id": SESSION });
        match self.call("stream::list", list).await {
            Ok(Value::Array(events)) => events,
            _ => Vec::new(),
        }
    }

    pub(super) async fn reaches(&self, state: &str) {
        let view = async || {
            let view = self
                .call("turn::get_state", json!({ "session_id": SESSION }))
                .await
                .ok()?;
            (view["state"] == state).then_some(())
        };
        until(view).await;
    }

    /// Waits until so many runs have ended.
    pub(super) async fn ended(&self, runs: usize) {
        let ends = async || (of_type(&self.events().await, "agent_end").len() >= runs).then_some(());
        until(ends).await;
    }

    /// Messages of the session as short lines.
    pub(super) async fn transcript(&self) -> Vec<String> {
        let ask = json!({ "session_id": SESSION });
        let reply = until(async || self.call("session-tree::messages", ask.clone()).await.ok()).await;
        let rows = reply["messages"].as_array().unwrap();
        rows.iter().map(|row| line(&row["message"])).collect()
    }

    /// Nothing was lost and nothing came twice: one end per run, one result per call, no call ran twice, and the session
    /// takes the next run. Answers the transcript before that.
    pub(super) async fn is_sound(&self) -> Vec<String> {
        self.ended(1).await;
        self.reaches("stopped").await;
        let transcript = self.transcript().await;
        for (call, count) in self.work.counts() {
            assert_eq!(count, 1, "{call} ran {count} times: {transcript:?}");
            let results = transcript
                .iter()
                .filter(|line| line.starts_with(&format!("result {call} ")))
                .count();
            assert_eq!(results, 1, "{transcript:?}");
        }
        self.start("next").await;
        self.ended(2).await;
        self.reaches("stopped").await;
        let mut expected = transcript.clone();
        expected.extend(["user next".to_owned(), "assistant Re: next".to_owned()]);
        assert_eq!(self.transcript().await, expected);
        let events = self.events().await;
        assert_eq!(of_type(&events, "agent_end").len(), 2, "{events:#?}");
        assert_eq!(self.model.violations(), Vec::<String>::new());
        transcript
    }

    pub(super) async fn stop(self) {
        self.outside.shutdown(DEADLINE).await;
        assert!(self.bus.shutdown(DEADLINE).await, "tasks were left running");
    }
}

pub(super) async fn join(proxy: &Proxy, name: &str, config: Config, workers: Vec<WorkerDef>) -> Bus {
    let ports = Ports {
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        env: Arc::new(MapEnv::from([("OPENAI_API_KEY", "not-a-secret")])),
        config: Arc::new(ArcSwap::from_pointee(config)),
        metrics: Metrics::new(),
    };
    let options = IiiOptions {
        url: format!("ws://{}", proxy.address()),
        worker_name: name.to_owned(),
        heartbeat: Duration::from_millis(500),
        ..IiiOptions::default()
    };
    let bus = Bus::new(ports, Iii::new(options));
    assert_eq!(bus.host(workers).await.unwrap(), Vec::<String>::new());
    bus
}

/// "go" calls once, "two" twice, one after the other; "stream" stops in the middle; everything else is answered.
fn answer(request: &Request, gate: &Gate) -> Reply {
    let (text, results) = (request.last_user_text(), request.tool_results());
    let done = results.last().map_or("", |(call, _)| call);
    let call = |id: &str| {
        let arguments = json!({ "function": "far::work", "payload": { "call": id } }).to_string();
        Reply::calls([(id, "agent_trigger", arguments.as_str())])
    };
    match (text.as_str(), done) {
        ("go" | "two", "") => call("A"),
        ("two", "A") => call("B"),
        ("go" | "two", _) => Reply::says("Done.", 2),
        ("stream", _) => Reply::raw([
            chunk(json!({ "role": "assistant", "content": "First half, " }), None),
            Step::Wait(gate.clone()),
            chunk(json!({ "content": "second half." }), None),
            chunk(json!({}), Some("stop")),
            Step::send("data: [DONE]\n\n"),
        ]),
        (text, _) => Reply::says(format!("Re: {text}"), 2),
    }
}

fn chunk(delta: Value, finish: Option<&str>) -> Step {
    let chunk = json!({ "id": "x", "object": "chat.completion.chunk", "created": 0, "model": "gpt-5",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] });
    Step::send(format!("data: {chunk}\n\n"))
}

/// Polls until something is there.
#[track_caller]
pub(super) fn until<T>(mut probe: impl AsyncFnMut() -> Option<T>) -> impl Future<Output = T> {
    let waiting = Location::caller();
    async move {
        let polling = async {
            loop {
                if let Some(found) = probe().await {
                    return found;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let found = tokio::time::timeout(DEADLINE, polling).await;
        found.unwrap_or_else(|_| panic!("{waiting}: it took too long"))
    }
}
