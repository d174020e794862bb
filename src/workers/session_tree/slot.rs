//! One session in memory: its lock, its index, its row (contract 06 §3.4).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::entry::SessionEntry;
use super::index::Index;
use super::meta::SessionMeta;
use super::sessions::Sessions;
use super::storage;
use crate::bus::{Cx, Write};
use crate::error::{Error, Result};
use crate::model::SessionId;

/// Bad records named in one warning.
const NAMED_FLAWS: usize = 5;

/// One session: its lock, and what is known of it.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Held by whoever loads or writes the session.
    lock: Arc<AsyncMutex<()>>,
    held: Mutex<Held>,
    account: Mutex<Account>,
}

/// What the memory limit needs to know of a slot.
#[derive(Debug, Default)]
struct Account {
    bytes: usize,
    last_use: u64,
}

#[derive(Debug, Default)]
struct Held {
    meta: Meta,
    index: Option<Index>,
    /// Counts changes by others; an index read before the last one is not used again.
    generation: u64,
    read_at: u64,
    /// Whether a write waits for the commit of somebody's batch: it may be in the store before it is here, so that readers
    /// wait for the lock.
    staged: bool,
    /// Whether others wrote entries, so that the count in the row is not to be trusted.
    recount: bool,
}

/// What is known of the row of a session.
#[derive(Debug, Clone, Default)]
pub(super) enum Meta {
    /// Not asked yet.
    #[default]
    Unknown,
    /// There is none.
    Missing,
    /// This.
    Known(Arc<SessionMeta>),
    /// There is something that is no row; it is left alone.
    Unreadable,
}

impl Slot {
    /// Forgets the entries, because somebody else wrote some.
    pub(super) fn invalidate(&self) {
        self.held().recount = true;
        self.invalidate_row();
    }

    /// Forgets the row, because somebody else wrote it.
    pub(super) fn invalidate_row(&self) {
        let mut held = self.held();
        held.generation += 1;
        held.meta = Meta::Unknown;
    }

    /// Notes a use, by the number of it.
    pub(super) fn used(&self, use_number: u64) {
        self.account().last_use = use_number;
    }

    /// Number of the last use.
    pub(super) fn last_use(&self) -> u64 {
        self.account().last_use
    }

    /// Bytes it takes in memory, roughly.
    pub(super) fn weight(&self) -> usize {
        self.held().weight()
    }

    /// Replaces the bytes that the memory limit counts for it; answers those before.
    pub(super) fn book(&self, bytes: usize) -> usize {
        std::mem::replace(&mut self.account().bytes, bytes)
    }

    /// Drops what the store holds too; answers whether the rest must be remembered.
    pub(super) fn forget(&self) -> bool {
        let mut held = self.held();
        held.index = None;
        held.meta = Meta::Unknown;
        held.recount
    }

    /// Answers a question about the entries of a session, loading them first when they are not in memory.
    pub(super) async fn read<R>(
        &self,
        cx: &Cx<Sessions>,
        session: &SessionId,
        question: impl Fn(&Index) -> R,
    ) -> Result<R> {
        {
            let held = self.held();
            if let Some(index) = held.current().filter(|_| !held.staged) {
                return Ok(question(index));
            }
        }
        let _writer = self.lock.lock().await;
        self.load(cx, session).await?;
        self.ask(question)
    }

