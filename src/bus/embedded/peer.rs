//! Outside workers: who is connected, what they host. The socket is somebody else's; here a worker is a [`Link`].

mod handle;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use serde_json::json;

use super::Core;
use super::trigger::Event;
use crate::bus::{Bus, CallContext, CallFuture, FunctionInfo, Invocation, TriggerSpec};
use crate::model::FunctionId;

pub use handle::{OfferedType, PeerHandle};

/// The way to a connected worker.
pub trait Link: Send + Sync + 'static {
    /// Calls a function of the worker. Fails with [`crate::error::Error::Stopped`] when the worker goes away meanwhile.
    fn call(&self, invocation: Invocation) -> CallFuture;

    /// Calls that the worker has yet to answer.
    fn active(&self) -> usize {
        0
    }

    /// The provider of the type refused a binding that this worker made (contract 00 §3.1).
    fn binding_refused(&self, _binding: &TriggerSpec, _why: &str) {}
}

/// What a worker says of itself (contract 00 §1.5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerFacts {
    /// Reported name.
    pub name: Option<String>,
    /// Reported description.
    pub description: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// `rust`, `node`, …
    pub runtime: String,
    /// Operating system.
    pub os: Option<String>,
    /// Process id; a worker without one is not listed.
    pub pid: Option<u32>,
    /// How it is isolated.
    pub isolation: Option<String>,
    /// Where it connects from.
    pub ip_address: Option<String>,
}

/// A connected worker, as it is listed.
#[derive(Debug, Clone)]
pub struct PeerView {
    /// Id of the connection.
    pub id: Arc<str>,
    /// What it says of itself.
    pub facts: WorkerFacts,
    /// Unix milliseconds.
    pub connected_at_ms: i64,
    /// What it hosts, sorted by id.
    pub functions: Vec<FunctionInfo>,
    /// Calls that it has yet to answer.
    pub active: usize,
}

/// All connected workers, and the program's own entry.
#[derive(Default)]
pub(super) struct Peers {
    inner: RwLock<Inner>,
    program: OnceLock<Program>,
}

/// The program as a worker.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) id: Arc<str>,
    pub(super) started_at_ms: i64,
}

#[derive(Default)]
struct Inner {
    peers: BTreeMap<Arc<str>, Peer>,
    /// The last to register an id hosts it.
    hosts: HashMap<FunctionId, Host>,
}

/// Who hosts a function, and the way to it.
struct Host {
    peer: Arc<str>,
    link: Arc<dyn Link>,
}

struct Peer {
    link: Arc<dyn Link>,
    facts: WorkerFacts,
    connected_at_ms: i64,
    functions: BTreeMap<FunctionId, Hosted>,
    /// Size of their registrations.
    bytes: usize,
}

struct Hosted {
    info: FunctionInfo,
    bytes: usize,
}

/// What a worker holds of the engine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Functions it has registered.
    pub functions: usize,
    /// Bindings it has made, parked ones too.
    pub bindings: usize,
    /// Trigger types it offers.
    pub types: usize,
    /// Size of all these registrations, in bytes.
    pub bytes: usize,
}

impl Peers {
    pub(super) fn start(&self, bus: &Bus) {
        self.program.get_or_init(|| Program {
            id: bus.uuid().into(),
            started_at_ms: bus.now_ms(),
        });
    }

    /// The program's own entry, once the engine is started.
    pub(super) fn program(&self) -> Option<&Program> {
        self.program.get()
    }

    /// The way to the worker that hosts this id.
    pub(super) fn host_of(&self, id: &str) -> Option<Arc<dyn Link>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.hosts.get(id).map(|host| Arc::clone(&host.link))
    }

    /// Whether no outside worker hosts anything.
    pub(super) fn host_nothing(&self) -> bool {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.hosts.is_empty()
    }

    /// The connected workers, in order of their connection ids. A function is shown with the worker that is called.
    pub(super) fn list(&self) -> Vec<PeerView> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let view = |(id, peer): (&Arc<str>, &Peer)| PeerView {
            id: Arc::clone(id),
            facts: peer.facts.clone(),
            connected_at_ms: peer.connected_at_ms,
            functions: peer
                .functions
                .values()
                .filter(|hosted| inner.is_host(id, &hosted.info.id))
                .map(|hosted| hosted.info.clone())
                .collect(),
            active: peer.link.active(),
        };
        inner.peers.iter().map(view).collect()
    }

    /// The way to a connected worker.
    fn link_of(&self, peer: &str) -> Option<Arc<dyn Link>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.peers.get(peer).map(|peer| Arc::clone(&peer.link))
    }

    /// How many functions a worker registered, and their size in bytes.
    fn held_by(&self, peer: &str) -> (usize, usize) {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner
            .peers
            .get(peer)
            .map_or((0, 0), |peer| (peer.functions.len(), peer.bytes))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn is_host(&self, peer: &Arc<str>, function: &str) -> bool {
        self.hosts.get(function).is_some_and(|host| host.peer == *peer)
    }
}

impl Peer {
    fn put(&mut self, id: FunctionId, function: Hosted) {
        self.take(&id);
        self.bytes += function.bytes;
        self.functions.insert(id, function);
    }

    fn take(&mut self, id: &str) {
        if let Some(function) = self.functions.remove(id) {
            self.bytes -= function.bytes;
        }
    }
}

/// Fires `engine::workers-available` (contract 00 §3.4).
pub(super) fn announce(core: &Core, event: &'static str, worker_id: &str) {
    let payload = json!({ "event": event, "worker_id": worker_id });
    let event = Event::new(CallContext::default(), 0, move || Ok(payload.clone()));
    core.triggers.broadcast("engine::workers-available", &event);
}
