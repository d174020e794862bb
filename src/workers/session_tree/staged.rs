//! Writes of one session that wait for the commit of a caller's batch ([`crate::bus::Batch`]).

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::entry::SessionEntry;
use super::meta::SessionMeta;
use super::sessions::Sessions;
use super::slot::Slot;
use super::storage;
use crate::bus::{Batch, CallContext, Cx, Part, Write};
use crate::error::Result;
use crate::model::SessionId;

/// A session of which somebody is the only writer. With a batch its writes go there, and the session stays locked until
/// the batch is settled, for readers too: so a caller must not ask anything of a session between this and its commit.
pub(super) struct Staged {
    /// Without the batch: what a batch holds must not hold the batch, or neither would ever be let go.
    cx: Cx<Sessions>,
    /// Where the writes go; taken out when they do.
    batch: Option<Batch>,
    slot: Arc<Slot>,
    _writer: OwnedMutexGuard<()>,
    /// The row that is to be stored.
    meta: Option<SessionMeta>,
    /// The entries that are to be stored, in order.
    entries: Vec<SessionEntry>,
    /// What stores them: the entries, then the row.
    writes: Vec<Write>,
}

impl Staged {
    /// Waits for the session, or goes on with what this batch holds of it already.
    pub(super) async fn open(cx: &Cx<Sessions>, session: &SessionId, slot: &Arc<Slot>) -> Box<Self> {
        let batch = batch(cx).cloned();
        let begun = batch
            .as_ref()
            .and_then(|batch| batch.take::<Self>(|part| Arc::ptr_eq(&part.slot, slot)));
        if let Some(mut begun) = begun {
            begun.batch = batch;
            return begun;
        }
        let writer = slot.write().await;
        tracing::trace!(%session, "the only writer");
        Box::new(Self {
            cx: cx.with_context(CallContext {
                batch: None,
                ..cx.context().clone()
            }),
            batch,
            slot: Arc::clone(slot),
            _writer: writer,
            meta: None,
            entries: Vec::new(),
            writes: Vec::new(),
        })
    }

    /// The row that is to be stored.
    pub(super) fn meta(&self) -> Option<&SessionMeta> {
        self.meta.as_ref()
    }

    /// The entries that are to be stored, in order.
    pub(super) fn entries(&self) -> &[SessionEntry] {
        &self.entries
    }

    /// Stores the first row of a session.
    pub(super) async fn create(mut self: Box<Self>, meta: SessionMeta) -> Result<()> {
        let Some(batch) = self.batch.take() else {
            return self.slot.create(&self.cx, meta).await;
        };
        self.writes.push(storage::meta_write(&meta)?);
        self.meta = Some(meta);
        self.slot.set_staged(true);
        batch.add(self);
        Ok(())
    }

    /// Stores an entry behind all others, and the row that goes with it.
    pub(super) async fn append(
        mut self: Box<Self>,
        session: &SessionId,
        entry: SessionEntry,
        meta: Option<SessionMeta>,
    ) -> Result<()> {
        let Some(batch) = self.batch.take() else {
            return self.slot.append(&self.cx, session, vec![entry], meta).await;
        };
        self.writes.truncate(self.entries.len());
        self.writes.push(storage::entry_write(session, &entry));
        if let Some(meta) = &meta {
            self.writes.push(storage::meta_write(meta)?);
        }
        self.entries.push(entry);
        self.meta = meta;
        self.slot.set_staged(true);
        batch.add(self);
        Ok(())
    }

    /// Nothing is to be added; what the batch holds already stays.
    pub(super) fn leave(mut self: Box<Self>) {
        if let Some(batch) = self.batch.take().filter(|_| !self.writes.is_empty()) {
            batch.add(self);
        }
    }
}

impl Part for Staged {
    fn writes(&self) -> &[Write] {
        &self.writes
    }

    fn settle(mut self: Box<Self>, stored: bool) {
        self.writes.clear();
        self.slot.set_staged(false);
        if stored {
            let entries = std::mem::take(&mut self.entries);
            self.slot.stored(&self.cx, entries, self.meta.take());
        } else {
            self.slot.lost();
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.writes.is_empty() {
            self.slot.set_staged(false);
            self.slot.lost();
        }
    }
}

/// The batch of the caller, unless trees live in this process only.
pub(super) fn batch(cx: &Cx<Sessions>) -> Option<&Batch> {
    let batch = cx.context().batch.as_ref()?;
    (!cx.state().in_memory(cx)).then_some(batch)
}
