//! Outside workers: who is connected, what they host. The socket is somebody else's; here a worker is a [`Link`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use serde_json::{Value, json};

use super::Core;
use super::trigger::{Event, Owner, Provider, TriggerType};
use crate::bus::{Bus, CallContext, CallFuture, FunctionInfo, Invocation, TriggerSpec};
use crate::error::{Error, Result};
use crate::model::FunctionId;

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
            bytes: 0,
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

    /// Hosts a function from now on; the last one to register an id is called. `bytes` is the size of the registration.
    pub fn register_function(&self, function: FunctionInfo, bytes: usize) {
        self.host(function, bytes, None);
    }

    /// Hosts a function that is called some other way than over the connection.
    pub fn register_function_via(&self, link: Arc<dyn Link>, function: FunctionInfo, bytes: usize) {
        self.host(function, bytes, Some(link));
    }

    fn host(&self, info: FunctionInfo, bytes: usize, link: Option<Arc<dyn Link>>) {
        self.core.peers.change(|inner| {
            let Some(peer) = inner.peers.get_mut(&self.id) else {
                return;
            };
            let id = info.id.clone();
            let host = Host {
                peer: Arc::clone(&self.id),
                link: link.unwrap_or_else(|| Arc::clone(&peer.link)),
            };
            peer.put(id.clone(), Hosted { info, bytes });
            if let Some(earlier) = inner.hosts.insert(id.clone(), host)
                && earlier.peer != self.id
            {
                tracing::warn!(function = %id, "another worker takes over this id");
            }
        });
        super::engine::functions_changed(&self.core);
    }

    /// Hosts it no more.
    pub fn unregister_function(&self, id: &str) {
        self.core.peers.change(|inner| {
            if let Some(peer) = inner.peers.get_mut(&self.id) {
                peer.take(id);
            }
            if inner.is_host(&self.id, id) {
                inner.hosts.remove(id);
            }
        });
        super::engine::functions_changed(&self.core);
    }

    /// What it holds.
    pub fn usage(&self) -> Usage {
        let (functions, bytes) = self.core.peers.held_by(&self.id);
        let held = self.core.triggers.held_by(&self.id);
        Usage {
            functions,
            bindings: held.bindings,
            types: held.types,
            bytes: bytes + held.bytes,
        }
    }

    /// Puts a job on a named queue, as this worker would.
    pub fn enqueue(&self, queue: &str, invocation: Invocation) -> CallFuture {
        super::queue::enqueue(&self.core, queue, None, invocation)
    }

    /// Binds a trigger that goes with the connection. `bytes` is the size of the registration.
    ///
    /// # Errors
    /// Code `trigger_registration_failed`; the id of a binding of the program cannot be taken over.
    pub fn bind(&self, spec: TriggerSpec, bytes: usize) -> Result<()> {
        if self.core.triggers.owner_of(&spec.id) == Some(Owner::Program) {
            let why = format!("{} is a binding of the engine's own program", spec.id);
            return Err(Error::coded("trigger_registration_failed", why));
        }
        self.core.triggers.bind(&self.core, spec, self.owner(), bytes)
    }

    /// Takes a binding away. False: there was none, or it is the program's own.
    pub fn unbind(&self, id: &str) -> bool {
        self.core.triggers.unbind_for_others(id).unwrap_or(false)
    }

    /// Offers a trigger type; live and parked bindings of it are shown to the provider at once. False: the id is the
    /// engine's own.
    pub fn offer_type(&self, id: &str, offered: OfferedType) -> bool {
        let offered = TriggerType::outside(Arc::clone(&self.id), offered);
        self.core.triggers.offer_outside(id, offered)
    }

    /// Answers for a binding of a type it provides; a refused one is taken away and its maker is told.
    pub fn judge(&self, binding: &str, verdict: std::result::Result<(), String>) {
        let why = verdict.as_ref().err().cloned().unwrap_or_default();
        let Some(refused) = self.core.triggers.judged(&self.id, binding, verdict) else {
            return;
        };
        tracing::warn!(trigger = %refused.spec.id, why, "binding refused by its provider");
        if let Owner::Peer(maker) = &refused.owner
            && let Some(link) = self.core.peers.link_of(maker)
        {
            link.binding_refused(&refused.spec, &why);
        }
    }

    /// Hosts nothing any more; the first step of a disconnect (contract 00 §1.7).
    pub fn withdraw_functions(&self) {
        self.core.peers.change(|inner| {
            if let Some(peer) = inner.peers.get_mut(&self.id) {
                peer.functions.clear();
                peer.bytes = 0;
            }
            // An earlier host is not restored, but the program's own functions come back by themselves.
            inner.hosts.retain(|_, host| host.peer != self.id);
        });
    }

    fn owner(&self) -> Owner {
        Owner::Peer(Arc::clone(&self.id))
    }
}

/// A trigger type of an outside worker.
pub struct OfferedType {
    /// What it fires on.
    pub description: String,
    /// JSON Schema of a binding's configuration.
    pub configuration_schema: Option<Value>,
    /// JSON Schema of the payload of its events.
    pub request_schema: Option<Value>,
    /// Learns of the bindings.
    pub provider: Arc<dyn Provider>,
    /// Size of the registration, in bytes.
    pub bytes: usize,
}

impl std::fmt::Debug for OfferedType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OfferedType")
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

impl Drop for PeerHandle {
    fn drop(&mut self) {
        self.withdraw_functions();
        self.core.triggers.unbind_owner(&self.owner());
        self.core.triggers.withdraw_all_of(&self.id);
        self.core.peers.change(|inner| inner.peers.remove(&self.id));
        announce(&self.core, "worker_disconnected", &self.id);
        super::engine::functions_changed(&self.core);
    }
}

/// Fires `engine::workers-available` (contract 00 §3.4).
pub(super) fn announce(core: &Core, event: &'static str, worker_id: &str) {
    let payload = json!({ "event": event, "worker_id": worker_id });
    let event = Event::new(CallContext::default(), 0, move || Ok(payload.clone()));
    core.triggers.broadcast("engine::workers-available", &event);
}

impl std::fmt::Debug for PeerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerHandle")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
