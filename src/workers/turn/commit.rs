//! How a session's transitions are stored: the record, what leads to it, its messages and its events (contract 02 §1.1).

use tokio::sync::oneshot;

use super::backoff::Backoff;
use super::lease::Lease;
use super::outbox::{Outbox, Stored};
use super::record::{Emitter, RECORDS, TurnRecord};
use super::session::Session;
use super::transcript::NewEntry;
use super::{abort, view};
use crate::bus::{Batch, Hold, Write, to_json};
use crate::error::Result;
use crate::model::{AgentEvent, TurnState};

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
pub(super) struct Behind {
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

/// The end of a run, between its announcement and the mark in the record.
pub(super) struct Told {
    run: String,
    /// It is in the stream, so that a mark that cannot be written does not have it sent again.
    is_stored: bool,
}

impl Told {
    fn new(run: &str, is_stored: bool) -> Self {
        let run = run.to_owned();
        Self { run, is_stored }
    }
}

impl Session {
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

    /// Sends the run's last event and marks it as sent. On an engine that cannot do both at once it may be sent again, by a
    /// later life of the program too: always as the item that the terminal record names.
    pub(super) async fn end_run(&mut self, record: &mut TurnRecord) -> Result<()> {
        let end = AgentEvent::AgentEnd { messages: Vec::new() };
        record.agent_end_emitted = Some(true);
        if self.cx.bus().transport().is_exclusive() {
            return self.commit(record, None, Vec::new(), vec![end]).await;
        }
        let (cx, run) = (self.cx.clone(), record.run());
        let told = &cx.state().told;
        let so_far = told.find(&self.id, |end| (end.run == run).then_some(end.is_stored));
        if so_far != Some(true) {
            let item = record.end_item.clone();
            let outbox = self.outbox(record);
            match item {
                Some(item) => outbox.emit_as(item, end, so_far.is_some()).await,
                // A record of an earlier release.
                None => outbox.emit(end).await,
            }
            told.keep(&self.id, Told::new(&run, false));
            self.outbox(record).written().await?;
            told.keep(&self.id, Told::new(&run, true));
        }
        self.commit(record, None, Vec::new(), Vec::new()).await?;
        told.forget(&self.id);
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
        if record.state.is_terminal() && record.agent_end_emitted == Some(false) {
            let end_item = self.outbox(record).item_after(events.len()).await?;
            record.end_item = Some(end_item);
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
}
