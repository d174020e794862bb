//! The iii engine, over the official SDK (contract 00 §1, §14, §15).
//!
//! ```text
//!  Bus ─► Iii (Transport) ─► call ─► SDK ═════════ one WebSocket ═════════ engine
//!   ▲                                 │ its own thread
//!   └──── serve, on our runtime ◄─────┘
//! ```
//!
//! The SDK holds the socket, frames, replays registrations and reconnects. What it does not do is done here: calls fail
//! at once when the link drops, handlers leave its thread, duplicate ids never reach it, results are held back for the
//! race of contract 00 §2.7. `docs/ARCHITECTURE.md` has the whole list. Only this folder names the SDK.

mod call;
mod channels;
mod error;
mod greet;
mod link;
mod probe;
mod register;
mod serve;
mod stand_by;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::FutureExt;
use futures::future::BoxFuture;
use iii_helpers::observability::OtelConfig;
use iii_sdk::runtime::WorkerMetadata;
use iii_sdk::{IIIClient, InitOptions, TelemetryOptions, TriggerAction, WorkerIdentityMode, register_worker};
use metrics::Counter;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::lease::{self, Lease};
use super::{
    Bus, CallFuture, ChannelReader, ChannelWriter, EngineInfo, FunctionDef, Invocation, Link, Transport,
    TriggerSpec, WeakBus, Write, commit_apart,
};
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::model::api::provider::ChannelRef;

pub use greet::{Greeting, greet};

/// How the engine is joined (contract 12, section `engine`).
#[derive(Debug, Clone)]
pub struct IiiOptions {
    /// Address, `ws://…` or `wss://…`.
    pub url: String,
    /// Name under which the program is listed as a worker.
    pub worker_name: String,
    /// One sentence about the program, listed with it.
    pub description: String,
    /// Earliest answer to an outside call after its arrival; zero answers at once (contract 00 §2.7).
    pub result_holdback: Duration,
    /// How often the engine must show that it is alive, and how long it may take for that. The SDK itself notices a
    /// half-open socket after a minute.
    pub heartbeat: Duration,
    /// How long another process waits for this one when it is gone without a word.
    pub lease: Duration,
    /// Shown to the engine as `authorization: Bearer <token>`.
    pub token: Option<Secret>,
}

impl Default for IiiOptions {
    fn default() -> Self {
        Self {
            url: crate::config::DEFAULT_ENGINE_URL.to_owned(),
            worker_name: "harness".to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
            result_holdback: Duration::from_millis(2),
            heartbeat: Duration::from_secs(15),
            lease: lease::TTL,
            token: None,
        }
    }
}

impl IiiOptions {
    /// The address for people: without its query, which may hold a token.
    fn shown_url(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }
}

/// The connection to an iii engine.
#[derive(Clone)]
pub struct Iii(Arc<Core>);

/// What the parts share.
struct Core {
    options: IiiOptions,
    /// Absent while this process does not serve the engine.
    client: ArcSwapOption<IIIClient>,
    /// The id under which it does.
    owned: watch::Sender<Option<Arc<str>>>,
    lease: Mutex<Option<Lease>>,
    bus: OnceLock<WeakBus>,
    link: link::Tracker,
    registrations: register::Registrations,
    findings: probe::Findings,
    room: call::Room,
    /// Round trips to the engine that somebody waited for.
    round_trips: OnceLock<Counter>,
    /// What runs beside the tasks of the bus, such as calls whose callers are gone: the SDK forgets one when it ends.
    tasks: TaskTracker,
}

impl Drop for Core {
    /// The SDK's thread goes on by itself, and would join whatever listens at the address next under our name.
    fn drop(&mut self) {
        if let Some(client) = self.client.swap(None) {
            // It waits for nothing.
            client.shutdown_async().now_or_never();
        }
    }
}

impl Iii {
    /// Nothing is connected yet; [`Transport::start`] does that.
    pub fn new(options: IiiOptions) -> Arc<Self> {
        Arc::new(Self(Arc::new(Core {
            options,
            client: ArcSwapOption::empty(),
            owned: watch::Sender::new(None),
            lease: Mutex::new(None),
            bus: OnceLock::new(),
            link: link::Tracker::default(),
            registrations: register::Registrations::default(),
            findings: probe::Findings::default(),
            room: call::Room::default(),
            round_trips: OnceLock::new(),
            tasks: TaskTracker::new(),
        })))
    }
}

impl std::fmt::Debug for Iii {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iii")
            .field("url", &self.0.options.shown_url())
            .finish_non_exhaustive()
    }
}

