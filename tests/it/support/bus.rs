//! The whole program without its process: all workers on an embedded engine in memory or in a directory.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use harness::bus::embedded::listener::ListenOptions;
use harness::bus::embedded::store::Durability;
use harness::bus::embedded::{Embedded, EmbeddedOptions};
use harness::bus::{Bus, CallContext, CallOptions, FunctionDef, Ports, Transport, WorkerDef};
use harness::clock::{Clock, SystemClock};
use harness::config::{Config, MapEnv};
use harness::error::Result;
use harness::ids::RandomIds;
use harness::telemetry::Metrics;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::engine::within;

/// Nothing here takes longer on a machine that works.
const DEADLINE: Duration = Duration::from_secs(20);

/// How a [`TestBus`] differs from the usual one.
pub(crate) struct TestOptions {
    pub(crate) config: Config,
    pub(crate) env: HashMap<String, String>,
    /// Text of the permission file; without one everything needs approval.
    pub(crate) rules: Option<&'static str>,
    /// Directory of the store; memory without one.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) workers: Vec<WorkerDef>,
    /// Stands between the bus and the engine, to fail or to count.
    pub(crate) wrap: Wrap,
}

/// Puts a transport in front of another one.
pub(crate) type Wrap = Box<dyn FnOnce(Arc<dyn Transport>) -> Arc<dyn Transport> + Send>;

impl Default for TestOptions {
    fn default() -> Self {
        let mut config = Config::default();
        config.turn.step_backoff_ms = 1;
        Self {
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

/// All workers on one bus.
pub(crate) struct TestBus {
    bus: Bus,
    embedded: Arc<Embedded>,
    metrics: Metrics,
    config: Arc<ArcSwap<Config>>,
    /// Holds the permission file.
    _dir: TempDir,
}

impl TestBus {
    pub(crate) async fn with(options: TestOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = options.config;
        config.permissions_path = dir.path().join("iii-permissions.yaml");
        if let Some(rules) = options.rules {
            std::fs::write(&config.permissions_path, rules).unwrap();
        }
        let embedded = Embedded::open(EmbeddedOptions {
            data_dir: options.data_dir,
            durability: Durability::Normal,
            ..EmbeddedOptions::default()
        })
        .unwrap();
        let transport: Arc<dyn Transport> = Arc::<Embedded>::clone(&embedded);
        let config = Arc::new(ArcSwap::from_pointee(config));
        let metrics = Metrics::new();
        let ports = Ports {
            clock: options.clock,
            ids: Arc::new(RandomIds),
            env: Arc::new(MapEnv(options.env)),
            config: Arc::clone(&config),
            metrics: metrics.clone(),
        };
        let bus = Bus::new(ports, (options.wrap)(transport));
        assert_eq!(bus.host(options.workers).await.unwrap(), Vec::<String>::new());
        Self {
            bus,
            embedded,
            metrics,
            config,
            _dir: dir,
        }
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Lets outside workers connect, on any free port.
    pub(crate) async fn listen(&self) -> SocketAddr {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.embedded.listen(socket, ListenOptions::default()).unwrap()
    }

    /// Changes the settings, as a reload does.
    pub(crate) fn reconfigure(&self, change: impl FnOnce(&mut Config)) {
        let mut config = self.config.load().as_ref().clone();
        change(&mut config);
        self.config.store(Arc::new(config));
    }

    pub(crate) async fn call(&self, id: &str, payload: Value) -> Result<Value> {
        self.bus
            .invoke(&CallContext::default(), id, payload, CallOptions::default())
            .await
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
        self.bus
            .register(FunctionDef::ad_hoc(id, move |payload, _| handler(payload)))
            .unwrap();
    }

    /// Registers a function that answers always the same and remembers what it was called with.
    pub(crate) fn record(&self, id: &str, answer: Value) -> Recorded {
        let calls = Recorded::default();
        let seen = calls.clone();
        self.serve(id, move |payload| {
            seen.0.lock().unwrap().push(payload);
            std::future::ready(Ok(answer.clone()))
        });
        calls
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

    /// Stops as the program does.
    pub(crate) async fn stop(self) {
        assert!(self.bus.shutdown(DEADLINE).await, "tasks were left running");
    }
}

/// What a recorded function was called with.
#[derive(Clone, Default)]
pub(crate) struct Recorded(Arc<Mutex<Vec<Value>>>);

impl Recorded {
    pub(crate) fn all(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}
