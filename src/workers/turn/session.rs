//! One session at work: what its steps share while its actor lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::DropGuard;

use super::commit::Behind;
use super::lease::{Fence, Lease};
use super::outbox::Outbox;
use super::preflight::CompactedTo;
use super::record::{Emitter, RECORDS, TurnRecord};
use super::request::{REQUESTS, RunRequest};
use super::stop::Stop;
use super::{Turns, abort};
use crate::bus::{CallOptions, Cx, Write, to_json};
use crate::error::{Error, Result};
use crate::model::api::Contract;
use crate::model::{SessionId, TurnStateView};

/// A session whose actor is awake.
pub(super) struct Session {
    pub(super) cx: Cx<Turns>,
    pub(super) id: SessionId,
    /// Set when a decision may have arrived while a step runs.
    pub(super) recheck: Arc<Notify>,
    /// The wish to stop the run.
    pub(super) stop: Arc<Stop>,
    pub(super) outbox: Option<(Emitter, Outbox)>,
    /// Who numbered the events last.
    pub(super) emitter: Option<Emitter>,
    pub(super) lease: Option<Lease>,
    /// Looks for wishes of other processes while the lease is held.
    watch: Option<DropGuard>,
    request: Option<Arc<RunRequest>>,
    /// What the next commit must make sure of.
    pub(super) behind: Option<Behind>,
    /// The view that others saw last.
    pub(super) published: Option<TurnStateView>,
    /// The step at hand may have been begun before, by an earlier life or by an attempt that failed.
    pub(super) repeats: bool,
    /// What the pre-flight check remembers between the model calls of a run.
    pub(super) compacted_to: CompactedTo,
    /// The turn of which no earlier life can have left a part behind, or whose part is kept already.
    pub(super) swept: Option<String>,
    /// What earlier lives had set aside for model calls of this session is paid.
    pub(super) knows_bills: bool,
    /// Time spent waiting for models and functions, to tell it from our own.
    pub(super) outside: Duration,
}

impl Session {
    pub(super) fn new(cx: Cx<Turns>, id: SessionId, recheck: Arc<Notify>, stop: Arc<Stop>) -> Self {
        Self {
            cx,
            id,
            recheck,
            stop,
            outbox: None,
            emitter: None,
            lease: None,
            watch: None,
            request: None,
            behind: None,
            published: None,
            repeats: false,
            compacted_to: CompactedTo::default(),
            swept: None,
            knows_bills: false,
            outside: Duration::ZERO,
        }
    }

    /// Takes the session's lease, once; true when it was not held already.
    ///
    /// # Errors
    /// Another process holds it, or state does not answer.
    pub(super) async fn take_lease(&mut self) -> Result<bool> {
        if self.lease.is_some() {
            return Ok(false);
        }
        // Looked at first, so that one in use is not touched.
        if !Lease::is_held(self.cx.bus(), &self.id).await? && self.claim().await? {
            return Ok(true);
        }
        Err(Error::Transient(format!(
            "turn::function_awaiting_approval: session {} held by a concurrent step",
            self.id
        )))
    }

    /// Takes the lease of a session that is expected to be free; false when another process holds it. Our own of the run
    /// before is as good as a new one.
    pub(super) async fn claim(&mut self) -> Result<bool> {
        if self.lease.is_none() {
            self.lease = Lease::acquire(self.cx.bus(), &self.cx.state().epochs, &self.id).await?;
            let others_write = !self.cx.bus().transport().is_exclusive();
            self.watch = (self.lease.is_some() && others_write).then(|| abort::watch(self));
        }
        Ok(self.lease.is_some())
    }

    /// Gives the lease back when the actor ends.
    pub(super) async fn release_lease(&mut self) {
        self.watch = None;
        if self.fence().is_some() {
            // It is fenced by this lease.
            self.outbox = None;
        }
        if let Some(lease) = self.lease.take()
            && let Err(error) = lease.release(self.cx.bus(), &self.cx.state().epochs).await
        {
            tracing::warn!(session_id = %self.id, %error, "lease not released, it will lapse");
        }
    }

    /// What guards everything that is begun or written under the lease.
    pub(super) fn fence(&self) -> Option<Fence> {
        self.lease.as_ref().and_then(Lease::fence).cloned()
    }

    /// The lease is lost: what is known of the session is another process's business now.
    pub(super) fn forget(&mut self) {
        self.restart();
        self.stop.cut();
    }

    /// Nobody knows how far the work at hand has come: everything is read anew.
    pub(super) fn restart(&mut self) {
        self.watch = None;
        self.lease = None;
        self.outbox = None;
        self.request = None;
        self.behind = None;
        self.published = None;
        self.swept = None;
        self.knows_bills = false;
        self.cx.state().answers.forget(&self.id);
    }

    /// The run's request; read once while the actor lives.
    pub(super) async fn request(&mut self) -> Result<Arc<RunRequest>> {
        if let Some(request) = &self.request {
            return Ok(Arc::clone(request));
        }
        let request = Arc::new(RunRequest::read(self.cx.scope(REQUESTS).get(&self.id).await?));
        self.request = Some(Arc::clone(&request));
        Ok(request)
    }

    /// Replaces the run's request; the answer is the write that stores it.
    pub(super) fn set_request(&mut self, request: RunRequest) -> Result<Write> {
        let value = to_json(&request)?.into();
        self.request = Some(Arc::new(request));
        Ok(Write::StateSet {
            scope: REQUESTS.into(),
            key: self.id.to_string(),
            value,
        })
    }

    /// Calls a function with the default deadline of its contract.
    pub(super) async fn call<C: Contract>(
        &self,
        request: C::Request,
        timeout_ms: u64,
    ) -> Result<C::Response> {
        self.cx
            .call_with::<C>(request, CallOptions::timeout_ms(timeout_ms))
            .await
    }

    /// Calls a function by id.
    pub(super) async fn invoke(&self, id: &str, payload: Value, timeout_ms: u64) -> Result<Value> {
        self.cx
            .invoke(id, payload, CallOptions::timeout_ms(timeout_ms))
            .await
    }

    /// State key of a decision.
    pub(super) fn approval_key(&self, call: &str) -> String {
        format!("{}/{call}", self.id)
    }

    /// Runs something outside, counting its time as not ours.
    pub(super) fn spent_outside(&mut self, since: Instant) {
        self.outside += since.elapsed();
    }
}

/// The stored record of a session, if there is one.
pub(super) async fn load(cx: &Cx<Turns>, session: &SessionId) -> Result<Option<TurnRecord>> {
    cx.scope(RECORDS).get(session).await.map(TurnRecord::read)
}
