//! A bus over the embedded engine, with functions that record what they are called with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use harness::bus::embedded::listener::ListenOptions;
use harness::bus::embedded::store::Durability;
use harness::bus::embedded::{Embedded, EmbeddedOptions};
use harness::bus::{Bus, CallContext, CallOptions, FunctionDef, Invocation, Ports, Transport, TriggerSpec};
use harness::clock::{Clock, ManualClock, SystemClock};
use harness::config::{Config, MapEnv};
use harness::error::{Error, Result};
use harness::ids::{CountedIds, RandomIds};
use harness::telemetry::Metrics;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Nothing here takes longer on a machine that works.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const NOW_MS: i64 = 1_780_000_000_000;

/// A started engine with its bus.
pub(crate) struct Engine {
    pub(crate) bus: Bus,
    pub(crate) embedded: Arc<Embedded>,
}

/// What a recorded function was called with.
pub(crate) struct Calls {
    receiver: mpsc::Receiver<(Value, CallContext)>,
}

impl Engine {
    pub(crate) async fn memory() -> Self {
        Self::start(EmbeddedOptions::default()).await
    }

    pub(crate) async fn at(directory: PathBuf) -> Self {
        let options = EmbeddedOptions {
            data_dir: Some(directory),
            durability: Durability::Normal,
            ..EmbeddedOptions::default()
        };
        Self::start(options).await
    }

    pub(crate) async fn start(options: EmbeddedOptions) -> Self {
        Self::with(options, Arc::new(ManualClock::at(NOW_MS)), MapEnv::default()).await
    }

    pub(crate) async fn with(options: EmbeddedOptions, clock: Arc<dyn Clock>, env: MapEnv) -> Self {
        let embedded = Embedded::open(options).unwrap();
        let ports = Ports {
            clock,
            ids: Arc::new(CountedIds::default()),
            env: Arc::new(env),
            config: Arc::new(ArcSwap::from_pointee(Config::default())),
            metrics: Metrics::new(),
        };
        let transport: Arc<dyn Transport> = embedded.clone();
        let bus = Bus::new(ports, transport);
        assert_eq!(bus.host(Vec::new()).await.unwrap(), Vec::<String>::new());
        Self { bus, embedded }
    }

    pub(crate) async fn call(&self, id: &str, payload: Value) -> Result<Value> {
        self.bus
            .invoke(&CallContext::default(), id, payload, CallOptions::default())
            .await
    }

    /// The answer of a call that must succeed.
    pub(crate) async fn ok(&self, id: &str, payload: Value) -> Value {
        self.call(id, payload).await.unwrap()
    }

    /// Wire code and message of a call that must fail.
    pub(crate) async fn error(&self, id: &str, payload: Value) -> (String, String) {
        let error = self.call(id, payload).await.unwrap_err();
        (error.wire_code().to_owned(), error.to_string())
    }

    /// Queues a call now, as a caller that waits for nothing.
    pub(crate) fn fire(&self, id: &str, payload: Value) {
        let invocation = Invocation {
            function_id: id.into(),
            payload,
            context: CallContext::default(),
        };
        let call = self.bus.transport().call(invocation);
        self.bus.spawn(async move {
            call.await.unwrap();
        });
    }

    /// A function that records its calls and answers null.
    pub(crate) fn record(&self, id: &str) -> Calls {
        let (sender, receiver) = mpsc::channel(100_000);
        self.serve(id, move |payload, context| {
            let sent = sender.try_send((payload, context)).map(|()| Value::Null);
            std::future::ready(sent.map_err(|error| Error::Unavailable(error.to_string())))
        });
        Calls { receiver }
    }

    pub(crate) fn serve<R>(&self, id: &str, handler: impl Fn(Value, CallContext) -> R + Send + Sync + 'static)
    where
        R: Future<Output = Result<Value>> + Send + 'static,
    {
        self.bus.register(FunctionDef::ad_hoc(id, handler)).unwrap();
    }

    pub(crate) async fn bind(
        &self,
        id: &str,
        trigger_type: &str,
        function: &str,
        config: Value,
    ) -> Result<()> {
        self.bind_with(id, trigger_type, function, config, None).await
    }

    pub(crate) async fn bind_with(
        &self,
        id: &str,
        trigger_type: &str,
        function: &str,
        config: Value,
        metadata: Option<Value>,
    ) -> Result<()> {
        let spec = TriggerSpec {
            id: id.to_owned(),
            trigger_type: trigger_type.to_owned(),
            function_id: function.into(),
            config,
            metadata,
        };
        self.bus.transport().bind(spec).await
    }

    /// A recorded function with a binding of the same name.
    pub(crate) async fn watch(&self, id: &str, trigger_type: &str, config: Value) -> Calls {
        let calls = self.record(id);
        self.bind(id, trigger_type, id, config).await.unwrap();
        calls
    }

    pub(crate) async fn set(&self, scope: &str, key: &str, value: Value) -> Value {
        self.ok(
            "state::set",
            json!({ "scope": scope, "key": key, "value": value }),
        )
        .await
    }

    pub(crate) async fn get(&self, scope: &str, key: &str) -> Value {
        self.ok("state::get", json!({ "scope": scope, "key": key })).await
    }

    /// Stops as the program does; what was acknowledged is on disk afterwards.
    pub(crate) async fn stop(self) {
        assert!(self.bus.shutdown(DEADLINE).await);
    }
}

impl Calls {
    /// The payload of the next call.
    pub(crate) async fn next(&mut self) -> Value {
        self.next_with_context().await.0
    }

    pub(crate) async fn next_with_context(&mut self) -> (Value, CallContext) {
        tokio::time::timeout(DEADLINE, self.receiver.recv())
            .await
            .expect("no call came")
            .expect("no caller left")
    }

    /// Whether nothing more has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }
}

/// Real time, random ids, all defaults.
pub(crate) fn ports() -> Ports {
    Ports {
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        env: Arc::new(MapEnv::default()),
        config: Arc::new(ArcSwap::from_pointee(Config::default())),
        metrics: Metrics::new(),
    }
}

/// An engine in this process that others reach over a socket; with a directory it keeps what it has.
pub(crate) async fn served(address: SocketAddr, data_dir: Option<PathBuf>) -> (Bus, SocketAddr) {
    let embedded = Embedded::open(EmbeddedOptions {
        worker_name: "engine-test".to_owned(),
        data_dir,
        ..EmbeddedOptions::default()
    })
    .unwrap();
    let bus = Bus::new(ports(), Arc::<Embedded>::clone(&embedded));
    assert_eq!(bus.host(Vec::new()).await.unwrap(), Vec::<String>::new());
    let socket = within(async {
        loop {
            match TcpListener::bind(address).await {
                Ok(socket) => return socket,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await;
    let address = embedded.listen(socket, ListenOptions::default()).unwrap();
    (bus, address)
}

/// Waits for something, but not for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("it took too long")
}
