//! The listener of the embedded engine, with raw WebSocket frames (contract 00 §1, §2, §3, §8).

mod channels;
mod data;
mod functions;
mod limits;
mod negotiation;
mod program;
mod protocol;
mod streams;
mod triggers;
mod web;

use std::net::SocketAddr;

use harness::bus::embedded::listener::{Limits, ListenOptions};
use tokio::net::TcpListener;

use crate::support::engine::Engine;
use crate::support::ws::Ws;

/// An engine that outside workers can join.
pub(crate) struct Open {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
}

impl Open {
    pub(crate) async fn start() -> Self {
        Self::with(ListenOptions::default()).await
    }

    pub(crate) async fn limited(limits: Limits) -> Self {
        let options = ListenOptions {
            limits,
            ..ListenOptions::default()
        };
        Self::with(options).await
    }

    pub(crate) async fn with(options: ListenOptions) -> Self {
        let engine = Engine::memory().await;
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = engine.embedded.listen(socket, options).unwrap();
        Self { engine, address }
    }

    pub(crate) async fn join(&self) -> Ws {
        Ws::join(self.address).await
    }

    /// Waits until this many workers are connected.
    pub(crate) async fn workers(&self, count: usize) {
        eventually(|| self.engine.embedded.workers_connected() == count).await;
    }
}

/// Polls until something is true.
pub(crate) async fn eventually(probe: impl Fn() -> bool) {
    crate::support::engine::within(async {
        while !probe() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
}
