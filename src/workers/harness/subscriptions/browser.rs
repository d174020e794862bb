//! One browser: what it subscribed to, and what waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Lane, Limits, Member};
use crate::workers::harness::queue::{Event, LEAST_HARD, Queue, Waiting};

/// Events that may wait for one browser over all lanes, as a multiple of the length of one.
const LANES_FULL: usize = 64;

/// The same for a short length.
const LEAST_LANES_FULL: usize = 4 * LEAST_HARD;

/// Single sessions that one browser may listen to.
const MOST_SESSIONS: usize = 4_096;

/// Pause between two attempts to reach a suspended browser.
pub(super) const TRY_EVERY: Duration = Duration::from_secs(1);

/// A browser.
#[derive(Debug, Default)]
pub(super) struct Browser {
    pub(super) members: HashSet<Member>,
    pub(super) suspension: Option<Suspension>,
    /// Only lanes with a push in flight or about to be; an idle lane takes no memory.
    pub(super) lanes: HashMap<Lane, Queue>,
    /// Events on all lanes together, as [`Queue::len`] counts them.
    waiting: usize,
    /// When it subscribed or answered last, in steps of `Browsers::now`.
    pub(super) heard: u64,
}

/// Its handlers vanished; the number tells this suspension from later ones.
#[derive(Debug)]
pub(super) struct Suspension {
    pub(super) number: u64,
    pub(super) tried: [Option<Instant>; 2],
}

impl Suspension {
    /// Whether it is time for another attempt.
    pub(super) fn may_try(&self, lane: &Lane, now: Instant) -> bool {
        self.tried[lane.kind()].is_none_or(|at| now.duration_since(at) >= TRY_EVERY)
    }
}

impl Browser {
    /// Whether it subscribed to what goes over the lane.
    pub(super) fn wants(&self, lane: &Lane) -> bool {
        self.members.contains(&Member::All)
            || match lane {
                Lane::Session(session) => self.members.contains(&Member::Session(Arc::clone(session))),
                Lane::Changes => false,
            }
    }

    /// Whether it is one of those that are there.
    pub(super) fn counts(&self) -> bool {
        !self.members.is_empty() && self.suspension.is_none()
    }

    /// Whether it may listen to one more session.
    pub(super) fn has_room(&self, member: &Member) -> bool {
        self.members.len() < MOST_SESSIONS || self.members.contains(member)
    }

    /// Forgets what waits on lanes that are not subscribed any more. A push in flight keeps its lane, so that a new
    /// subscription cannot start a second one beside it.
    pub(super) fn drop_unwanted(&mut self) {
        let mut lanes = std::mem::take(&mut self.lanes);
        for (lane, queue) in &mut lanes {
            if !self.wants(lane) {
                self.waiting -= queue.len();
                queue.clear();
            }
        }
        self.lanes = lanes;
    }

    /// Queues an event on a lane. False when too much waits.
    pub(super) fn offer(&mut self, lane: &Lane, event: &Event, limits: Limits, now: Instant) -> bool {
        let fits = self.change(lane, |queue| queue.offer(event.clone(), limits.queue_len, now));
        let most = limits.queue_len.saturating_mul(LANES_FULL).max(LEAST_LANES_FULL);
        fits && self.waiting <= most
    }

    /// Puts what it missed on a lane, instead of what waits there.
    pub(super) fn replay(&mut self, lane: &Lane, missed: Vec<Waiting>) {
        self.change(lane, |queue| queue.replay(missed));
    }

    /// Takes the oldest event of a lane.
    pub(super) fn pop(&mut self, lane: &Lane) -> Option<Waiting> {
        self.change(lane, Queue::pop)
    }

    /// Puts an event that was taken back to the front of its lane.
    pub(super) fn put_back(&mut self, lane: &Lane, oldest: Waiting) {
        if self.lanes.contains_key(lane) {
            self.change(lane, |queue| queue.put_back(oldest));
        }
    }

    fn change<T>(&mut self, lane: &Lane, act: impl FnOnce(&mut Queue) -> T) -> T {
        let queue = self.lanes.entry(lane.clone()).or_default();
        self.waiting -= queue.len();
        let outcome = act(queue);
        self.waiting += queue.len();
        outcome
    }

    /// Ends a lane with whatever waits on it.
    pub(super) fn end(&mut self, lane: &Lane) {
        if let Some(queue) = self.lanes.remove(lane) {
            self.waiting -= queue.len();
        }
    }
}
