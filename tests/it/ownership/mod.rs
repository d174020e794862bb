//! Several programs on one engine: one serves, the others stand by (design §4, one active process per engine).

mod frozen;
mod processes;
mod rivals;
mod turns;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::bus::iii::{Iii, IiiOptions};
use harness::bus::{Bus, CallContext, CallOptions, Transport};
use harness::config::Config;
use harness::error::Result;
use harness::scripted::{Reply, Request, Script, Server};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::crash::outcome::line;
use crate::crash::place::{KEY, Life};
use crate::support::engine::{ports, served, within};
use crate::support::{TestBus, TestOptions};
use crate::turn::{of_type, user};

const SESSION: &str = "s";
/// Of programs inside this process.
const LEASE: Duration = Duration::from_secs(2);

/// An engine that hosts nothing of ours, a model server, and room for programs.
struct Town {
    dir: TempDir,
    engine: Bus,
    address: SocketAddr,
    server: Server,
    lives: AtomicUsize,
}

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

impl Town {
    async fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let (engine, address) = served(anywhere(), None).await;
        Self {
            dir: tempfile::tempdir().unwrap(),
            engine,
            address,
            server: Server::start(Script::answer(answer)).unwrap(),
            lives: AtomicUsize::new(0),
        }
    }

    /// A program of the real binary, with these rules.
    fn begin(&self, rules: &str) -> Life {
        self.begin_at(self.address, rules)
    }

    /// One that reaches the engine at another address.
    fn begin_at(&self, address: SocketAddr, rules: &str) -> Life {
        let dir = self.dir.path();
        let (number, log) = self.log();
        let config = json!({
            "permissions_path": dir.join(format!("rules-{number}.yaml")),
            "engine": { "mode": "connect", "url": format!("ws://{address}") },
            "http": { "listen": "127.0.0.1:0" },
            "turn": { "step_backoff_ms": 10 },
            "provider_openai": { "default_api_url": self.server.url() },
            "shutdown": { "grace_ms": 200 },
        });
        // Files of its own: the others may be reading theirs. JSON is YAML.
        std::fs::write(dir.join(format!("rules-{number}.yaml")), rules).unwrap();
        let path = dir.join(format!("config-{number}.yaml"));
        std::fs::write(&path, config.to_string()).unwrap();
        Life::begin(&path, log)
    }

    /// The next life, and where it writes.
    fn log(&self) -> (usize, PathBuf) {
        let number = self.lives.fetch_add(1, Ordering::SeqCst);
        (number, self.dir.path().join(format!("life-{number}.log")))
    }

    /// A program that serves, and one that stands by.
    async fn pair(&self, rules: &str) -> (Life, Life) {
        let first = self.begin(rules);
        first.says("ready functions=").await;
        let second = self.begin(rules);
        second.says("standing by").await;
        (first, second)
    }

    /// A program inside this process, once it serves.
    async fn join(&self, address: SocketAddr) -> TestBus {
        program(address, self.server.url()).await
    }

    async fn call(&self, id: &str, payload: Value) -> Result<Value> {
        call(&self.engine, id, payload).await
    }

    /// Calls a function of a program, as soon as one serves.
    async fn ok(&self, id: &str, payload: Value) -> Value {
        self.eventually(async || self.call(id, payload.clone()).await.ok())
            .await
    }

    async fn run(&self, says: &str) {
        let request = json!({ "session_id": SESSION, "provider": "openai", "model": "gpt-5", "messages": [user(says)] });
        assert_eq!(self.ok("run::start", request).await["started"], true);
    }

    async fn events(&self) -> Vec<Value> {
        events(&self.engine).await
    }

    async fn state(&self, scope: &str, key: &str) -> Value {
        let request = json!({ "scope": scope, "key": key });
        self.call("state::get", request).await.unwrap()
    }

    /// Waits for the end of the run; then for the claim on the session to be given back, so that nothing follows.
    async fn ended(&self) -> Vec<Value> {
        self.eventually(async || {
            let ended = !of_type(&self.events().await, "agent_end").is_empty();
            let record = self.state("turn_state", SESSION).await;
            (ended && record["agent_end_emitted"] == true).then_some(())
        })
        .await;
        self.events().await
    }

    /// Messages of the session, oldest first.
    async fn transcript(&self) -> Vec<String> {
        let reply = self
            .ok("session-tree::messages", json!({ "session_id": SESSION }))
            .await;
        let rows = reply["messages"].as_array().unwrap().clone();
        rows.iter().map(|row| line(&row["message"])).collect()
    }

    fn asked(&self, model: &str) -> usize {
        let requests = self.server.requests();
        requests.iter().filter(|request| request.model() == model).count()
    }

    async fn eventually<T>(&self, probe: impl AsyncFn() -> Option<T>) -> T {
        eventually(probe).await
    }

    /// How many programs are connected.
    async fn serving(&self) -> usize {
        serving(&self.engine).await
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for life in 0..self.lives.load(Ordering::SeqCst) {
            let log = std::fs::read_to_string(self.dir.path().join(format!("life-{life}.log")));
            eprintln!("life {life}:\n{}", log.unwrap_or_default());
        }
    }
}

async fn call(bus: &Bus, id: &str, payload: Value) -> Result<Value> {
    let options = CallOptions::timeout_ms(10_000);
    bus.invoke(&CallContext::default(), id, payload, options).await
}

async fn events(engine: &Bus) -> Vec<Value> {
    let request = json!({ "stream_name": "agent::events", "group_id": SESSION });
    let events = call(engine, "stream::list", request).await.unwrap();
    events.as_array().unwrap().clone()
}

async fn serving(engine: &Bus) -> usize {
    serving_as(engine, "harness").await
}

async fn serving_as(engine: &Bus, name: &str) -> usize {
    let listed = call(engine, "engine::workers::list", json!({})).await.unwrap();
    let workers = listed["workers"].as_array().unwrap();
    workers.iter().filter(|worker| worker["name"] == name).count()
}

async fn eventually<T>(probe: impl AsyncFn() -> Option<T>) -> T {
    within(async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// All workers on an engine, with a short lease, and a model server; once it serves.
async fn program(address: SocketAddr, model: String) -> TestBus {
    let mut config = Config::default();
    config.turn.step_backoff_ms = 10;
    config.provider_openai.default_api_url = model;
    let options = joining(address, LEASE);
    TestBus::with(TestOptions {
        config,
        env: [(KEY.to_owned(), "not-a-secret".to_owned())].into(),
        wrap: Box::new(move |_| Iii::new(options) as Arc<dyn Transport>),
        ..TestOptions::default()
    })
    .await
}

/// How a program joins in the tests that cannot wait for the real lease.
fn joining(address: SocketAddr, lease: Duration) -> IiiOptions {
    IiiOptions {
        url: format!("ws://{address}"),
        lease,
        ..IiiOptions::default()
    }
}

/// A program that serves, once it may.
async fn join(options: IiiOptions) -> Bus {
    let bus = Bus::new(ports(), Iii::new(options));
    bus.host(Vec::new()).await.unwrap();
    bus
}

fn problem(bus: &Bus) -> String {
    bus.transport().info().problem.unwrap_or_default()
}
