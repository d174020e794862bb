//! One session at work: what its steps share while its actor lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::DropGuard;

use super::backoff::Backoff;
use super::lease::{Fence, Lease};
use super::outbox::{Outbox, Stored};
use super::preflight::CompactedTo;
use super::record::{Emitter, RECORDS, TurnRecord};
use super::request::{REQUESTS, RunRequest};
use super::stop::Stop;
use super::transcript::NewEntry;
use super::{Turns, abort, view};
use crate::bus::{Batch, CallOptions, Cx, Hold, Write, to_json};
use crate::error::{Error, Result};
use crate::model::api::Contract;
use crate::model::{AgentEvent, SessionId, TurnState, TurnStateView};

/// What a step did to its record, besides changing it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Rows that belong to the transition.
    pub(super) writes: Vec<Write>,
    /// Events before the change of the view.
    pub(super) before: Vec<AgentEvent>,
    /// Events after it.
    pub(super) after: Vec<AgentEvent>,
    /// Kept until the transition is stored.
    pub(super) hold: Option<Hold>,
    /// The messages of the transition, to be stored with it.
    pub(super) entries: Vec<NewEntry>,
    /// The inbox whose items become messages behind those, and which is empty once they are stored.
    pub(super) drain: Option<&'static str>,
    /// What others are to store with it.
    pub(super) batch: Option<Batch>,
    /// A message of the transition that is being stored meanwhile and must be before it.
    pub(super) under_way: Option<oneshot::Receiver<Result<()>>>,
}

/// A transition that was sent to the store and not waited for.
struct Behind {
    stored: Option<Stored>,
    writes: Vec<Write>,
    events: Vec<AgentEvent>,
}

impl Behind {
    /// Waits for its outcome: whether it has to be written again.
    async fn is_lost(&mut self) -> bool {
        if let Some(stored) = self.stored.take() {
            if let Err(error) = stored.outcome().await {
                tracing::warn!(%error, "a transition is written with the next one");
            } else {
                self.writes.clear();
                self.events.clear();
            }
        }
        !self.writes.is_empty()
    }
}

impl Outcome {
    /// Events before the change of the view.
    pub(super) fn of(before: Vec<AgentEvent>) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }
}

