//! The one way out for a session's events and commits, in order (contract 01 §7, 02 §1.1).
//!
//! Streamed events are shown to subscribers at once and written behind, in batches, so that a slow store never slows the
//! model. A commit carries the events of its transition in the same transaction; they are shown after it succeeded. An
//! engine that has no transactions gets them behind it, like the streamed ones: events never hold up a turn.

use futures::future::{BoxFuture, OptionFuture};
use tokio::sync::{mpsc, oneshot};

use super::lease::Fence;
use super::numbering::Numbering;
use super::record::Emitter;
use crate::bus::{Batch, Bus, Write};
use crate::error::{Error, Result};
use crate::model::{AgentEvent, SessionId};

/// Items that may wait; beyond that the emitter waits.
const QUEUE: usize = 256;
/// Unwritten events that may pile up behind a write under way.
const MAX_PENDING: usize = 1024;

/// Sending side, held by the session's actor.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: mpsc::Sender<Item>,
}

/// Tells what became of a commit.
#[derive(Debug)]
pub(super) struct Stored(oneshot::Receiver<Result<()>>);

impl Stored {
    /// Waits for it.
    pub(super) async fn outcome(self) -> Result<()> {
        self.0.await.unwrap_or(Err(Error::Stopped))
    }
}

#[derive(Debug)]
enum Item {
    Event(AgentEvent),
    /// One whose item id is fixed.
    Numbered {
        item: String,
        event: AgentEvent,
        /// Subscribers of this process have seen it.
        is_shown: bool,
    },
    /// Asks for the item id that comes so many events after those before it.
    Number(usize, oneshot::Sender<Result<String>>),
    /// Asks when all events before it are written.
    Written(oneshot::Sender<Result<()>>),
    Commit {
        batch: Option<Batch>,
        writes: Vec<Write>,
        events: Vec<AgentEvent>,
        done: oneshot::Sender<Result<()>>,
    },
}

impl Outbox {
    /// Starts the task that owns the order.
    /// Nothing that is not on its way leaves any more once the fence is lost.
    pub(super) fn start(bus: &Bus, session: &SessionId, emitter: &Emitter, fence: Option<Fence>) -> Self {
        let (queue, items) = mpsc::channel(QUEUE);
        let task = Task {
            bus: bus.clone(),
            numbering: Numbering::new(session, emitter),
            items,
            pending: Vec::new(),
            fence,
            last: Ok(()),
        };
        bus.spawn(task.run());
        Self { queue }
    }

    /// Whether nobody takes anything out of the queue any more.
    pub(super) fn is_gone(&self) -> bool {
        self.queue.is_closed()
    }

    /// Emits an event; waits only while the queue is full.
    pub(super) async fn emit(&self, event: AgentEvent) {
        // The task outlives every sender unless the process is going down; then nobody is left to see the event.
        if self.queue.send(Item::Event(event)).await.is_err() {
            tracing::debug!("event dropped: the process is stopping");
        }
    }

    /// The id of the item that follows all emitted so far and `more` others.
    ///
    /// # Errors
    /// The process is stopping, or the lease is lost.
    pub(super) async fn item_after(&self, more: usize) -> Result<String> {
        let (done, item) = oneshot::channel();
        self.queue.send(Item::Number(more, done)).await.ok();
        item.await.unwrap_or(Err(Error::Stopped))
    }

    /// Emits an event under the id of its item. Written again it is still one; it is shown unless it `is_shown` already.
    pub(super) async fn emit_as(&self, item: String, event: AgentEvent, is_shown: bool) {
        let numbered = Item::Numbered {
            item,
            event,
            is_shown,
        };
        // When nobody takes it, whoever waits until it is written hears of it.
        self.queue.send(numbered).await.ok();
    }

    /// Writes a transition with its events, after everything emitted before; what is returned tells when it is stored and
    /// shown. `batch` hears of it before anybody is shown anything.
    pub(super) async fn commit(
        &self,
        batch: Option<Batch>,
        writes: Vec<Write>,
        events: Vec<AgentEvent>,
    ) -> Stored {
        let (done, stored) = oneshot::channel();
        let item = Item::Commit {
            batch,
            writes,
            events,
            done,
        };
        // When nobody takes it, nobody answers.
        self.queue.send(item).await.ok();
        Stored(stored)
    }

    /// Waits until every event emitted so far is written.
    ///
    /// # Errors
    /// The last one could not be, and is lost.
    pub(super) async fn written(&self) -> Result<()> {
        let (done, written) = oneshot::channel();
        // When nobody takes it, nobody answers.
        self.queue.send(Item::Written(done)).await.ok();
        written.await.unwrap_or(Err(Error::Stopped))
    }
}

struct Task {
    bus: Bus,
    numbering: Numbering,
    items: mpsc::Receiver<Item>,
    /// Writes of events already shown.
    pending: Vec<Write>,
    fence: Option<Fence>,
    /// What became of the last write of events.
    last: Result<()>,
}

type InFlight = Option<BoxFuture<'static, Result<()>>>;

