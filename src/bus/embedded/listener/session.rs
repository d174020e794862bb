//! A connected worker: what each of its messages does, and what is left when it goes.
//!
//! Messages are looked at one after the other. Registrations are done at once, a call is begun at once (a write takes its
//! place in line) and finished on a task of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::Hub;
use super::facts::{self, REGISTER};
use super::frame::{self, Action, ErrorBody, Incoming, InvocationResult, InvokeFunction, Reattach};
use super::limits::Limits;
use super::outgoing::Outgoing;
use super::socket::CloseCode;
use super::wire::{Wire, WorkerLink};
use crate::bus::embedded::peer::PeerHandle;
use crate::bus::embedded::{Core, answer, failed};
use crate::bus::{Baggage, CallContext, CallFuture, Invocation};
use crate::error::{Error, Result};

/// Sizes of calls are counted in units of this many bytes.
const BYTES_PER_PERMIT: usize = 1024;

/// One worker's connection.
pub(super) struct Session {
    pub(super) id: Arc<str>,
    pub(super) reattach_token: String,
    pub(super) wire: Arc<Wire>,
    core: Arc<Core>,
    pub(super) limits: Arc<Limits>,
    ip_address: String,
    /// Gone once the connection has ended.
    peer: Mutex<Option<PeerHandle>>,
    calls: Arc<Semaphore>,
    call_bytes: Arc<Semaphore>,
    engine_calls: Arc<Semaphore>,
    /// Something malformed came.
    warned: AtomicBool,
}

/// Room for one call; given back when it is answered.
type Room = (
    OwnedSemaphorePermit,
    OwnedSemaphorePermit,
    Option<OwnedSemaphorePermit>,
);

impl Session {
    pub(super) fn open(
        core: &Arc<Core>,
        wire: Arc<Wire>,
        limits: Arc<Limits>,
        ip_address: String,
    ) -> Result<Arc<Self>> {
        let peer = PeerHandle::connect(core, Arc::new(WorkerLink(Arc::clone(&wire))));
        let session = Arc::new(Self {
            id: Arc::clone(peer.id()),
            reattach_token: core.bus()?.uuid(),
            wire,
            core: Arc::clone(core),
            ip_address,
            peer: Mutex::new(Some(peer)),
            calls: Arc::new(Semaphore::new(limits.open_calls)),
            call_bytes: Arc::new(Semaphore::new(limits.open_call_bytes / BYTES_PER_PERMIT)),
            engine_calls: Arc::new(Semaphore::new(limits.engine_calls)),
            warned: AtomicBool::new(false),
            limits,
        });
        session.hub().add(&session);
        Ok(session)
    }

    /// Takes everything of the worker away, in the order of contract 00 §1.7. Done once, whoever comes first.
    pub(super) fn end(&self) {
        self.hub().remove(&self.id);
        let peer = self.peer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(peer) = &peer {
            peer.withdraw_functions();
        }
        self.wire.close();
        // Bindings, types, and the news of it.
        drop(peer);
    }

    /// Does what a message says. What is malformed is logged and has no effect.
    pub(super) async fn receive(self: &Arc<Self>, text: &str, is_first: bool) {
        if text.trim().is_empty() {
            return;
        }
        match frame::read(text) {
            Ok(message) => self.handle(message, text.len(), is_first).await,
            Err(why) => self.malformed(&why),
        }
    }

    /// Logs what was dropped: the first time for a person, then for whoever looks closely.
    pub(super) fn malformed(&self, why: &str) {
        if self.warned.swap(true, Ordering::Relaxed) {
            tracing::debug!(worker = %self.id, why, "malformed message dropped");
        } else {
            tracing::warn!(worker = %self.id, why, "malformed message dropped; more of this worker are logged at debug");
        }
    }

