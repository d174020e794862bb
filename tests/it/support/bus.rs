//! The whole program without its process: all workers on an embedded engine in memory or in a directory, or connected to
//! one. The test calls and serves the way it goes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use harness::bus::embedded::listener::ListenOptions;
use harness::bus::embedded::store::Durability;
use harness::bus::embedded::{Embedded, EmbeddedOptions};
use harness::bus::iii::{Iii, IiiOptions};
use harness::bus::{Bus, CallContext, CallOptions, Frame, FunctionDef, Ports, Transport, WorkerDef};
use harness::clock::{Clock, SystemClock};
use harness::config::{Config, MapEnv};
use harness::error::{Error, Result};
use harness::ids::RandomIds;
use harness::model::api::provider::ChannelRef;
use harness::telemetry::Metrics;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::engine::within;
use super::outsider::{CALLER_MEMBER, Outsider, Writers};
use super::way::Way;

/// Nothing here takes longer on a machine that works.
const DEADLINE: Duration = Duration::from_secs(20);

/// Where nobody listens.
const NOBODY: &str = "http://127.0.0.1:9/v1/chat/completions";

/// How a [`TestBus`] differs from the usual one.
pub(crate) struct TestOptions {
    pub(crate) way: Way,
    pub(crate) config: Config,
    pub(crate) env: HashMap<String, String>,
    /// Text of the permission file; without one everything needs approval.
    pub(crate) rules: Option<&'static str>,
    /// Directory of the store; memory without one.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) workers: Vec<WorkerDef>,
    /// Stands between the bus of the workers and the engine, to fail or to count.
    pub(crate) wrap: Wrap,
}

/// Puts a transport in front of another one.
pub(crate) type Wrap = Box<dyn FnOnce(Arc<dyn Transport>) -> Arc<dyn Transport> + Send>;

impl Default for TestOptions {
    fn default() -> Self {
        let mut config = Config::default();
        config.turn.step_backoff_ms = 1;
        // Whatever runs on this machine is no part of a test.
        NOBODY.clone_into(&mut config.provider_lmstudio.default_api_url);
        NOBODY.clone_into(&mut config.provider_llamacpp.default_api_url);
        Self {
            way: Way::here(),
            config,
            env: HashMap::new(),
            rules: None,
            data_dir: None,
            clock: Arc::new(SystemClock),
            workers: harness::workers::all(),
            wrap: Box::new(|transport| transport),
        }
    }
}

/// All workers on one bus, and the place of the test.
pub(crate) struct TestBus {
    bus: Bus,
    embedded: Arc<Embedded>,
    /// The engine's own bus, where the workers have another one.
    engine: Option<Bus>,
    /// Where the test is, when not in the program.
    outsider: Option<Outsider>,
    metrics: Metrics,
    config: Arc<ArcSwap<Config>>,
    /// Holds the permission file.
    _dir: TempDir,
}

impl TestBus {
    pub(crate) async fn with(options: TestOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = options.config;
        if config.permissions_path == Config::default().permissions_path {
            config.permissions_path = dir.path().join("iii-permissions.yaml");
        }
        if let Some(rules) = options.rules {
            std::fs::write(&config.permissions_path, rules).unwrap();
        }
        let config = Arc::new(ArcSwap::from_pointee(config));
        let metrics = Metrics::new();
        let ports = Ports {
            clock: options.clock,
            ids: Arc::new(RandomIds),
            env: Arc::new(MapEnv(options.env)),
            config: Arc::clone(&config),
            metrics: metrics.clone(),
        };
        let is_apart = options.way == Way::Connect;
        let embedded = Embedded::open(EmbeddedOptions {
            data_dir: options.data_dir,
            durability: Durability::Normal,
            worker_name: if is_apart { "engine" } else { "harness" }.to_owned(),
            ..EmbeddedOptions::default()
        })
        .unwrap();
        let mut transport: Arc<dyn Transport> = Arc::<Embedded>::clone(&embedded);
        let mut engine = None;
        let mut address = None;
        if is_apart {
            let bus = Bus::new(alone(&ports), transport);
            bus.host(Vec::new()).await.unwrap();
            let at = listen(&embedded).await;
            transport = Iii::new(IiiOptions {
                url: format!("ws://{at}"),
                ..IiiOptions::default()
            });
            engine = Some(bus);
            address = Some(at);
        }
        let bus = Bus::new(ports, (options.wrap)(transport));
        assert_eq!(bus.host(options.workers).await.unwrap(), Vec::<String>::new());
        if options.way == Way::Listener {
            address = Some(listen(&embedded).await);
        }
        let outsider = match address {
            Some(address) => Some(Outsider::join(address).await),
            None => None,
        };
        Self {
            bus,
            embedded,
            engine,
            outsider,
            metrics,
            config,
            _dir: dir,
        }
    }