impl Task {
    async fn run(mut self) {
        let mut in_flight: InFlight = None;
        loop {
            if in_flight.is_none() && !self.pending.is_empty() {
                in_flight = Some(self.bus.transport().commit(std::mem::take(&mut self.pending)));
            }
            let may_take = self.pending.len() < MAX_PENDING;
            let writing = OptionFuture::from(in_flight.as_mut());
            tokio::select! {
                biased;
                Some(outcome) = writing => {
                    in_flight = None;
                    self.note(outcome);
                }
                item = self.items.recv(), if may_take => match item {
                    Some(item) => self.take(item, &mut in_flight).await,
                    None => break,
                },
            }
        }
        self.write_all(&mut in_flight).await;
    }

    async fn take(&mut self, item: Item, in_flight: &mut InFlight) {
        if self.fence.as_ref().is_some_and(Fence::is_lost) {
            return self.refuse(item);
        }
        match item {
            Item::Event(event) => {
                let (items, writes) = self.numbering.number_all(std::slice::from_ref(&event));
                for item in &items {
                    self.bus.show_to_taps(item);
                }
                self.pending.extend(writes);
            }
            Item::Numbered {
                item,
                event,
                is_shown,
            } => match self.numbering.number_as(item, &event) {
                Ok((item, writes)) => {
                    if !is_shown {
                        self.bus.show_to_taps(&item);
                    }
                    self.pending.extend(writes);
                }
                Err(error) => tracing::error!(%error, "event not emitted"),
            },
            Item::Number(more, done) => {
                let after = u64::try_from(more).unwrap_or_default();
                done.send(Ok(self.numbering.item(after))).ok();
            }
            Item::Commit {
                batch,
                writes,
                events,
                done,
            } => {
                let outcome = if self.bus.transport().is_exclusive() {
                    self.settle(in_flight).await;
                    self.commit_whole(batch, writes, &events).await
                } else {
                    self.commit_apart(batch, writes, &events, in_flight).await
                };
                if done.send(outcome).is_err() {
                    tracing::debug!("nobody waits for the commit");
                }
            }
            Item::Written(done) => {
                self.write_all(in_flight).await;
                done.send(self.last.clone()).ok();
            }
        }
    }

    fn refuse(&mut self, item: Item) {
        self.pending.clear();
        let lost = Err(Error::Transient("the lease of the session is lost".into()));
        match item {
            Item::Commit { batch, done, .. } => {
                if let Some(batch) = batch {
                    batch.settle(false);
                }
                done.send(lost).ok();
            }
            Item::Written(done) => {
                done.send(lost).ok();
            }
            Item::Number(_, done) => {
                done.send(lost.map(|()| String::new())).ok();
            }
            Item::Event(_) | Item::Numbered { .. } => {}
        }
    }

    /// On an engine without transactions: the transition by itself, then its events behind it. What is on its way goes on
    /// meanwhile.
    async fn commit_apart(
        &mut self,
        batch: Option<Batch>,
        writes: Vec<Write>,
        events: &[AgentEvent],
        in_flight: &mut InFlight,
    ) -> Result<()> {
        let mut commit = self.bus.transport().commit(writes);
        let stored = loop {
            let writing = OptionFuture::from(in_flight.as_mut());
            tokio::select! {
                biased;
                Some(outcome) = writing => {
                    *in_flight = None;
                    self.note(outcome);
                }
                stored = &mut commit => break stored,
            }
        };
        if let Some(batch) = batch {
            batch.settle(stored.is_ok());
        }
        stored?;
        let (items, event_writes) = self.numbering.number_all(events);
        self.pending.extend(event_writes);
        for item in &items {
            self.bus.show_to_taps(item);
        }
        Ok(())
    }

    async fn commit_whole(
        &mut self,
        batch: Option<Batch>,
        writes: Vec<Write>,
        events: &[AgentEvent],
    ) -> Result<()> {
        let (items, event_writes) = self.numbering.number_all(events);
        let stored = self.store(writes, event_writes).await;
        if let Some(batch) = batch {
            batch.settle(stored.is_ok());
        }
        stored?;
        for item in &items {
            self.bus.show_to_taps(item);
        }
        Ok(())
    }

    /// Writes what is pending, a transition and its events.
    async fn store(&mut self, writes: Vec<Write>, events: Vec<Write>) -> Result<()> {
        let earlier = std::mem::take(&mut self.pending);
        let mut all = earlier.clone();
        all.extend(writes.iter().cloned());
        all.extend(events.iter().cloned());
        if all.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.bus.transport().commit(all).await {
            // Events must never fail a turn: the record alone decides.
            if writes.is_empty() {
                tracing::warn!(%error, "events not written");
            } else {
                // What failed may have been the store: events already shown are written with the next commit.
                self.pending = earlier;
                self.bus.transport().commit(writes).await?;
                tracing::warn!(%error, "events of a transition not written with it");
                self.pending.extend(events);
            }
        }
        Ok(())
    }

    /// Writes what is pending, and waits.
    async fn write_all(&mut self, in_flight: &mut InFlight) {
        self.settle(in_flight).await;
        if !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            let outcome = self.bus.transport().commit(pending).await;
            self.note(outcome);
        }
    }

    /// Waits for what is on its way.
    async fn settle(&mut self, in_flight: &mut InFlight) {
        if let Some(writing) = in_flight.take() {
            let outcome = writing.await;
            self.note(outcome);
        }
    }

    /// Events were written, or are lost.
    fn note(&mut self, outcome: Result<()>) {
        if let Err(error) = &outcome {
            tracing::warn!(%error, "events not written");
        }
        self.last = outcome;
    }
}
