//! The way to a connected worker: what waits to be sent to it, and the calls it has yet to answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::FutureExt;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::frame::{ErrorBody, InvocationResult, Namespace, RegisterTrigger, TriggerRegistrationResult};
use super::limits::Limits;
use super::outgoing::Outgoing;
use super::socket::CloseCode;
use crate::bus::embedded::peer::Link;
use crate::bus::embedded::trigger::{Binding, Provider};
use crate::bus::{CallFuture, Invocation, TriggerSpec, WeakBus};
use crate::error::{Error, Result};

/// Why a connection ends on our side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) code: CloseCode,
    pub(super) reason: &'static str,
    /// A message that goes before the Close.
    pub(super) last: Option<Message>,
}

/// The sending half of a connection, shared by everybody who has something for its worker.
pub(super) struct Wire {
    /// Calls and results; senders wait for room.
    messages: mpsc::Sender<Queued>,
    /// Bytes of results that may still wait.
    room: Arc<Semaphore>,
    /// What must not wait, such as a pong; when there is no room the worker is cut off.
    notices: mpsc::Sender<Message>,
    pending: Arc<Mutex<Pending>>,
    limits: Arc<Limits>,
    bus: WeakBus,
    /// Set when the connection ends or has to.
    over: CancellationToken,
    cut: OnceLock<Cut>,
}

/// The receiving ends of a [`Wire`], for the task that owns the socket.
pub(super) struct Outbox {
    pub(super) messages: mpsc::Receiver<Queued>,
    pub(super) notices: mpsc::Receiver<Message>,
}

/// A message on its way to the socket, with the room that it takes.
pub(super) struct Queued {
    pub(super) message: Message,
    /// Given back when the message is on its way to the socket.
    _room: Option<OwnedSemaphorePermit>,
}

#[derive(Default)]
struct Pending {
    calls: HashMap<Uuid, oneshot::Sender<Result<Value>>>,
    is_closed: bool,
}

/// Forgets a call whose caller went away; its late result is then dropped.
struct Forget {
    pending: Arc<Mutex<Pending>>,
    id: Uuid,
}

impl Wire {
    pub(super) fn new(bus: WeakBus, limits: Arc<Limits>) -> (Arc<Self>, Outbox) {
        let (messages, outbound) = mpsc::channel(limits.outbound);
        let (notices, urgent) = mpsc::channel(limits.notices);
        let wire = Self {
            messages,
            room: Arc::new(Semaphore::new(
                limits.unread_result_bytes.min(Semaphore::MAX_PERMITS),
            )),
            notices,
            pending: Arc::default(),
            limits,
            bus,
            over: CancellationToken::new(),
            cut: OnceLock::new(),
        };
        let outbox = Outbox {
            messages: outbound,
            notices: urgent,
        };
        (Arc::new(wire), outbox)
    }

    /// Sends; waits while the queue is full.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the connection ends, code `payload_too_large` for what the worker would not take.
    pub(super) async fn send(&self, outgoing: &Outgoing<'_>) -> Result<()> {
        let message = self.message(outgoing)?;
        self.queue(Queued { message, _room: None }).await
    }

    /// Sends the result of a call. Results wait like calls, but within a limit of their own: who asks for much and reads
    /// nothing would keep it all in memory.
    ///
    /// # Errors
    /// Like [`send`](Self::send), and code `unread_results` when too much waits already.
    pub(super) async fn reply(&self, outgoing: &Outgoing<'_>) -> Result<()> {
        let message = self.message(outgoing)?;
        let (size, most) = (message.len(), self.limits.unread_result_bytes);
        // One result of any size may wait alone.
        let permits = u32::try_from(size.min(most)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room)
            .try_acquire_many_owned(permits)
            .map_err(|_| {
                let why =
                    format!("the result of {size} bytes is not sent: more than {most} bytes are unread");
                Error::coded("unread_results", why)
            })?;
        self.queue(Queued {
            message,
            _room: Some(room),
        })
        .await
    }

    async fn queue(&self, queued: Queued) -> Result<()> {
        tokio::select! {
            sent = self.messages.send(queued) => sent.map_err(|_| Error::Stopped),
            () = self.over.cancelled() => Err(Error::Stopped),
        }
    }

    /// Sends ahead of the rest and without waiting. A worker that lets too much of it pile up is cut off.
    pub(super) fn notify(&self, outgoing: &Outgoing<'_>) {
        match self.message(outgoing) {
            Ok(message) => {
                if let Err(mpsc::error::TrySendError::Full(_)) = self.notices.try_send(message) {
                    self.cut_off(CloseCode::Policy, "too many unread notices");
                }
            }
            Err(error) => tracing::warn!(%error, "notice to a worker not sent"),
        }
    }

    fn message(&self, outgoing: &Outgoing<'_>) -> Result<Message> {
        let text = outgoing
            .text()
            .map_err(|error| Error::Unavailable(format!("cannot be written as JSON: {error}")))?;
        let limit = self.message_bytes();
        if text.len() > limit {
            let why = format!(
                "message of {} bytes exceeds the limit of {limit} bytes",
                text.len()
            );
            return Err(Error::coded("payload_too_large", why));
        }
        Ok(Message::Text(Utf8Bytes::from(text)))
    }