    /// The engine, for a look at it or another life of the workers on it.
    pub(crate) fn engine(&self) -> Arc<Embedded> {
        Arc::clone(&self.embedded)
    }

    /// The bus of the workers.
    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Lets outside workers connect, on any free port.
    pub(crate) async fn listen(&self) -> SocketAddr {
        listen(&self.embedded).await
    }

    /// Changes the settings, as a reload does.
    pub(crate) fn reconfigure(&self, change: impl FnOnce(&mut Config)) {
        let mut config = self.config.load().as_ref().clone();
        change(&mut config);
        self.config.store(Arc::new(config));
    }

    /// Calls a function. An error is what a caller outside sees of it: its code and its text.
    pub(crate) async fn call(&self, id: &str, payload: Value) -> Result<Value> {
        if let Some(outsider) = &self.outsider {
            return outsider.call(id, payload).await;
        }
        let context = CallContext::default();
        let outcome = self.bus.invoke(&context, id, payload, CallOptions::default());
        outcome
            .await
            .map_err(|error| Error::coded(error.wire_code(), error.to_string()))
    }

    /// The answer of a call that must succeed.
    pub(crate) async fn ok(&self, id: &str, payload: Value) -> Value {
        match self.call(id, payload).await {
            Ok(value) => value,
            Err(error) => panic!("{id}: {error}"),
        }
    }

    /// The message of a call that must fail.
    pub(crate) async fn error(&self, id: &str, payload: Value) -> String {
        match self.call(id, payload).await {
            Ok(value) => panic!("{id} answered {value}"),
            Err(error) => error.to_string(),
        }
    }

