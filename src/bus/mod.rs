//! The one door through which everything calls everything (contract 00).
//!
//! ```text
//!  Cx::call ─► Bus ─► hosted here? ─yes─► in-process dispatch (typed, no JSON when both ends agree on the type)
//!                          └─────no─► Transport ─► embedded engine, or the iii engine
//! ```
//!
//! Invariants: every call has a deadline; a panic of a handler is an error of that call; a handler whose caller went
//! away or timed out still runs to its end, as it would behind the engine, unless it watches its cancel token; an id is
//! registered once. Deliberately not here: anything that knows what a function means.

mod apart;
mod batch;
pub mod billing;
mod call;
pub mod channel;
pub mod claim;
mod context;
mod cx;
mod decode;
pub mod embedded;
mod function;
mod hold;
mod host;
pub mod iii;
pub mod lease;
mod listens;
mod ports;
pub mod provider;
mod registry;
mod scope;
mod socket;
mod state_tap;
mod stream;
mod transport;
mod worker;

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::api::Contract;

pub use apart::commit_apart;
pub use batch::{Batch, Part};
pub use channel::{ChannelOptions, ChannelPair, ChannelReader, ChannelWriter, Frame};
pub use context::{Baggage, CallContext, CallOptions};
pub use cx::Cx;
pub use decode::{MAX_DEPTH, MAX_PAYLOAD_BYTES, decode, dismantle, plain, strip_engine_members, unwrap_body};
pub use function::{Function, FunctionDef, FunctionInfo, Payload};
pub use hold::Hold;
pub use ports::Ports;
pub use scope::Scope;
pub use state_tap::StateTap;
pub use stream::{StreamItem, StreamTap};
pub use transport::{EngineInfo, Invocation, Link, Transport, TriggerSpec, Write};
pub use worker::{Hook, Repeated, Worker, WorkerDef};

/// Cheap handle to the bus of this process.
#[derive(Clone)]
pub struct Bus(Arc<Inner>);

/// A handle that does not keep the bus alive; what a transport holds.
#[derive(Clone)]
pub struct WeakBus(Weak<Inner>);

struct Inner {
    ports: Ports,
    registry: registry::Registry,
    transport: Arc<dyn Transport>,
    channels: channel::Channels,
    taps: stream::Taps,
    state_taps: state_tap::StateTaps,
    holds: hold::Holds,
    listens: listens::Listens,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    runtime: Handle,
    epoch: String,
}

impl Bus {
    /// A bus over a transport. Must be called inside a tokio runtime, which then runs everything the bus spawns.
    pub fn new(ports: Ports, transport: Arc<dyn Transport>) -> Self {
        let epoch = ports.ids.uuid();
        Self(Arc::new(Inner {
            registry: registry::Registry::new(ports.metrics.clone()),
            channels: channel::Channels::default(),
            taps: stream::Taps::default(),
            state_taps: state_tap::StateTaps::default(),
            holds: hold::Holds::default(),
            listens: listens::Listens::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            runtime: Handle::current(),
            ports,
            transport,
            epoch,
        }))
    }

    /// Calls a function by its contract.
    pub async fn call<C: Contract>(
        &self,
        context: &CallContext,
        request: C::Request,
        options: CallOptions,
    ) -> Result<C::Response> {
        call::typed::<C>(self, context, C::ID, request, options).await
    }

    /// Calls a function that has the shapes of a contract under another id, such as `provider::<id>::stream`.
    pub async fn call_named<C: Contract>(
        &self,
        context: &CallContext,
        id: &str,
        request: C::Request,
        options: CallOptions,
    ) -> Result<C::Response> {
        call::typed::<C>(self, context, id, request, options).await
    }

    /// Calls a function by id with JSON.
    pub async fn invoke(
        &self,
        context: &CallContext,
        id: &str,
        payload: Value,
        options: CallOptions,
    ) -> Result<Value> {
        call::json(self, context, id, payload, options).await
    }

    /// Runs a function of this process for an outside caller or a trigger; never goes to the transport.
    ///
    /// # Errors
    /// [`Error::FunctionNotFound`] when it is not hosted here, or what the function answers.
    pub async fn serve(&self, id: &str, payload: Value, context: CallContext) -> Result<Value> {
        call::serve(self, id, payload, context).await
    }

    /// Calls of [`serve`](Self::serve) that are not over.
    pub fn served_now(&self) -> usize {
        self.0.registry.served_now()
    }

    /// Fire and forget: nothing is answered, a missing function included. Writes to the engine keep the order of these
    /// calls.
    pub fn notify(&self, context: &CallContext, id: &str, payload: Value) {
        let work = call::begin(self, context, id, payload);
        let id = id.to_owned();
        self.spawn(async move {
            if let Err(error) = work.await {
                tracing::debug!(function = %id, %error, "notification failed");
            }
        });
    }