    /// Hands a result to the caller that waits for it; a second one, and one that nobody waits for, is dropped.
    pub(super) fn answered(&self, result: InvocationResult) {
        let waiting = self.lock().calls.remove(&result.invocation_id);
        let Some(waiting) = waiting else {
            tracing::debug!(id = %result.invocation_id, function = result.function_id, "nobody waits for this result");
            return;
        };
        let outcome = match result.error {
            Some(ErrorBody { code, message }) => Err(Error::coded(code, message)),
            None => Ok(result.result.unwrap_or_default()),
        };
        // The caller may have given up in this moment.
        waiting.send(outcome).ok();
    }

    /// Fails what waits for the worker, now and from now on.
    pub(super) fn close(&self) {
        self.over.cancel();
        let calls = {
            let mut pending = self.lock();
            pending.is_closed = true;
            std::mem::take(&mut pending.calls)
        };
        for (_, waiting) in calls {
            waiting.send(Err(Error::Stopped)).ok();
        }
    }

    /// Ends the connection, from our side; the first reason counts.
    pub(super) fn cut_off(&self, code: CloseCode, reason: &'static str) {
        self.cut_off_with(code, reason, None);
    }

    /// Ends the connection of a worker that must learn why in the words of the protocol.
    pub(super) fn reject(&self, reason: &'static str, rejection: &Outgoing<'_>) {
        self.cut_off_with(CloseCode::Policy, reason, self.message(rejection).ok());
    }

    fn cut_off_with(&self, code: CloseCode, reason: &'static str, last: Option<Message>) {
        self.cut.get_or_init(|| Cut { code, reason, last });
        self.over.cancel();
    }

    /// Why we ended it.
    pub(super) fn cut(&self) -> Option<&Cut> {
        self.cut.get()
    }

    /// Largest message taken or sent, in bytes.
    pub(super) fn message_bytes(&self) -> usize {
        self.limits.message_bytes
    }

    /// Calls that the worker has yet to answer.
    pub(super) fn open_calls(&self) -> usize {
        self.lock().calls.len()
    }

    /// Resolves when the connection ends or has to.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    fn open(&self, answer: oneshot::Sender<Result<Value>>) -> Result<Forget> {
        let bus = self.bus.upgrade().ok_or(Error::Stopped)?;
        let id = Uuid::parse_str(&bus.uuid())
            .map_err(|error| Error::Unavailable(format!("no invocation id: {error}")))?;
        let mut pending = self.lock();
        if pending.is_closed {
            return Err(Error::Stopped);
        }
        if pending.calls.len() >= self.limits.open_calls {
            let limit = self.limits.open_calls;
            let why = format!("the worker has {limit} calls to answer already");
            return Err(Error::Unavailable(why));
        }
        pending.calls.insert(id, answer);
        Ok(Forget {
            pending: Arc::clone(&self.pending),
            id,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        lock(&self.pending)
    }
}

fn lock(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Forget {
    fn drop(&mut self) {
        lock(&self.pending).calls.remove(&self.id);
    }
}

/// What the bus knows of the worker.
pub(super) struct WorkerLink(pub(super) Arc<Wire>);

impl Link for WorkerLink {
    fn call(&self, invocation: Invocation) -> CallFuture {
        let wire = Arc::clone(&self.0);
        let (answer, answered) = oneshot::channel();
        // Known before it is sent: no result can come too early (contract 00 §2.7).
        let opened = wire.open(answer);
        async move {
            let call = opened?;
            {
                let Invocation {
                    function_id,
                    payload,
                    context,
                } = invocation;
                let outgoing = Outgoing::InvokeFunction {
                    invocation_id: call.id.to_string(),
                    function_id: &function_id,
                    data: &payload,
                    traceparent: context.traceparent.as_deref(),
                    baggage: context.baggage.render(&function_id),
                    metadata: context.metadata.as_deref(),
                };
                wire.send(&outgoing).await?;
            }
            answered.await.unwrap_or(Err(Error::Stopped))
        }
        .boxed()
    }

    fn active(&self) -> usize {
        self.0.open_calls()
    }

    fn binding_refused(&self, binding: &TriggerSpec, why: &str) {
        self.0
            .notify(&refused(binding, "trigger_registration_failed", why));
    }
}

/// Tells the maker of a binding that there is none.
pub(super) fn refused(binding: &TriggerSpec, code: &str, why: &str) -> Outgoing<'static> {
    Outgoing::TriggerRegistrationResult(TriggerRegistrationResult {
        id: binding.id.clone(),
        trigger_type: binding.trigger_type.clone(),
        function_id: binding.function_id.to_string(),
        error: Some(ErrorBody {
            code: code.to_owned(),
            message: why.to_owned(),
        }),
    })
}

/// A trigger type of the worker: bindings go to it as they come and go, and it fires by calling their functions.
pub(super) struct WorkerType(pub(super) Arc<Wire>);

impl Provider for WorkerType {
    fn check(&self, _: &TriggerSpec) -> Result<(), String> {
        // The worker answers later, with a `triggerregistrationresult`.
        Ok(())
    }

    fn bind(&self, binding: &Arc<Binding>) {
        let spec = &binding.spec;
        self.0.notify(&Outgoing::RegisterTrigger(RegisterTrigger {
            id: spec.id.clone(),
            trigger_type: spec.trigger_type.clone(),
            function_id: spec.function_id.to_string(),
            config: spec.config.clone(),
            metadata: spec.metadata.clone(),
            namespace: Namespace::default(),
            trigger_namespace: Namespace::default(),
        }));
    }

    fn unbind(&self, binding: &Arc<Binding>) {
        self.0.notify(&Outgoing::UnregisterTrigger {
            id: &binding.spec.id,
            trigger_type: &binding.spec.trigger_type,
        });
    }
}
