//! Outside workers: who is connected, what they host. The socket is somebody else's; here a worker is a [`Link`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use serde_json::json;

use super::Core;
use super::trigger::{Event, Owner};
use crate::bus::{Bus, CallContext, CallFuture, FunctionInfo, Invocation, TriggerSpec};
use crate::error::Result;
use crate::model::FunctionId;

/// The way to a connected worker.
pub trait Link: Send + Sync + 'static {
    /// Calls a function of the worker. Fails with [`crate::error::Error::Stopped`] when the worker goes away meanwhile.
    fn call(&self, invocation: Invocation) -> CallFuture;
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
    hosts: HashMap<FunctionId, Arc<str>>,
}

struct Peer {
    link: Arc<dyn Link>,
    facts: WorkerFacts,
    connected_at_ms: i64,
    functions: BTreeMap<FunctionId, FunctionInfo>,
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
        if inner.hosts.is_empty() {
            return None;
        }
        inner
            .peers
            .get(inner.hosts.get(id)?)
            .map(|peer| Arc::clone(&peer.link))
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
                .filter(|f| inner.hosts.get(&f.id) == Some(id))
                .cloned()
                .collect(),
        };
        inner.peers.iter().map(view).collect()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A connection's own handle; what it registered goes when this is dropped.
pub struct PeerHandle {
    core: Arc<Core>,
    id: Arc<str>,
}

impl PeerHandle {
    pub(super) fn connect(core: &Arc<Core>, link: Arc<dyn Link>) -> Self {
        let (id, connected_at_ms) = match core.bus() {
            Ok(bus) => (bus.uuid(), bus.now_ms()),
            Err(_) => (String::new(), 0),
        };
        let id: Arc<str> = id.into();
        let facts = WorkerFacts {
            runtime: "unknown".to_owned(),
            ..WorkerFacts::default()
        };
        let peer = Peer {
            link,
            facts,
            connected_at_ms,
            functions: BTreeMap::new(),
        };
        core.peers
            .change(|inner| inner.peers.insert(Arc::clone(&id), peer));
        announce(core, "worker_connected", &id);
        Self {
            core: Arc::clone(core),
            id,
        }
    }

    /// Id of the connection.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Calls anything, as this worker would.
    pub fn call(&self, invocation: Invocation) -> CallFuture {
        self.core.invoke(invocation)
    }

    /// `engine::workers::register`.
    pub fn describe(&self, facts: WorkerFacts) {
        self.core.peers.change(|inner| {
            if let Some(peer) = inner.peers.get_mut(&self.id) {
                peer.facts = facts;
            }
        });
        announce(&self.core, "worker_metadata_updated", &self.id);
    }

    /// Hosts a function from now on; the last one to register an id is called.
    pub fn register_function(&self, function: FunctionInfo) {
        self.core.peers.change(|inner| {
            let id = function.id.clone();
            if let Some(other) = inner.hosts.insert(id.clone(), Arc::clone(&self.id))
                && other != self.id
            {
                tracing::warn!(function = %id, "another worker takes over this id");
            }
            if let Some(peer) = inner.peers.get_mut(&self.id) {
                peer.functions.insert(id, function);
            }
        });
        super::engine::functions_changed(&self.core);
    }

    /// Hosts it no more.
    pub fn unregister_function(&self, id: &str) {
        self.core.peers.change(|inner| {
            if let Some(peer) = inner.peers.get_mut(&self.id) {
                peer.functions.remove(id);
            }
            if inner.hosts.get(id).is_some_and(|host| *host == self.id) {
                inner.hosts.remove(id);
            }
        });
        super::engine::functions_changed(&self.core);
    }

    /// Binds a trigger that goes with the connection.
    ///
    /// # Errors
    /// Code `trigger_registration_failed`.
    pub fn bind(&self, spec: TriggerSpec) -> Result<()> {
        self.core
            .triggers
            .bind(&self.core, spec, Owner::Peer(Arc::clone(&self.id)))
    }

    /// Takes a binding away. False: there was none.
    pub fn unbind(&self, id: &str) -> bool {
        self.core.triggers.unbind(id)
    }
}

impl Drop for PeerHandle {
    fn drop(&mut self) {
        self.core.peers.change(|inner| {
            inner.peers.remove(&self.id);
            // An earlier host is not restored, but the program's own functions come back by themselves.
            inner.hosts.retain(|_, host| *host != self.id);
        });
        self.core
            .triggers
            .unbind_owner(&Owner::Peer(Arc::clone(&self.id)));
        announce(&self.core, "worker_disconnected", &self.id);
        super::engine::functions_changed(&self.core);
    }
}

/// Fires `engine::workers-available` (contract 00 §3.4).
pub(super) fn announce(core: &Core, event: &'static str, worker_id: &str) {
    let payload = json!({ "event": event, "worker_id": worker_id });
    let event = Event::new(CallContext::default(), move || Ok(payload.clone()));
    core.triggers.broadcast("engine::workers-available", &event);
}

impl std::fmt::Debug for PeerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerHandle")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
