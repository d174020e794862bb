//! The in-process engine (contract 00 §16, design §3).
//!
//! ```text
//!  Bus ─► Embedded (Transport) ─► FUNCTIONS: id → handler ─► store ─► after COMMIT ─► triggers ─► lanes ─► handlers
//! ```
//!
//! A handler is a plain function that *queues* its writes while it is called and answers with a future, so that the
//! order of calls is the order of writes. Invariants: nothing polls; a write without a subscriber costs nothing beyond
//! the write; the engine holds the bus weakly. Not here: sockets (the listener), anything a function of the program means.
//!
//! To add functions: a `FUNCTIONS` table in a file of its own and one line in [`builtins`]. To add a trigger type: a
//! [`trigger::Provider`] and one line in [`Core::new`]. To add tables: a migration step in `store/schema.rs`.

pub(in crate::bus::embedded) mod configuration;
mod cron;
mod engine;
mod handler;
mod introspect;
pub mod listener;
pub mod ops;
pub mod peer;
mod pubsub;
mod queue;
mod run;
mod state;
pub mod store;
mod stream;
mod stream_keeper;
pub mod trigger;
mod write;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpListener;

use super::{
    Bus, CallContext, CallFuture, EngineInfo, FunctionDef, Invocation, Transport, TriggerSpec, WeakBus,
    Write as BatchWrite,
};
use crate::error::{Error, Result};
pub(in crate::bus::embedded) use handler::{answer, carried, failed, input, input_and, with_code};
use listener::ListenOptions;
use peer::Peers;
use store::{Durability, Store, StoreOptions};
use trigger::{Owner, Triggers};

/// How the embedded engine is opened (contract 12, section `engine`).
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Directory of the store; `None` keeps everything in memory, for tests.
    pub data_dir: Option<PathBuf>,
    /// When a write counts as done.
    pub durability: Durability,
    /// Most items kept per stream group.
    pub stream_items_per_group: u64,
    /// Limit per subscriber of one event, and of its condition.
    pub trigger_timeout: Duration,
    /// What the events that wait for one subscriber may keep in memory, in bytes; then the newest are dropped.
    pub waiting_event_bytes: usize,
    /// Name under which the program is listed as a worker.
    pub worker_name: String,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            data_dir: None,
            durability: Durability::Full,
            stream_items_per_group: 10_000,
            trigger_timeout: Duration::from_secs(30),
            waiting_event_bytes: 256 * 1024 * 1024,
            worker_name: "harness".to_owned(),
        }
    }
}

/// The engine behind the bus.
#[derive(Clone)]
pub struct Embedded(Arc<Core>);

/// What the parts of the engine share.
pub(in crate::bus::embedded) struct Core {
    pub(in crate::bus::embedded) options: EmbeddedOptions,
    pub(in crate::bus::embedded) store: Store,
    pub(in crate::bus::embedded) triggers: Triggers,
    pub(in crate::bus::embedded) peers: Peers,
    pub(in crate::bus::embedded) configuration: Arc<configuration::Configuration>,
    pub(in crate::bus::embedded) cron: Arc<cron::Cron>,
    pub(in crate::bus::embedded) pubsub: Arc<pubsub::PubSub>,
    pub(in crate::bus::embedded) queues: Arc<queue::Queues>,
    pub(in crate::bus::embedded) listener: listener::Hub,
    functions: HashMap<&'static str, &'static Builtin>,
    bus: OnceLock<WeakBus>,
    /// When `engine::functions-available` fires.
    functions_event: engine::FunctionsEvent,
}

/// A function of the engine itself.
pub(in crate::bus::embedded) struct Builtin {
    /// Id on the bus.
    pub id: &'static str,
    /// Published description.
    pub description: &'static str,
    /// The part of the engine it belongs to, listed as a worker.
    pub part: &'static str,
    /// Does what must be done in call order at once, answers later.
    pub handler: fn(&Arc<Core>, Invocation) -> CallFuture,
}

