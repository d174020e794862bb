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
use std::time::Duration;

use harness::bus::iii::{Iii, IiiOptions};
use harness::bus::{Bus, CallContext, CallOptions, FunctionDef, WorkerDef};
use harness::error::Result;
use serde_json::Value;

use crate::support::engine::{ports, served, within};
use crate::support::fake_engine::FakeEngine;

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
        let (bus, address) = served(address, data_dir).await;
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
