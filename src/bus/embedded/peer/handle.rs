//! What a connected worker may do, and what goes with its connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::super::trigger::{Owner, Provider, TriggerType};
use super::super::{Core, engine, queue};
use super::{Host, Hosted, Link, Peer, Usage, WorkerFacts, announce};
use crate::bus::{CallFuture, FunctionInfo, Invocation, TriggerSpec};
use crate::error::{Error, Result};

/// A connection's own handle; what it registered goes when this is dropped.
pub struct PeerHandle {
    core: Arc<Core>,
    id: Arc<str>,
}

impl PeerHandle {
    pub(in crate::bus::embedded) fn connect(core: &Arc<Core>, link: Arc<dyn Link>) -> Self {
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
        engine::functions_changed(&self.core);
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
        engine::functions_changed(&self.core);
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
        queue::enqueue(&self.core, queue, None, invocation)
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
        engine::functions_changed(&self.core);
    }
}

impl std::fmt::Debug for PeerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerHandle")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
