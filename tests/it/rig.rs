//! A bus with chosen workers, over the embedded engine or over none at all.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::BoxFuture;
use harness::bus::embedded::{Embedded, EmbeddedOptions};
use harness::bus::{
    Bus, CallContext, CallFuture, CallOptions, EngineInfo, FunctionDef, Invocation, Ports, Transport,
    TriggerSpec, WorkerDef, Write,
};
use harness::clock::ManualClock;
use harness::config::{Config, MapEnv};
use harness::error::{Error, Result};
use harness::ids::CountedIds;
use harness::telemetry::Metrics;
use serde_json::Value;

/// Wall time at the start, Unix milliseconds.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

pub(crate) struct Rig {
    pub(crate) bus: Bus,
    pub(crate) clock: Arc<ManualClock>,
}

impl Rig {
    /// Over the embedded engine in memory.
    pub(crate) fn embedded() -> Self {
        Self::over(
            Embedded::open(EmbeddedOptions::default()).unwrap(),
            Config::default(),
        )
    }

    /// Over nothing: only what is registered here exists, so that time can be paused.
    pub(crate) fn alone() -> Self {
        Self::over(Arc::new(Nothing), Config::default())
    }

    pub(crate) fn over(transport: Arc<dyn Transport>, config: Config) -> Self {
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let ports = Ports {
            clock: clock.clone(),
            ids: Arc::new(CountedIds::default()),
            env: Arc::new(MapEnv::default()),
            config: Arc::new(ArcSwap::from_pointee(config)),
            metrics: Metrics::new(),
        };
        let bus = Bus::new(ports, transport);
        Self { bus, clock }
    }

    pub(crate) async fn host(self, worker: WorkerDef) -> Self {
        self.bus.host(vec![worker]).await.unwrap();
        self
    }

    pub(crate) async fn call(&self, id: &str, payload: Value) -> Result<Value> {
        let options = CallOptions::default();
        self.bus
            .invoke(&CallContext::default(), id, payload, options)
            .await
    }

    /// Calls what must not fail.
    pub(crate) async fn ok(&self, id: &str, payload: Value) -> Value {
        self.call(id, payload)
            .await
            .unwrap_or_else(|error| panic!("{id}: {error}"))
    }

    /// Adds a double; it goes before the engine's function of that id.
    pub(crate) fn double(&self, id: &str, answer: impl Fn(Value) -> Result<Value> + Send + Sync + 'static) {
        let handler = move |payload, _| futures::future::ready(answer(payload));
        self.bus.register(FunctionDef::ad_hoc(id, handler)).unwrap();
    }

    /// Polls until there is a value.
    pub(crate) async fn eventually<T>(&self, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
        for _ in 0..1_000 {
            if let Some(value) = probe().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("did not happen in time")
    }
}

struct Nothing;

impl Transport for Nothing {
    fn start(&self, _: Bus) -> CallFuture<()> {
        futures::future::ready(Ok(())).boxed()
    }

    fn call(&self, invocation: Invocation) -> CallFuture {
        let error = Error::FunctionNotFound(invocation.function_id.to_string());
        futures::future::ready(Err(error)).boxed()
    }

    fn enqueue(&self, _: &str, invocation: Invocation) -> CallFuture {
        self.call(invocation)
    }

    fn bind(&self, _: TriggerSpec) -> CallFuture<()> {
        futures::future::ready(Ok(())).boxed()
    }

    fn commit(&self, _: Vec<Write>) -> CallFuture<()> {
        futures::future::ready(Ok(())).boxed()
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn info(&self) -> EngineInfo {
        EngineInfo {
            mode: "embedded",
            place: "nowhere".into(),
            problem: None,
        }
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        futures::future::ready(()).boxed()
    }
}