/// A session whose actor is awake.
pub(super) struct Session {
    pub(super) cx: Cx<Turns>,
    pub(super) id: SessionId,
    /// Set when a decision may have arrived while a step runs.
    pub(super) recheck: Arc<Notify>,
    /// The wish to stop the run.
    pub(super) stop: Arc<Stop>,
    outbox: Option<(Emitter, Outbox)>,
    /// Who numbered the events last.
    emitter: Option<Emitter>,
    lease: Option<Lease>,
    /// Looks for wishes of other processes while the lease is held.
    watch: Option<DropGuard>,
    request: Option<Arc<RunRequest>>,
    /// What the next commit must make sure of.
    behind: Option<Behind>,
    /// The view that others saw last.
    pub(super) published: Option<TurnStateView>,
    /// The step at hand may have been begun before, by an earlier life or by an attempt that failed.
    pub(super) repeats: bool,
    /// What the pre-flight check remembers between the model calls of a run.
    pub(super) compacted_to: CompactedTo,
    /// The turn of which no earlier life can have left a part behind, or whose part is kept already.
    pub(super) swept: Option<String>,
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
        self.cx.state().answers.forget(&self.id);
    }

    /// Emits an event in order.
    pub(super) async fn emit(&mut self, record: &mut TurnRecord, event: AgentEvent) {
        self.outbox(record).emit(event).await;
    }

    /// Full save (contract 02 §1.1): the record and what leads to it, with its events before and after the change of its
    /// view. A terminal record is followed by the run's one `agent_end`. May be repeated.
    pub(super) async fn save(&mut self, record: &mut TurnRecord, outcome: &Outcome) -> Result<()> {
        let (mut writes, mut events) = (outcome.writes.clone(), outcome.before.clone());
        events.extend(self.view_change(record));
        events.extend(outcome.after.iter().cloned());
        let over = record.state.is_terminal();
        let exclusive = self.cx.bus().transport().is_exclusive();
        if over {
            record.agent_end_emitted = Some(exclusive);
            if exclusive {
                events.push(AgentEvent::AgentEnd { messages: Vec::new() });
            }
        }
        let batch = outcome.batch.clone().unwrap_or_default();
        if let Err(error) = self.stage(&batch, record, outcome).await {
            batch.settle(false);
            return Err(error);
        }
        let resting = over || record.state == TurnState::FunctionAwaitingApproval;
        if over && record.aborted_at_ms.is_some() && !exclusive {
            writes.push(abort::used_wish(&self.id));
        }
        if resting && let Some(lease) = &mut self.lease {
            writes.extend(lease.release_write());
        }
        self.commit(record, Some(batch), writes, events).await?;
        self.published = Some(record.view());
        if resting && exclusive {
            self.lease = None;
        }
        if over
            && !exclusive
            && let Err(error) = self.end_run(record).await
        {
            // The run is over and stored as such: nothing of it is to be done again. The next look for open sessions sees
            // to the rest.
            tracing::warn!(session_id = %self.id, %error, "the end of a run is not marked as announced yet");
        }
        Ok(())
    }

    /// Full save of a transition that the next step does not rest on: it is not waited for. The next commit comes behind
    /// it, and repeats it when it failed.
    pub(super) async fn save_behind(&mut self, record: &mut TurnRecord, outcome: Outcome) -> Result<()> {
        let Outcome {
            writes,
            before: mut events,
            after,
            ..
        } = outcome;
        events.extend(self.view_change(record));
        events.extend(after);
        let commit = self.with_record(record, None, writes.clone())?;
        let stored = self.outbox(record).commit(None, commit, events.clone()).await;
        self.published = Some(record.view());
        self.behind = Some(Behind {
            stored: Some(stored),
            writes,
            events,
        });
        Ok(())
    }

    /// Sends the run's last event and remembers that it was sent: in memory once it is stored, so that a mark that cannot be
    /// written does not have it sent again.
    pub(super) async fn end_run(&mut self, record: &mut TurnRecord) -> Result<()> {
        let end = AgentEvent::AgentEnd { messages: Vec::new() };
        record.agent_end_emitted = Some(true);
        if self.cx.bus().transport().is_exclusive() {
            return self.commit(record, None, Vec::new(), vec![end]).await;
        }
        let (cx, run) = (self.cx.clone(), record.run());
        let announced = cx
            .state()
            .unmarked
            .find(&self.id, |of| (*of == run).then_some(()));
        if announced.is_none() {
            self.emit(record, end).await;
            self.outbox(record).written().await?;
            cx.state().unmarked.keep(&self.id, run);
        }
        self.commit(record, None, Vec::new(), Vec::new()).await?;
        cx.state().unmarked.forget(&self.id);
        Ok(())
    }

    /// Checkpoint in the middle of a step: no hand-over. While calls are parked the list of them is shown as it shrinks.
    /// Repeated until it is stored, because what it holds has happened and must not happen again.
    pub(super) async fn checkpoint(
        &mut self,
        record: &mut TurnRecord,
        extra: Vec<Write>,
        mut events: Vec<AgentEvent>,
    ) -> Result<()> {
        let parked = record
            .awaiting_approval
            .as_ref()
            .is_some_and(|parked| !parked.is_empty());
        if parked {
            events.extend(self.view_change(record));
        }
        let mut pause = Backoff::of(&self.cx);
        loop {
            match self.commit(record, None, extra.clone(), events.clone()).await {
                Ok(()) => break,
                Err(error) if error.is_retryable() => pause.wait(error).await?,
                Err(error) => return Err(error),
            }
        }
        if parked {
            self.published = Some(record.view());
        }
        Ok(())
    }

    /// The change between what others saw last and the record, if there is one.
    fn view_change(&self, record: &TurnRecord) -> Option<AgentEvent> {
        view::change(self.published.as_ref(), record.view())
    }

    /// Takes the change of the view into an outcome that goes on to another state before it is saved.
    pub(super) fn pass_through(&mut self, record: &TurnRecord, outcome: &mut Outcome) {
        outcome.before.extend(self.view_change(record));
        outcome.before.append(&mut outcome.after);
        self.published = Some(record.view());
    }

    async fn commit(
        &mut self,
        record: &mut TurnRecord,
        batch: Option<Batch>,
        mut extra: Vec<Write>,
        mut events: Vec<AgentEvent>,
    ) -> Result<()> {
        if let Some(behind) = &mut self.behind
            && behind.is_lost().await
        {
            extra.splice(..0, behind.writes.iter().cloned());
            events.splice(..0, behind.events.iter().cloned());
        }
        let writes = self.with_record(record, batch.as_ref(), extra)?;
        let stored = self.outbox(record).commit(batch, writes, events).await;
        stored.outcome().await?;
        self.behind = None;
        Ok(())
    }

    /// What a commit writes: the record last, because it decides.
    fn with_record(
        &mut self,
        record: &mut TurnRecord,
        batch: Option<&Batch>,
        extra: Vec<Write>,
    ) -> Result<Vec<Write>> {
        // Names the emitter in the record.
        self.outbox(record);
        let mut writes = batch.map(Batch::writes).unwrap_or_default();
        writes.extend(extra);
        writes.extend(self.lease.as_mut().and_then(Lease::take_unwritten));
        writes.push(Write::StateSet {
            scope: RECORDS.into(),
            key: self.id.to_string(),
            value: to_json(record)?.into(),
        });
        Ok(writes)
    }

    fn outbox(&mut self, record: &mut TurnRecord) -> &Outbox {
        let (bus, id, fence) = (self.cx.bus(), &self.id, self.fence());
        // One whose task has panicked takes nothing any more.
        if self.outbox.as_ref().is_some_and(|(_, outbox)| outbox.is_gone()) {
            self.outbox = None;
        }
        let (emitter, outbox) = self.outbox.get_or_insert_with(|| {
            let emitter = Emitter::after(bus.epoch(), [&self.emitter, &record.emitter]);
            let outbox = Outbox::start(bus, id, &emitter, fence);
            (emitter, outbox)
        });
        // Also in a record that was read anew: without it the next numbering would begin where this one did.
        record.emitter = Some(emitter.clone());
        self.emitter.clone_from(&record.emitter);
        outbox
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