/// All functions of the engine, one line per file.
fn builtins() -> impl Iterator<Item = &'static Builtin> {
    [
        configuration::FUNCTIONS,
        engine::FUNCTIONS,
        introspect::FUNCTIONS,
        pubsub::FUNCTIONS,
        queue::FUNCTIONS,
        state::FUNCTIONS,
        stream::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
}

impl Embedded {
    /// Opens the store. Nothing runs yet; [`Transport::start`] does that.
    ///
    /// # Errors
    /// [`Error::Unavailable`] naming the directory when it cannot be used.
    pub fn open(options: EmbeddedOptions) -> Result<Arc<Self>> {
        let store_options = StoreOptions {
            durability: options.durability,
            stream_items_per_group: options.stream_items_per_group,
        };
        let store = match &options.data_dir {
            Some(directory) => Store::open(directory, &store_options)?,
            None => Store::in_memory(&store_options)?,
        };
        Ok(Arc::new(Self(Arc::new(Core::new(options, store)))))
    }

    /// The store, for checks and benches.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Adds an outside worker; what a listener does for each connection.
    pub fn connect(&self, link: Arc<dyn peer::Link>) -> peer::PeerHandle {
        peer::PeerHandle::connect(&self.0, link)
    }

    /// Serves outside workers on a bound socket until the engine ends; answers the real address. Call it once the bus
    /// hosts its workers: who connects then finds every function.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the socket does not know its address.
    pub fn listen(&self, socket: TcpListener, options: ListenOptions) -> Result<SocketAddr> {
        listener::serve(&self.0, socket, options)
    }

    /// Connections of outside workers that are open now.
    pub fn workers_connected(&self) -> usize {
        self.0.listener.connected()
    }

    /// Takes a binding away. False: there was none.
    pub fn unbind(&self, id: &str) -> bool {
        self.0.triggers.unbind(id)
    }

    /// Events that were dropped because a subscriber could not keep up.
    pub fn dropped_events(&self) -> u64 {
        self.0.triggers.dropped()
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded")
            .field("store", &self.0.store)
            .finish_non_exhaustive()
    }
}

impl Core {
    fn new(options: EmbeddedOptions, store: Store) -> Self {
        let triggers = Triggers::new();
        triggers.offer("state", state::TRIGGER, triggers.state());
        triggers.offer("stream", stream::TRIGGER, triggers.stream());
        let configuration: Arc<configuration::Configuration> = Arc::default();
        triggers.offer(
            "configuration",
            configuration::TRIGGER,
            Arc::clone(&configuration) as _,
        );
        let cron: Arc<cron::Cron> = Arc::default();
        triggers.offer("cron", cron::TRIGGER, Arc::clone(&cron) as _);
        let pubsub: Arc<pubsub::PubSub> = Arc::default();
        triggers.offer("subscribe", pubsub::TRIGGER, Arc::clone(&pubsub) as _);
        let queues = Arc::new(queue::Queues::new());
        triggers.offer("durable:subscriber", queue::TRIGGER, Arc::clone(&queues) as _);
        for (id, description) in trigger::PASSIVE {
            triggers.offer(id, description, Arc::new(trigger::Passive));
        }
        Self {
            options,
            store,
            triggers,
            peers: Peers::default(),
            configuration,
            cron,
            pubsub,
            queues,
            listener: listener::Hub::default(),
            functions: builtins().map(|builtin| (builtin.id, builtin)).collect(),
            bus: OnceLock::new(),
            functions_event: engine::FunctionsEvent::default(),
        }
    }

    /// The bus, while it lives.
    pub(in crate::bus::embedded) fn bus(&self) -> Result<Bus> {
        self.bus.get().and_then(WeakBus::upgrade).ok_or(Error::Stopped)
    }

    /// Calls a function for the engine itself or an outside worker: outside workers first, then the program, then the
    /// engine (contract 00 §16).
    pub(in crate::bus::embedded) fn invoke(self: &Arc<Self>, invocation: Invocation) -> CallFuture {
        if let Some(link) = self.peers.host_of(&invocation.function_id) {
            return link.call(invocation);
        }
        match self.bus() {
            Ok(bus) if bus.hosts(&invocation.function_id) => async move {
                bus.serve(&invocation.function_id, invocation.payload, invocation.context)
                    .await
            }
            .boxed(),
            Ok(_) => self.builtin(invocation),
            Err(error) => failed(error),
        }
    }

