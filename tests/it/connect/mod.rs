//! The transport to an iii engine, against the embedded one behind its listener.

mod basics;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use harness::bus::embedded::listener::ListenOptions;
use harness::bus::embedded::{Embedded, EmbeddedOptions};
use harness::bus::iii::{Iii, IiiOptions};
use harness::bus::{Bus, Ports, WorkerDef};
use harness::clock::SystemClock;
use harness::config::{Config, MapEnv};
use harness::ids::RandomIds;
use harness::telemetry::Metrics;
use tokio::net::TcpListener;

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
        Self::at("127.0.0.1:0").await
    }

    async fn at(address: &str) -> Self {
        let embedded = Embedded::open(EmbeddedOptions {
            worker_name: "engine-test".to_owned(),
            ..EmbeddedOptions::default()
        })
        .unwrap();
        let bus = Bus::new(ports(), Arc::<Embedded>::clone(&embedded));
        assert_eq!(bus.host(Vec::new()).await.unwrap(), Vec::<String>::new());
        let socket = TcpListener::bind(address).await.unwrap();
        let address = embedded.listen(socket, ListenOptions::default()).unwrap();
        Self { bus, address }
    }

    fn options(&self) -> IiiOptions {
        IiiOptions {
            url: format!("ws://{}", self.address),
            ..IiiOptions::default()
        }
    }
}

/// A program on an engine elsewhere.
async fn join(options: IiiOptions, workers: Vec<WorkerDef>) -> Bus {
    let bus = Bus::new(ports(), Iii::new(options));
    assert_eq!(bus.host(workers).await.unwrap(), Vec::<String>::new());
    bus
}
