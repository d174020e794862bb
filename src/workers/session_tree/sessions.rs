//! Memory of the worker: a write-through index per session (contract 06 §3.4, weaknesses 3, 4, 8, 11).
//!
//! ```text
//!  writer: lock of the session ─► load if needed ─► commit to the store ─► add to the index
//!  reader: index there? ─yes─► read it under a short mutex;   no ─► lock of the session ─► load ─► read it
//! ```
//!
//! Invariants: the index holds only what the store acknowledged; after a failed write it is dropped, since nobody knows
//! what the store holds; a slot in use is never evicted, so a session never has two locks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::meta::SessionMeta;
use super::slot::Slot;
use crate::bus::Cx;
use crate::config::StoreBackend;
use crate::model::SessionId;

/// How far a time of change may run ahead of the clock to tell changes of one millisecond apart.
const MAX_LEAD_MS: i64 = 16;

/// All sessions this process has touched and still remembers.
#[derive(Debug, Default)]
pub struct Sessions {
    slots: Mutex<Slots>,
    in_memory: OnceLock<bool>,
    last_change: AtomicI64,
}

#[derive(Debug, Default)]
struct Slots {
    by_id: HashMap<SessionId, Arc<Slot>>,
    bytes: usize,
    uses: u64,
}

impl Sessions {
    /// Forgets the entries of a session, because somebody else wrote some: the next question reads the store again, and a
    /// list counts them instead of trusting the row. Short and without I/O, fit for a tap.
    pub fn invalidate(&self, session: &str) {
        self.slot(&SessionId::from(session)).invalidate();
    }

    /// Forgets the row of a session, because somebody else wrote it.
    pub fn invalidate_row(&self, session: &str) {
        if let Some(slot) = self.peek(session) {
            slot.invalidate_row();
        }
    }

    /// Forgets what the store holds too, of all sessions.
    pub(super) fn invalidate_all(&self) {
        let sessions: Vec<SessionId> = self.slots().by_id.keys().cloned().collect();
        for session in sessions {
            self.invalidate(&session);
        }
    }

    /// The slot of a session, made when there is none.
    pub(super) fn slot(&self, session: &SessionId) -> Arc<Slot> {
        let mut slots = self.slots();
        slots.uses += 1;
        let now = slots.uses;
        let slot = match slots.by_id.get(session) {
            Some(slot) => Arc::clone(slot),
            None => Arc::clone(slots.by_id.entry(session.clone()).or_default()),
        };
        slot.used(now);
        slot
    }

    /// The slot of a session, when there is one; does not count as a use.
    pub(super) fn peek(&self, session: &str) -> Option<Arc<Slot>> {
        self.slots().by_id.get(session).map(Arc::clone)
    }

    /// Whether trees live in this process only. Read once: the setting takes a restart.
    pub(super) fn in_memory(&self, cx: &Cx<Self>) -> bool {
        *self
            .in_memory
            .get_or_init(|| cx.config().session.store_backend == StoreBackend::Memory)
    }

    /// Rows of all sessions of the memory backend.
    pub(super) fn metas(&self) -> Vec<SessionMeta> {
        let slots: Vec<_> = self.slots().by_id.values().map(Arc::clone).collect();
        slots
            .iter()
            .filter_map(|slot| slot.meta().known().map(|meta| SessionMeta::clone(&meta)))
            .collect()
    }

    /// Time of a change of a session: now, but a little later than the change before it, so that "newest first" is
    /// exact also for changes within one millisecond. Under more changes than that it is simply now.
    pub(super) fn change_time(&self, now_ms: i64) -> i64 {
        let next = |last: i64| {
            let later = last.saturating_add(1);
            if later <= now_ms || later > now_ms.saturating_add(MAX_LEAD_MS) {
                now_ms
            } else {
                later
            }
        };
        let before = self
            .last_change
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last)));
        next(before.unwrap_or_else(|last| last))
    }

    /// Puts a slot's size on the books and drops the least used ones while all together pass the limit.
    pub(super) fn settle(&self, cx: &Cx<Self>, slot: &Slot) {
        let bytes = slot.weight();
        let limit = cx.config().session.cache_bytes;
        let mut slots = self.slots();
        let before = slot.book(bytes);
        slots.bytes = (slots.bytes + bytes).saturating_sub(before);
        if slots.bytes > limit && !self.in_memory(cx) {
            slots.evict(limit - limit / 4);
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// Drops slots that nobody uses now, the least recently used first, until the rest fits.
    fn evict(&mut self, target: usize) {
        let mut idle: Vec<_> = self
            .by_id
            .iter()
            .filter(|(_, slot)| Arc::strong_count(slot) == 1)
            .map(|(id, slot)| (slot.last_use(), id.clone()))
            .collect();
        idle.sort_unstable_by_key(|&(last_use, _)| last_use);
        for (_, id) in idle {
            if self.bytes <= target {
                break;
            }
            let Some(slot) = self.by_id.get(&id) else { continue };
            self.bytes = self.bytes.saturating_sub(slot.book(0));
            let recount = slot.forget();
            if !recount {
                self.by_id.remove(&id);
            }
        }
    }
}
