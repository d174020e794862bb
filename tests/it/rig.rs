//! A bus with chosen workers over no engine at all: only what is registered here exists, so that time can be paused.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use harness::bus::{
    Bus, CallContext, CallFuture, CallOptions, EngineInfo, FunctionDef, Invocation, Ports, Transport,
    TriggerSpec, WorkerDef, Write,
};
use harness::clock::ManualClock;
use harness::config::MapEnv;
use harness::error::{Error, Result};
use harness::ids::CountedIds;
use harness::telemetry::Metrics;
use serde_json::Value;

/// Wall time at the start, Unix milliseconds.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

pub(crate) struct Rig(pub(crate) Bus);

impl Rig {
    pub(crate) fn alone() -> Self {
        let ports = Ports {
            clock: Arc::new(ManualClock::at(NOW_MS)),
            ids: Arc::new(CountedIds::default()),
            env: Arc::new(MapEnv::default()),
            config: Arc::default(),
            metrics: Metrics::new(),
        };
        Self(Bus::new(ports, Arc::new(Nothing)))
    }

    pub(crate) async fn host(self, worker: WorkerDef) -> Self {
        self.0.host(vec![worker]).await.unwrap();
        self
    }

    pub(crate) async fn call(&self, id: &str, payload: Value) -> Result<Value> {
        let options = CallOptions::default();
        self.0.invoke(&CallContext::default(), id, payload, options).await
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
        self.0.register(FunctionDef::ad_hoc(id, handler)).unwrap();
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