    async fn handle(self: &Arc<Self>, message: Incoming, bytes: usize, is_first: bool) {
        match message {
            Incoming::Reattach(previous) if is_first => self.reattach(&previous),
            Incoming::Reattach(_) => tracing::debug!(worker = %self.id, "late reattach ignored"),
            Incoming::RegisterFunction(function) => self.register_function(function, bytes),
            Incoming::UnregisterFunction(function) => {
                self.with(|peer| peer.unregister_function(&function.id));
            }
            Incoming::RegisterTriggerType(offered) => self.register_type(offered, bytes),
            Incoming::RegisterTrigger(trigger) => self.register_trigger(trigger, bytes),
            Incoming::TriggerRegistrationResult(result) => self.with(|peer| {
                let verdict = result.error.map_or(Ok(()), |error| Err(error.message));
                peer.judge(&result.id, verdict);
            }),
            Incoming::UnregisterTrigger(trigger) => self.with(|peer| {
                peer.unbind(&trigger.id);
            }),
            Incoming::InvokeFunction(call) => self.invoke(call, bytes).await,
            Incoming::InvocationResult(result) => self.wire.answered(result),
            Incoming::Ping => self.wire.notify(&Outgoing::Pong),
            Incoming::Ignored => {}
        }
    }

    /// With the worker's place on the bus, while it has one.
    pub(super) fn with(&self, change: impl FnOnce(&PeerHandle)) {
        let peer = self.peer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peer.as_ref() {
            change(peer);
        }
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.core.listener
    }

    fn reattach(&self, previous: &Reattach) {
        let Some(earlier) = self.hub().find(&previous.previous_worker_id) else {
            tracing::debug!(worker = %self.id, "reattach to an unknown worker ignored");
            return;
        };
        if earlier.id == self.id || previous.reattach_token.as_ref() != Some(&earlier.reattach_token) {
            tracing::debug!(worker = %self.id, "reattach without the right token ignored");
            return;
        }
        earlier
            .wire
            .cut_off(CloseCode::Normal, "replaced by a new connection");
        earlier.end();
    }

    async fn invoke(self: &Arc<Self>, call: InvokeFunction, bytes: usize) {
        let Some(room) = self.room(&call, bytes).await else {
            self.wire.cut_off(CloseCode::Policy, "too many open calls");
            return;
        };
        let InvokeFunction {
            invocation_id,
            function_id,
            data,
            traceparent,
            baggage,
            action,
            metadata,
            namespace,
        } = call;
        let is_ours = self.core.peers.host_of(&function_id).is_none();
        let invocation_id = invocation_id.filter(|_| action != Some(Action::Void));
        let invocation = Invocation {
            function_id: function_id.as_str().into(),
            payload: data,
            context: CallContext {
                baggage: baggage.as_deref().map(Baggage::parse).unwrap_or_default(),
                metadata: present(metadata).map(Arc::new),
                traceparent: traceparent
                    .as_deref()
                    .filter(|text| !text.is_empty())
                    .map(Arc::from),
                cancel: None,
                batch: None,
            },
        };
        let begun = match namespace.foreign() {
            Some(name) => {
                let why = format!("Function {function_id} not found in namespace {name}");
                Some(failed(Error::coded("function_not_found", why)))
            }
            None => self.begin(action, invocation),
        };
        let Some(work) = begun else { return };
        let session = Arc::clone(self);
        let finish = async move {
            match invocation_id {
                Some(id) => {
                    // Begun before the end of the connection is looked at: what was sent is done, even if nobody waits.
                    let outcome = tokio::select! {
                        biased;
                        outcome = work => outcome,
                        () = session.wire.over() => return,
                    };
                    let reply = result(id, function_id, outcome);
                    session
                        .reply(InvocationResult {
                            traceparent,
                            baggage,
                            ..reply
                        })
                        .await;
                }
                None => {
                    if let Err(error) = work.await {
                        tracing::debug!(worker = %session.id, function = function_id, %error, "notification failed");
                    }
                }
            }
            drop(room);
        };
        match self.core.bus() {
            // Waited for when the program stops, like any work of its functions.
            Ok(bus) if is_ours => bus.spawn(finish),
            Ok(_) | Err(_) => self.hub().spawn(finish),
        }
    }

