//! The transport to an iii engine: against the embedded engine behind its listener, and against one that misbehaves.

mod bad_days;
mod basics;
mod channels;
mod names;
mod program;
mod restarts;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use harness::bus::embedded::listener::ListenOptions;
use harness::bus::embedded::{Embedded, EmbeddedOptions};
use harness::bus::iii::{Iii, IiiOptions};
use harness::bus::{Bus, CallContext, CallOptions, FunctionDef, Ports, WorkerDef};
use harness::clock::SystemClock;
use harness::config::{Config, MapEnv};
use harness::error::Result;
use harness::ids::RandomIds;
use harness::telemetry::Metrics;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::support::engine::within;
use crate::support::fake_engine::FakeEngine;

fn ports() -> Ports {
    Ports {
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        env: Arc::new(MapEnv::default()),
        config: Arc::new(ArcSwap::from_pointee(Config::default())),
        metrics: Metrics::new(),
    }
}

/// An engine in this process that others reach over a socket.
struct Served {
    bus: Bus,
    address: SocketAddr,
}

impl Served {
    async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), None).await
    }

    async fn at(address: SocketAddr, data_dir: Option<PathBuf>) -> Self {
        let embedded = Embedded::open(EmbeddedOptions {
            worker_name: "engine-test".to_owned(),
            data_dir,
            ..EmbeddedOptions::default()
        })
        .unwrap();
        let bus = Bus::new(ports(), Arc::<Embedded>::clone(&embedded));
        assert_eq!(bus.host(Vec::new()).await.unwrap(), Vec::<String>::new());
        let socket = TcpListener::bind(address).await.unwrap();
        let address = embedded.listen(socket, ListenOptions::default()).unwrap();
        Self { bus, address }
    }

    async fn stop(self) {
        assert!(self.bus.shutdown(Duration::from_secs(5)).await);
    }

    fn options(&self) -> IiiOptions {
        options(self.address)
    }
}

fn options(address: SocketAddr) -> IiiOptions {
    IiiOptions {
        url: format!("ws://{address}"),
        ..IiiOptions::default()
    }
}

/// A program on an engine elsewhere.
pub(crate) async fn join(options: IiiOptions, workers: Vec<WorkerDef>) -> Bus {
    let bus = Bus::new(ports(), Iii::new(options));
    assert_eq!(within(bus.host(workers)).await.unwrap(), Vec::<String>::new());
    bus
}

/// A program on a fake engine, with a function `test::echo`.
async fn echo_on(engine: &FakeEngine, options: IiiOptions) -> Bus {
    let bus = Bus::new(ports(), Iii::new(options));
    bus.register(echo("test::echo")).unwrap();
    within(bus.host(Vec::new())).await.unwrap();
    assert!(engine.hosts("harness", "test::echo"));
    bus
}

fn echo(id: &str) -> FunctionDef {
    FunctionDef::ad_hoc(id, |payload, _| async move { Ok(payload) })
}

async fn call(bus: &Bus, id: &str, payload: Value) -> Result<Value> {
    call_within(bus, id, payload, 10_000).await
}

async fn call_within(bus: &Bus, id: &str, payload: Value, limit_ms: u64) -> Result<Value> {
    bus.invoke(
        &CallContext::default(),
        id,
        payload,
        CallOptions::timeout_ms(limit_ms),
    )
    .await
}

/// Polls until something is true.
async fn eventually(probe: impl Fn() -> bool) {
    within(async {
        while !probe() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// What is wrong with the engine, as `/readyz` shows it.
fn problem(bus: &Bus) -> Option<String> {
    bus.transport().info().problem
}