    /// Calls the handler of a binding. The program's own bindings reach its own functions, whoever else registered the id.
    pub(in crate::bus::embedded) fn invoke_for(
        self: &Arc<Self>,
        owner: &Owner,
        invocation: Invocation,
    ) -> CallFuture {
        match self.bus() {
            Ok(bus) if *owner == Owner::Program && bus.hosts(&invocation.function_id) => async move {
                bus.serve(&invocation.function_id, invocation.payload, invocation.context)
                    .await
            }
            .boxed(),
            Ok(_) | Err(_) => self.invoke(invocation),
        }
    }

    /// Calls a function of the engine.
    fn builtin(self: &Arc<Self>, invocation: Invocation) -> CallFuture {
        match self.functions.get(invocation.function_id.as_str()) {
            Some(builtin) => (builtin.handler)(self, invocation),
            None => failed(Error::FunctionNotFound(invocation.function_id.to_string())),
        }
    }

    /// Whether it is the engine itself that answers this id now.
    pub(in crate::bus::embedded) fn answers(&self, id: &str) -> bool {
        self.functions.contains_key(id)
            && self.peers.host_of(id).is_none()
            && !self.bus().is_ok_and(|bus| bus.hosts(id))
    }

    /// Whether anybody answers this id now.
    pub(in crate::bus::embedded) fn knows(&self, id: &str) -> bool {
        self.peers.host_of(id).is_some()
            || self.bus().is_ok_and(|bus| bus.hosts(id))
            || self.functions.contains_key(id)
    }
}

impl Transport for Embedded {
    fn start(&self, bus: Bus) -> CallFuture<()> {
        let fresh = self.0.bus.set(bus.downgrade()).is_ok();
        if !fresh {
            return failed(Error::Unavailable("the engine was started before".into()));
        }
        self.0.peers.start(&bus);
        self.0.triggers.start(&self.0);
        self.0.cron.start(&self.0);
        let core = Arc::clone(&self.0);
        async move {
            core.configuration.start(&core).await?;
            core.queues.start(&core).await
        }
        .boxed()
    }

    fn call(&self, invocation: Invocation) -> CallFuture {
        if self.0.functions.contains_key(invocation.function_id.as_str()) {
            return self.0.builtin(invocation);
        }
        match self.0.peers.host_of(&invocation.function_id) {
            Some(link) => link.call(invocation),
            None => failed(Error::FunctionNotFound(invocation.function_id.to_string())),
        }
    }

    fn registered(&self, _: FunctionDef) {
        engine::functions_changed(&self.0);
    }

    fn unregistered(&self, _: &str) {
        engine::functions_changed(&self.0);
    }

    fn enqueue(&self, queue: &str, invocation: Invocation) -> CallFuture {
        queue::enqueue(&self.0, queue, None, invocation)
    }

    fn bind(&self, trigger: TriggerSpec) -> CallFuture<()> {
        futures::future::ready(self.0.triggers.bind(&self.0, trigger, Owner::Program, 0)).boxed()
    }

    fn commit(&self, writes: Vec<BatchWrite>) -> CallFuture<()> {
        match write::commit(&self.0, writes) {
            Ok(pending) => async move { pending.await.map(|_| ()) }.boxed(),
            Err(error) => failed(error),
        }
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn info(&self) -> EngineInfo {
        EngineInfo {
            mode: "embedded",
            place: self.0.store.place().to_owned(),
            problem: self.0.store.problem(),
        }
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        let core = Arc::clone(&self.0);
        async move {
            core.listener.stop().await;
            let closed = tokio::task::spawn_blocking(move || core.store.close()).await;
            if let Err(error) = closed {
                tracing::error!(%error, "the store did not close");
            }
        }
        .boxed()
    }
}