    /// Begins a call now; what it writes is in line when this returns.
    fn begin(&self, action: Option<Action>, invocation: Invocation) -> Option<CallFuture> {
        let mut work = None;
        self.with(|peer| {
            work = Some(match action {
                Some(Action::Enqueue { queue }) => peer.enqueue(&queue, invocation),
                Some(Action::Void) | None
                    if invocation.function_id.as_str() == REGISTER
                        && self.core.peers.host_of(REGISTER).is_none() =>
                {
                    answer(self.describe(peer, invocation.payload))
                }
                Some(Action::Void) | None => peer.call(invocation),
            });
        });
        work
    }

    /// A worker of another namespace is told that there is none, and goes.
    fn describe(&self, peer: &PeerHandle, payload: Value) -> Result<Value> {
        let said = facts::read(payload, &self.ip_address)?;
        if let Some(namespace) = said.namespace.foreign() {
            let owner = self.core.peers.program().ok_or(Error::Stopped)?;
            let rejection = Outgoing::RegistrationRejected {
                code: "NAMESPACE_NOT_FOUND",
                namespace,
                worker_name: said.facts.name.as_deref(),
                owner_worker_id: &owner.id,
            };
            self.wire.reject("no such namespace", &rejection);
            return Err(Error::Stopped);
        }
        peer.describe(said.facts);
        Ok(json!({ "success": true }))
    }

    async fn reply(&self, reply: InvocationResult) {
        let (invocation_id, function_id) = (reply.invocation_id, reply.function_id.clone());
        let Err(error) = self.wire.reply(&Outgoing::InvocationResult(reply)).await else {
            return;
        };
        if error == Error::Stopped {
            return;
        }
        let instead = Outgoing::InvocationResult(result(invocation_id, function_id, Err(error)));
        if let Err(error) = self.wire.send(&instead).await {
            tracing::debug!(worker = %self.id, %error, "a result was not sent");
        }
    }

    /// Waits for room for one more call of the worker. `None`: none became free, the worker floods.
    async fn room(&self, call: &InvokeFunction, bytes: usize) -> Option<Room> {
        let most = self.limits.open_call_bytes / BYTES_PER_PERMIT;
        let size = u32::try_from((bytes / BYTES_PER_PERMIT).min(most)).unwrap_or(u32::MAX);
        let is_for_the_engine =
            matches!(call.action, Some(Action::Enqueue { .. })) || self.core.answers(&call.function_id);
        let all = async {
            let call = Arc::clone(&self.calls).acquire_owned().await.ok()?;
            let bytes = Arc::clone(&self.call_bytes).acquire_many_owned(size).await.ok()?;
            let turn = if is_for_the_engine {
                Some(Arc::clone(&self.engine_calls).acquire_owned().await.ok()?)
            } else {
                None
            };
            Some((call, bytes, turn))
        };
        tokio::time::timeout(self.limits.stall, all).await.ok().flatten()
    }
}

/// `null` counts as absent.
pub(super) fn present(value: Option<Value>) -> Option<Value> {
    value.filter(|value| !value.is_null())
}

/// The answer to a call. Without a value there is no `result`.
fn result(invocation_id: Uuid, function_id: String, outcome: Result<Value>) -> InvocationResult {
    let (result, error) = match outcome {
        Ok(value) => (present(Some(value)), None),
        Err(error) => {
            let body = ErrorBody {
                code: error.wire_code().to_owned(),
                message: error.to_string(),
            };
            (None, Some(body))
        }
    };
    InvocationResult {
        invocation_id,
        function_id,
        result,
        error,
        traceparent: None,
        baggage: None,
    }
}