    /// Registers a function that is not ours.
    pub(crate) fn serve<R>(&self, id: &str, handler: impl Fn(Value) -> R + Send + Sync + 'static)
    where
        R: Future<Output = Result<Value>> + Send + 'static,
    {
        self.serve_with_metadata(id, move |payload, _| handler(payload));
    }

    /// Registers a function that is not ours and gets what travels beside the payload. One of ours with that id makes room.
    pub(crate) fn serve_with_metadata<R>(
        &self,
        id: &str,
        handler: impl Fn(Value, Option<Value>) -> R + Send + Sync + 'static,
    ) where
        R: Future<Output = Result<Value>> + Send + 'static,
    {
        if self.bus.hosts(id) {
            self.bus.unregister(id);
        }
        if let Some(outsider) = &self.outsider {
            return outsider.serve(id, handler);
        }
        let function = FunctionDef::ad_hoc(id, move |payload, context: CallContext| {
            handler(payload, context.metadata.as_deref().cloned())
        });
        self.bus.register(function).unwrap();
    }

    /// A channel of the engine: the references of its writing and its reading end.
    pub(crate) async fn channel(&self) -> (Value, Value) {
        let mut pair = self.ok("engine::channels::create", json!({})).await;
        (pair["writer"].take(), pair["reader"].take())
    }

    /// Reads a channel to its end, or until no more is wanted.
    pub(crate) async fn read_channel(&self, channel: &Value, mut wants_more: impl FnMut(&str) -> bool) {
        if let Some(outsider) = &self.outsider {
            return Box::pin(outsider.read_channel(channel, wants_more)).await;
        }
        let channel: ChannelRef = serde_json::from_value(channel.clone()).unwrap();
        let mut reader = self.bus.open_reader(&channel).await.unwrap();
        while let Some(frame) = reader.next().await {
            let Frame::Text(text) = frame else {
                panic!("{frame:?}")
            };
            if !wants_more(&text) {
                return;
            }
        }
    }

    /// How a function that [`serve`](Self::serve) registered opens the writing end of a channel.
    pub(crate) fn writers(&self) -> Writers {
        match &self.outsider {
            Some(outsider) => outsider.writers(),
            None => Writers::Inside(self.bus.downgrade()),
        }
    }

    /// Registers a function that remembers what it was called with.
    pub(crate) fn record_with(
        &self,
        id: &str,
        answer: impl Fn(&Value) -> Result<Value> + Send + Sync + 'static,
    ) -> Recorded {
        let calls = Recorded::default();
        let seen = calls.clone();
        self.serve(id, move |payload| {
            let outcome = answer(&payload);
            seen.add(payload);
            std::future::ready(outcome)
        });
        calls
    }

    /// The same, and it answers always the same.
    pub(crate) fn record(&self, id: &str, answer: Value) -> Recorded {
        self.record_with(id, move |_| Ok(answer.clone()))
    }

    pub(crate) async fn state(&self, scope: &str, key: &str) -> Value {
        self.ok("state::get", json!({ "scope": scope, "key": key })).await
    }

    pub(crate) async fn set_state(&self, scope: &str, key: &str, value: Value) {
        self.ok(
            "state::set",
            json!({ "scope": scope, "key": key, "value": value }),
        )
        .await;
    }

    /// All events of a session, in stream order.
    pub(crate) async fn events(&self, session: &str) -> Vec<Value> {
        let request = json!({ "stream_name": "agent::events", "group_id": session });
        match self.ok("stream::list", request).await {
            Value::Array(events) => events,
            other => panic!("{other}"),
        }
    }

    /// The events of a session once there are so many: where the engine has no transactions they follow the record.
    pub(crate) async fn events_once(&self, session: &str, count: usize) -> Vec<Value> {
        self.eventually(async || {
            let events = self.events(session).await;
            (events.len() >= count).then_some(events)
        })
        .await
    }

    /// Polls until something is there.
    pub(crate) async fn eventually<T, R>(&self, mut probe: impl FnMut() -> R) -> T
    where
        R: Future<Output = Option<T>>,
    {
        within(async {
            loop {
                if let Some(found) = probe().await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
    }

    /// Waits until a run of the session has ended `runs` times; answers its events.
    pub(crate) async fn ended(&self, session: &str, runs: usize) -> Vec<Value> {
        self.eventually(async || {
            let events = self.events(session).await;
            let ends = events.iter().filter(|event| event["type"] == "agent_end").count();
            (ends >= runs).then_some(events)
        })
        .await
    }

    /// Waits until the session is in a state; answers the view.
    pub(crate) async fn reaches(&self, session: &str, state: &str) -> Value {
        self.eventually(async || {
            let view = self.ok("turn::get_state", json!({ "session_id": session })).await;
            (view["state"] == state).then_some(view)
        })
        .await
    }

    /// Everything measured so far, as `/metrics` shows it.
    pub(crate) fn measured(&self) -> String {
        self.metrics.render()
    }

    /// How often a function of this process was called.
    pub(crate) fn calls_of(&self, id: &str) -> u64 {
        let wanted = format!("function=\"{id}\"");
        self.metrics
            .render()
            .lines()
            .filter(|line| line.starts_with("harness_function_calls_total{") && line.contains(&wanted))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// Everything in state and in streams, as one text.
    pub(crate) async fn stored(&self) -> String {
        let mut all = Vec::new();
        let scopes = self.ok("state::list_groups", json!({})).await;
        for scope in scopes["groups"].as_array().unwrap() {
            all.push(self.ok("state::list", json!({ "scope": scope })).await);
        }
        let streams = self.ok("stream::list_all", json!({})).await;
        for stream in streams["stream"].as_array().unwrap() {
            for group in stream["groups"].as_array().unwrap() {
                let request = json!({ "stream_name": stream["id"], "group_id": group });
                all.push(self.ok("stream::list", request).await);
            }
        }
        all.push(streams);
        Value::Array(all).to_string()
    }

    /// Stops as the program does.
    pub(crate) async fn stop(self) {
        if let Some(outsider) = &self.outsider {
            // The engine added it to each call of this test, and it went no further (contract 00 §2.4).
            assert!(!self.stored().await.contains(CALLER_MEMBER));
            outsider.leave().await;
        }
        assert!(self.bus.shutdown(DEADLINE).await, "tasks were left running");
        if let Some(engine) = self.engine {
            assert!(
                engine.shutdown(DEADLINE).await,
                "tasks of the engine were left running"
            );
        }
    }
}

/// What an engine that hosts nothing needs of the ports of its neighbour.
fn alone(ports: &Ports) -> Ports {
    Ports {
        config: Arc::default(),
        metrics: Metrics::new(),
        ..ports.clone()
    }
}

async fn listen(embedded: &Embedded) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    embedded.listen(socket, ListenOptions::default()).unwrap()
}

/// What a recorded function was called with.
#[derive(Clone, Default)]
pub(crate) struct Recorded(Arc<Mutex<Vec<Value>>>);

impl Recorded {
    pub(crate) fn add(&self, payload: Value) {
        self.0.lock().unwrap().push(payload);
    }

    pub(crate) fn all(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}