impl Core {
    fn client(&self) -> Result<Arc<IIIClient>> {
        self.client.load_full().ok_or(Error::Disconnected)
    }

    /// The bus, while it lives.
    fn bus(&self) -> Result<Bus> {
        self.bus.get().and_then(WeakBus::upgrade).ok_or(Error::Stopped)
    }

    /// Somebody waits for the engine once more.
    fn count_round_trip(&self) {
        if let Some(counter) = self.round_trips.get() {
            counter.increment(1);
        }
    }

    /// Opens the connection; the SDK keeps it from now on.
    fn connect(&self) -> IIIClient {
        let IiiOptions {
            url,
            worker_name,
            description,
            token,
            ..
        } = &self.options;
        let metadata = WorkerMetadata {
            runtime: "rust".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: worker_name.clone(),
            os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            description: Some(description.clone()),
            pid: Some(std::process::id()),
            telemetry: Some(TelemetryOptions {
                language: Some("rust".to_owned()),
                project_name: Some(env!("CARGO_PKG_NAME").to_owned()),
                framework: None,
            }),
            isolation: None,
            namespace: None,
        };
        let options = InitOptions {
            metadata: Some(metadata),
            headers: token
                .as_ref()
                .map(|token| HashMap::from([("authorization".to_owned(), greet::bearer(token))])),
            // The SDK's telemetry is one for the whole process and attaches whole payloads to spans.
            otel: Some(OtelConfig {
                enabled: Some(false),
                ..OtelConfig::default()
            }),
            namespace: None,
            identity: WorkerIdentityMode::Explicit,
        };
        register_worker(url, options)
    }
}

impl Transport for Iii {
    fn start(&self, bus: Bus) -> CallFuture<()> {
        let core = Arc::clone(&self.0);
        async move { link::start(core, bus).await }.boxed()
    }

    fn call(&self, invocation: Invocation) -> CallFuture {
        self.call_within(invocation, call::DEFAULT_LIMIT)
    }

    fn call_within(&self, invocation: Invocation, limit: Duration) -> CallFuture {
        self.0.count_round_trip();
        call::call(&self.0, invocation, None, limit)
    }

    fn notify(&self, invocation: Invocation) -> CallFuture {
        call::call(
            &self.0,
            invocation,
            Some(TriggerAction::Void),
            call::DEFAULT_LIMIT,
        )
    }

    fn enqueue(&self, queue: &str, invocation: Invocation) -> CallFuture {
        let action = TriggerAction::Enqueue {
            queue: queue.to_owned(),
        };
        self.0.count_round_trip();
        call::call(&self.0, invocation, Some(action), call::DEFAULT_LIMIT)
    }

    fn registered(&self, function: FunctionDef) {
        if let Ok(client) = self.0.client() {
            register::function(&self.0, &client, &function);
        }
    }

    fn unregistered(&self, id: &str) {
        self.0.registrations.forget(id);
    }

    fn bind(&self, trigger: TriggerSpec) -> CallFuture<()> {
        let bound = self
            .0
            .client()
            .and_then(|client| self.0.registrations.bind(&client, trigger));
        futures::future::ready(bound).boxed()
    }

    fn settle(&self) -> CallFuture<()> {
        let core = Arc::clone(&self.0);
        async move { probe::take_stock(&core).await }.boxed()
    }

    fn commit(&self, writes: Vec<Write>) -> CallFuture<()> {
        let core = Arc::clone(&self.0);
        // The last write waits for the others.
        for _ in 0..writes.len().min(2) {
            core.count_round_trip();
        }
        commit_apart(
            move |invocation| call::call(&core, invocation, None, call::DEFAULT_LIMIT),
            writes,
        )
    }

    fn open_writer(&self, channel: &ChannelRef) -> CallFuture<ChannelWriter> {
        channels::writer(&self.0, channel)
    }

    fn open_reader(&self, channel: &ChannelRef) -> CallFuture<ChannelReader> {
        channels::reader(&self.0, channel)
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    fn info(&self) -> EngineInfo {
        EngineInfo {
            mode: "connect",
            place: self.0.options.shown_url().to_owned(),
            problem: self.0.problem(),
        }
    }

    fn missing(&self) -> Vec<&'static str> {
        self.0.missing()
    }

    fn ownership(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.0.owned.subscribe()
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.0.link.subscribe()
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        let core = Arc::clone(&self.0);
        async move { link::stop(&core).await }.boxed()
    }
}