    /// Puts a job on a named queue; answers the receipt once it is stored.
    pub async fn enqueue(
        &self,
        context: &CallContext,
        queue: &str,
        id: &str,
        payload: Value,
    ) -> Result<Value> {
        let invocation = Invocation {
            function_id: id.into(),
            payload,
            context: context.clone(),
        };
        self.0.transport.enqueue(queue, invocation).await
    }

    /// Adds a function after the start, such as a test double.
    ///
    /// # Errors
    /// [`Error::Registration`] for an empty or a taken id.
    pub fn register(&self, function: FunctionDef) -> Result<()> {
        self.0.registry.add(function.clone())?;
        self.0.transport.registered(function);
        Ok(())
    }

    /// Takes a function away.
    pub fn unregister(&self, id: &str) {
        self.0.registry.remove(id);
        self.0.transport.unregistered(id);
    }

    /// Whether this process hosts the id.
    pub fn hosts(&self, id: &str) -> bool {
        self.0.registry.get(id).is_some()
    }

    /// Everything this process hosts, sorted by id. Cheap: [`FunctionDef::info`] makes the schemas.
    pub fn functions(&self) -> Vec<FunctionDef> {
        self.0.registry.functions()
    }

    /// Everything this process hosts with its schemas, sorted by id.
    pub fn catalog(&self) -> Vec<FunctionInfo> {
        self.functions().iter().map(FunctionDef::info).collect()
    }

    /// The engine behind the bus.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.0.transport
    }

    /// Follows the connection to the engine.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.0.transport.link()
    }

    /// A view of one state scope.
    pub fn scope<'a>(&'a self, context: &'a CallContext, name: &'a str) -> Scope<'a> {
        Scope::new(self, context, name)
    }

    /// Data channels of this process.
    pub fn channels(&self) -> &channel::Channels {
        &self.0.channels
    }

    /// Sees every item that this process itself writes to a stream, in order, without a detour over the engine.
    pub fn tap_stream(&self, stream: &str, tap: StreamTap) {
        self.0.taps.add(stream, tap);
    }

    /// Shows an item to the taps of its stream; the writer calls it in the order of its writes.
    pub fn show_to_taps(&self, item: &StreamItem) {
        self.0.taps.show(item);
    }

    /// Sees every write to scopes that begin with `prefix`, made by anybody through the engine's functions. Writes of
    /// [`Transport::commit`] are not shown: they are this program's own. Embedded only: another engine shows nothing.
    pub fn tap_state(&self, prefix: &str, tap: StateTap) {
        self.0.state_taps.add(prefix, tap);
    }

    /// The taps of a scope; the engine shows them each write to it.
    pub fn state_taps(&self, scope: &str) -> Vec<StateTap> {
        self.0.state_taps.of(scope)
    }

    /// Id of this process's life, part of the item ids it writes (contract 01 §7).
    pub fn epoch(&self) -> &str {
        &self.0.epoch
    }

    /// Time, ids, settings, environment.
    pub fn ports(&self) -> &Ports {
        &self.0.ports
    }

    /// Settings in force now.
    pub fn config(&self) -> Arc<Config> {
        self.0.ports.config.load_full()
    }

    /// Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.0.ports.clock.now_ms()
    }

    /// A fresh UUID.
    pub fn uuid(&self) -> String {
        self.0.ports.ids.uuid()
    }

    /// Starts a task that is waited for when the process stops.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn_on(task, &self.0.runtime);
    }

    /// Set when the process begins to stop.
    pub fn shutdown_token(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    /// Stops: signals everybody, waits up to `grace` for their tasks, then closes the transport. True when all ended.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.0.shutdown.cancel();
        self.0.tasks.close();
        let drained = tokio::time::timeout(grace, self.0.tasks.wait()).await.is_ok();
        self.0.transport.shutdown().await;
        drained
    }

    /// A handle that does not keep the bus alive.
    pub fn downgrade(&self) -> WeakBus {
        WeakBus(Arc::downgrade(&self.0))
    }

    fn default_timeout(&self) -> Duration {
        Duration::from_millis(self.0.ports.config.load().engine.call_timeout_ms)
    }
}

impl WeakBus {
    /// The bus, while it lives.
    pub fn upgrade(&self) -> Option<Bus> {
        self.0.upgrade().map(Bus)
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus")
            .field("epoch", &self.0.epoch)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for WeakBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WeakBus")
    }
}

/// A boxed future of a call.
pub type CallFuture<T = Value> = BoxFuture<'static, Result<T>>;

/// Turns a value into JSON; a type of ours that cannot be written is a bug of ours, reported as such.
pub fn to_json<T: serde::Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|error| Error::Unavailable(format!("cannot be written as JSON: {error}")))
}