    /// Waits until the caller is the only writer of the session.
    pub(super) async fn write(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.lock).lock_owned().await
    }

    /// Reads the entries from the store unless they are in memory. The caller holds the lock.
    pub(super) async fn load(&self, cx: &Cx<Sessions>, session: &SessionId) -> Result<()> {
        let generation = {
            let held = self.held();
            if held.current().is_some() {
                return Ok(());
            }
            held.generation
        };
        let rows = if cx.state().in_memory(cx) {
            Vec::new()
        } else {
            storage::entries(cx, session).await?
        };
        let (index, flaws) = Index::load(rows);
        if !flaws.is_empty() {
            let named: Vec<_> = flaws.iter().take(NAMED_FLAWS).map(ToString::to_string).collect();
            tracing::warn!(%session, count = flaws.len(), records = ?named, "session holds records that cannot be read");
        }
        {
            let mut held = self.held();
            held.index = Some(index);
            held.read_at = generation;
        }
        cx.state().settle(cx, self);
        Ok(())
    }

    /// Reads the row of the session from the store unless it is in memory. The caller holds the lock.
    pub(super) async fn load_meta(&self, cx: &Cx<Sessions>, session: &SessionId) -> Result<Meta> {
        let (known, generation) = {
            let held = self.held();
            (held.meta.clone(), held.generation)
        };
        if !matches!(known, Meta::Unknown) {
            return Ok(known);
        }
        let meta = if cx.state().in_memory(cx) {
            Meta::Missing
        } else {
            match storage::meta(cx, session).await? {
                None => Meta::Missing,
                Some(stored) => match SessionMeta::read(stored) {
                    Some(meta) if meta.session_id == *session => Meta::Known(Arc::new(meta)),
                    Some(_) | None => {
                        tracing::warn!(%session, "the row of a session cannot be read; it is left alone");
                        Meta::Unreadable
                    }
                },
            }
        };
        {
            let mut held = self.held();
            if held.generation == generation {
                held.meta = meta.clone();
            }
        }
        cx.state().settle(cx, self);
        Ok(meta)
    }

    /// Writes the first row of a session. The caller holds the lock.
    pub(super) async fn create(&self, cx: &Cx<Sessions>, meta: SessionMeta) -> Result<()> {
        if !cx.state().in_memory(cx)
            && let Err(error) = storage::write_meta(cx, &meta).await
        {
            self.held().meta = Meta::Unknown;
            return Err(error);
        }
        self.held().meta = Meta::Known(Arc::new(meta));
        cx.state().settle(cx, self);
        Ok(())
    }

    /// Writes entries behind all others, each under one that is stored or before it, and the row that goes with them. The
    /// caller holds the lock and has loaded the session.
    pub(super) async fn append(
        &self,
        cx: &Cx<Sessions>,
        session: &SessionId,
        entries: Vec<SessionEntry>,
        meta: Option<SessionMeta>,
    ) -> Result<()> {
        self.write_to_store(cx, storage::write_chain(cx, session, &entries, meta.as_ref()))
            .await?;
        self.stored(cx, entries, meta);
        Ok(())
    }

    /// Writes entries in the place of those with their ids, and the row that goes with them. The caller holds the lock and
    /// has loaded the session.
    pub(super) async fn rewrite(
        &self,
        cx: &Cx<Sessions>,
        session: &SessionId,
        entries: Vec<SessionEntry>,
        meta: Option<SessionMeta>,
    ) -> Result<()> {
        self.write_to_store(cx, storage::rewrite(cx, session, &entries, meta.as_ref()))
            .await?;
        if let Some(index) = self.held().index.as_mut() {
            for entry in entries {
                index.replace(Arc::new(entry));
            }
        }
        self.stored(cx, Vec::new(), meta);
        Ok(())
    }

    /// Removes the entries and the row of a session. The caller holds the lock and has loaded it; `beside` goes with them.
    pub(super) async fn remove(
        &self,
        cx: &Cx<Sessions>,
        session: &SessionId,
        beside: Vec<Write>,
    ) -> Result<()> {
        let ids = self.ask(|index| {
            let entries = index.entries().iter();
            entries.map(|entry| entry.id.clone()).collect::<Vec<_>>()
        })?;
        if cx.state().in_memory(cx) {
            storage::commit(cx, storage::REMOVE, beside).await?;
        } else {
            let removed = storage::remove(cx, session, &ids, beside).await;
            removed.inspect_err(|_| self.lost())?;
        }
        {
            let mut held = self.held();
            held.index = Some(Index::default());
            held.meta = Meta::Missing;
        }
        cx.state().settle(cx, self);
        Ok(())
    }

    /// Waits for a write, unless the session lives in memory only. After a failure nobody knows what the store holds.
    async fn write_to_store(&self, cx: &Cx<Sessions>, write: impl Future<Output = Result<()>>) -> Result<()> {
        if cx.state().in_memory(cx) {
            return Ok(());
        }
        write.await.inspect_err(|_| self.lost())
    }

    /// Readers wait until the lock is free again; `false` when it is about to be.
    pub(super) fn set_staged(&self, staged: bool) {
        self.held().staged = staged;
    }

    /// Nobody knows whether the last write is in the store.
    pub(super) fn lost(&self) {
        let mut held = self.held();
        held.index = None;
        held.meta = Meta::Unknown;
        held.recount = true;
    }

    /// Takes in what is in the store now. The caller holds the lock.
    pub(super) fn stored(&self, cx: &Cx<Sessions>, entries: Vec<SessionEntry>, meta: Option<SessionMeta>) {
        {
            let mut held = self.held();
            held.recount &= held.current().is_none();
            if let Some(index) = held.index.as_mut() {
                for entry in entries {
                    index.push(Arc::new(entry));
                }
            }
            if let (Some(meta), Meta::Known(_) | Meta::Missing) = (meta, &held.meta) {
                held.meta = Meta::Known(Arc::new(meta));
            }
        }
        cx.state().settle(cx, self);
    }

    /// Asks the index that was loaded last. The caller holds the lock and has loaded the session.
    pub(super) fn ask<R>(&self, question: impl FnOnce(&Index) -> R) -> Result<R> {
        match &self.held().index {
            Some(index) => Ok(question(index)),
            None => Err(Error::Unavailable("the session is not in memory".to_owned())),
        }
    }

    /// Number of entries and summary line, when the entries are in memory. Not while a write waits for a commit: then
    /// the stored row is the newest, once it is there.
    pub(super) fn counted(&self) -> Option<(usize, Option<String>)> {
        let held = self.held();
        let index = held.current().filter(|_| !held.staged);
        index.map(|index| (index.len(), index.summary()))
    }

    /// What is known of the row.
    pub(super) fn meta(&self) -> Meta {
        self.held().meta.clone()
    }

    /// Whether somebody else wrote entries of this session, so that the count in its row is not to be trusted.
    pub(super) fn recount(&self) -> bool {
        self.held().recount
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn current(&self) -> Option<&Index> {
        self.index.as_ref().filter(|_| self.read_at == self.generation)
    }

    fn weight(&self) -> usize {
        const SLOT: usize = 256;
        let meta = self.meta.known().map_or(0, |meta| meta.weight());
        SLOT + meta + self.index.as_ref().map_or(0, Index::bytes)
    }
}

impl Meta {
    /// The row, when there is a readable one.
    pub(super) fn known(&self) -> Option<Arc<SessionMeta>> {
        if let Self::Known(meta) = self {
            Some(Arc::clone(meta))
        } else {
            None
        }
    }
}
