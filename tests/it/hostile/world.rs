//! The whole program, and everything it has written.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::bus::{ChannelOptions, Frame};
use harness::error::{Error, Result};
use harness::scripted::{Reply, Script, Server};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::engine::within;
use crate::support::spy::{Op, Spy};
use crate::support::{TestBus, TestOptions};

/// Longest answer to bad input.
const PROMPT: Duration = Duration::from_secs(20);

/// A page of the server.
pub(super) const PAGE: &str = "/page";

/// Providers there are.
const PROVIDERS: u64 = 5;

/// What the engine is asked without a change.
const READS: [&str; 4] = ["::get", "::list", "::list_groups", "::list_all"];

pub(super) struct World {
    t: TestBus,
    /// All providers, and the web.
    server: Server,
    /// Writes that reached the engine.
    writes: Arc<AtomicUsize>,
    /// Where others come in, if they may.
    address: Option<SocketAddr>,
}

impl World {
    pub(super) async fn start() -> Self {
        let server = Server::start(script()).unwrap();
        let mut options = TestOptions::default();
        let config = &mut options.config;
        config.provider_openai.default_api_url = server.url();
        config.provider_kimi.default_api_url = server.url();
        config.provider_llamacpp.default_api_url = server.url();
        config.provider_lmstudio.default_api_url = server.url();
        config.provider_anthropic.default_api_url = server.messages_url();
        config.provider.max_retries = 0;
        // Nobody answers hooks.
        config.hook_fanout.default_timeout_ms = 1;
        for name in ["OPENAI", "ANTHROPIC", "MOONSHOT"] {
            options.env.insert(format!("{name}_API_KEY"), "k".into());
        }
        let (spy, writes) = (Spy::default(), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&writes);
        spy.fail_when(move |op| {
            let reads = match op {
                Op::Call(call) => READS.iter().any(|read| call.function_id.ends_with(read)),
                Op::Commit(_) => false,
            };
            if !reads {
                seen.fetch_add(1, Ordering::SeqCst);
            }
            false
        });
        options.wrap = spy.wrap();
        let t = TestBus::with(options).await;
        serve_files(&t);
        // Each provider lists its models at the start, writes them, and looks at what is written in the end.
        let listed = async || (t.calls_of("models::list") >= PROVIDERS).then_some(());
        t.eventually(listed).await;
        Self {
            t,
            server,
            writes,
            address: None,
        }
    }

    /// The same, and others may come in over a socket.
    pub(super) async fn open() -> Self {
        let mut world = Self::start().await;
        world.address = Some(world.t.listen().await);
        world
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address.unwrap()
    }

    /// Where the server has something.
    pub(super) fn url(&self, path: &str) -> String {
        self.server.url().replace("/v1/chat/completions", path)
    }

    /// How often the engine was written to so far.
    pub(super) fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    /// The answer of a call that must succeed.
    pub(super) async fn ok(&self, id: &str, payload: Value) -> Value {
        self.t.ok(id, payload).await
    }

    /// Waits until a run of the session has ended.
    pub(super) async fn has_ended(&self, session: &Value) {
        self.t.ended(session.as_str().unwrap(), 1).await;
    }

    pub(super) async fn call(&self, id: &str, payload: Value) -> Result<Value> {
        match tokio::time::timeout(PROMPT, self.t.call(id, payload)).await {
            Ok(outcome) => outcome,
            Err(late) => panic!("{id} did not answer: {late}"),
        }
    }

    /// All state, all streams, all sessions, the settings and the providers.
    pub(super) async fn dump(&self) -> Value {
        let scopes = self.t.ok("state::list_groups", json!({})).await;
        let mut state = serde_json::Map::new();
        for scope in scopes["groups"].as_array().unwrap() {
            let values = self.t.ok("state::list", json!({ "scope": scope })).await;
            state.insert(scope.as_str().unwrap().to_owned(), values);
        }
        json!({
            "state": state,
            "streams": self.t.ok("stream::list_all", json!({})).await,
            "sessions": self.t.ok("session-tree::list", json!({})).await,
            "settings": self.t.ok("configuration::get", json!({ "id": "harness", "raw": true })).await,
            "providers": self.t.ok("harness::provider::list", json!({})).await,
        })
    }

    /// The same, once every run that was started has ended and nothing moves any more.
    pub(super) async fn settled(&self) -> Value {
        let mut before = Value::Null;
        let settling = async {
            loop {
                let now = self.dump().await;
                let rows = now["state"]["turn_state"].as_array();
                let is_over = |row: &Value| row["state"] == "stopped" || row["state"] == "failed";
                if now == before && rows.is_none_or(|rows| rows.iter().all(is_over)) {
                    return now;
                }
                before = now;
            }
        };
        within(settling).await
    }

    /// What is good is still taken, stored and read back.
    pub(super) async fn proves_to_live(&self) {
        let message =
            json!({ "role": "user", "content": [{ "type": "text", "text": "alive" }], "timestamp": 1 });
        let session = self.t.ok("session-tree::create", json!({})).await["session_id"].take();
        let append = json!({ "session_id": session, "message": message });
        let entry = self.t.ok("session-tree::append", append).await["entry_id"].take();
        assert_eq!(
            self.t
                .ok("session-tree::messages", json!({ "session_id": session }))
                .await,
            json!({ "messages": [{ "entry_id": entry, "message": message }] })
        );
    }

    /// Waits until no call from outside is at work.
    pub(super) async fn is_idle(&self) {
        let at_work = async || (self.t.bus().served_now() == 0).then_some(());
        self.t.eventually(at_work).await;
    }

    pub(super) async fn stop(self) {
        self.t.stop().await;
    }
}

fn script() -> Script {
    let others = |path: &str, body: &Value| match path {
        PAGE => Some(Reply::fails(200, "{}")),
        "/api/v1/models/load" => Some(Reply::fails(
            200,
            json!({ "instance_id": body["model"] }).to_string(),
        )),
        "/api/v1/models/unload" => Some(Reply::fails(200, body.to_string())),
        "/api/v0/models" => Some(Reply::fails(
            200,
            json!({ "data": [{ "id": "gpt-5", "type": "llm", "state": "loaded" }] }).to_string(),
        )),
        _ => None,
    };
    Script::answer(|_| Reply::says("hello", 1)).with_others(others)
}

/// A shell worker whose files all say the same.
fn serve_files(t: &TestBus) {
    let bus = t.bus().downgrade();
    t.serve("shell::fs::read", move |_| {
        let bus = bus.clone();
        async move {
            let bus = bus.upgrade().ok_or(Error::Stopped)?;
            let channel = bus.create_channel(ChannelOptions::default());
            let writer = bus.open_writer(&channel.writer).await?;
            writer.send(Frame::Binary("hello".into())).await?;
            Ok(json!({ "content": channel.reader, "size": 5 }))
        }
    });
}
