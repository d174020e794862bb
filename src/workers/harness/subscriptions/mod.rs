//! Who listens to what, and what waits for whom (contract 04 §2, §3.1). No I/O and no clock of its own.
//!
//! A browser whose handlers vanished is suspended: not counted, tried at most once a second per kind of push, restored
//! by the first push that succeeds, or at the end if its handlers are there again, else forgotten.

mod browser;
mod lane;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::browser::{Browser, Suspension};
use super::queue::{Event, Waiting};
use crate::config::Config;

pub(super) use self::lane::{Lane, Member};

/// Browsers that are remembered; beyond that the one not heard of for longest is dropped.
const MOST_BROWSERS: usize = 4_096;

/// A browser or session id.
pub(super) type Id = Arc<str>;

/// Settings of the pushes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Events waiting per lane before deltas are merged.
    pub(super) queue_len: usize,
    /// Life of a suspended browser; zero drops it at once.
    pub(super) suspend: Duration,
}

impl Limits {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            queue_len: config.ui.queue_len,
            suspend: Duration::from_millis(config.ui.suspend_ms),
        }
    }
}

/// How a push ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The browser answered.
    Delivered,
    /// Nobody hosts the handler.
    NotFound,
    /// Timed out, or the handler failed: the browser is there all the same.
    Failed,
}

/// A push that ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pushed {
    /// As [`Push::heard`].
    pub(super) heard: u64,
    pub(super) outcome: Outcome,
}

/// What the outcome of a push did to a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// Suspended until the given time; the number tells this suspension from later ones.
    Suspended(u64, Instant),
    /// Removed at once.
    Removed,
}

/// What to push next.
#[derive(Debug, PartialEq)]
pub(super) struct Push {
    pub(super) what: Waiting,
    /// When the browser was heard of last before.
    pub(super) heard: u64,
}

/// A lane that needs somebody to empty it.
pub(super) type Start = (Id, Lane);

/// All browsers, with an index by session.
#[derive(Debug, Default)]
pub(super) struct Browsers {
    known: HashMap<Id, Browser>,
    by_session: HashMap<Id, HashSet<Id>>,
    everywhere: HashSet<Id>,
    suspensions: u64,
    now: u64,
}

impl Browsers {
    /// Adds a subscription; answers how many browsers there are. Asking again is proof of life: a suspension ends.
    pub(super) fn subscribe(&mut self, browser: &Id, member: Member) -> usize {
        match &member {
            Member::All => self.everywhere.insert(Arc::clone(browser)),
            Member::Session(session) => self
                .by_session
                .entry(Arc::clone(session))
                .or_default()
                .insert(Arc::clone(browser)),
        };
        self.now += 1;
        let entry = self.known.entry(Arc::clone(browser)).or_default();
        entry.members.insert(member);
        entry.suspension = None;
        entry.heard = self.now;
        if self.known.len() > MOST_BROWSERS {
            self.drop_the_quietest();
        }
        self.total()
    }

    /// Whether the browser may listen to one more session.
    pub(super) fn has_room(&self, browser: &Id, member: &Member) -> bool {
        self.known.get(browser).is_none_or(|entry| entry.has_room(member))
    }

    /// Whether events of the session do not reach the browser as things stand.
    pub(super) fn misses(&self, browser: &Id, session: &Id) -> bool {
        let lane = Lane::Session(Arc::clone(session));
        self.known
            .get(browser)
            .is_none_or(|entry| entry.suspension.is_some() || !entry.wants(&lane))
    }

    /// Puts what a late listener missed before what comes, and in the place of what waits; answers the lane if somebody must start it.
    pub(super) fn replay(&mut self, browser: &Id, session: &Id, missed: Vec<Waiting>) -> Option<Start> {
        let entry = self.known.get_mut(browser).filter(|_| !missed.is_empty())?;
        let lane = Lane::Session(Arc::clone(session));
        let running = entry.lanes.contains_key(&lane);
        entry.replay(&lane, missed);
        (!running).then(|| (Arc::clone(browser), lane))
    }

    /// Takes one subscription away; answers how many browsers are left.
    pub(super) fn unsubscribe(&mut self, browser: &Id, member: &Member) -> usize {
        if let Some(entry) = self.known.get_mut(browser) {
            entry.members.remove(member);
            entry.drop_unwanted();
            self.forget_in_index(browser, member);
            self.tidy(browser);
        }
        self.total()
    }

    /// Browsers with a subscription, suspended ones left out.
    pub(super) fn total(&self) -> usize {
        self.known.values().filter(|browser| browser.counts()).count()
    }

    /// Queues an event of a session for everybody who listens to it; answers the lanes to start, and the browsers given
    /// up because their queue was full for too long.
    pub(super) fn offer(
        &mut self,
        session: &Id,
        event: &Event,
        limits: Limits,
        now: Instant,
    ) -> (Vec<Start>, Vec<Id>) {
        let listeners: Vec<Id> = match self.by_session.get(session) {
            Some(own) if self.everywhere.is_empty() => own.iter().cloned().collect(),
            Some(own) => own.union(&self.everywhere).cloned().collect(),
            None if self.everywhere.is_empty() => return (Vec::new(), Vec::new()),
            None => self.everywhere.iter().cloned().collect(),
        };
        let lane = Lane::Session(Arc::clone(session));
        self.offer_to(listeners, &lane, event, limits, now)
    }

    /// Queues news of sessions for everybody who listens to all of them.
    pub(super) fn offer_change(
        &mut self,
        news: &Event,
        limits: Limits,
        now: Instant,
    ) -> (Vec<Start>, Vec<Id>) {
        let listeners = self.everywhere.iter().cloned().collect();
        self.offer_to(listeners, &Lane::Changes, news, limits, now)
    }

    fn offer_to(
        &mut self,
        listeners: Vec<Id>,
        lane: &Lane,
        event: &Event,
        limits: Limits,
        now: Instant,
    ) -> (Vec<Start>, Vec<Id>) {
        let (mut starts, mut evicted) = (Vec::new(), Vec::new());
        for id in listeners {
            let Some(browser) = self.known.get_mut(&id) else {
                continue;
            };
            let running = browser.lanes.contains_key(lane);
            let unreachable = browser
                .suspension
                .as_ref()
                .is_some_and(|suspension| !suspension.may_try(lane, now));
            if unreachable && !running {
                continue;
            }
            if !browser.offer(lane, event, limits, now) {
                self.remove(&id);
                evicted.push(id);
            } else if !running {
                starts.push((id, lane.clone()));
            }
        }
        (starts, evicted)
    }

    /// What to push next on a lane. `None` ends the lane; the next event starts it again.
    pub(super) fn next(&mut self, browser: &Id, lane: &Lane, now: Instant) -> Option<Push> {
        let entry = self.known.get_mut(browser)?;
        while let Some(what) = entry.pop(lane) {
            if let Some(suspension) = &mut entry.suspension {
                if !suspension.may_try(lane, now) {
                    continue;
                }
                suspension.tried[lane.kind()] = Some(now);
            }
            let heard = entry.heard;
            return Some(Push { what, heard });
        }
        entry.end(lane);
        self.tidy(browser);
        None
    }

    /// What was to be pushed was not, for a reason that is not the browser's: it is next again, unless it was forgotten.
    pub(super) fn put_back(&mut self, browser: &Id, lane: &Lane, what: Waiting) {
        if let Some(entry) = self.known.get_mut(browser) {
            entry.put_back(lane, what);
        }
    }

    /// Takes note of how a push ended.
    pub(super) fn finished(
        &mut self,
        browser: &Id,
        lane: &Lane,
        Pushed { heard, outcome }: Pushed,
        limits: Limits,
        now: Instant,
    ) -> Effect {
        let Some(entry) = self.known.get_mut(browser) else {
            return Effect::None;
        };
        match (outcome, &mut entry.suspension) {
            (Outcome::Delivered, suspension) => {
                *suspension = None;
                self.now += 1;
                entry.heard = self.now;
                Effect::None
            }
            (Outcome::Failed, _) => Effect::None,
            // It has answered or subscribed since: its handlers came after this push.
            (Outcome::NotFound, _) if entry.heard != heard => Effect::None,
            (Outcome::NotFound, Some(suspension)) => {
                suspension.tried[lane.kind()] = Some(now);
                Effect::None
            }
            (Outcome::NotFound, None) if entry.members.is_empty() => Effect::None,
            (Outcome::NotFound, None) if limits.suspend.is_zero() => {
                self.remove(browser);
                Effect::Removed
            }
            (Outcome::NotFound, None) => {
                self.suspensions += 1;
                let mut tried = [None; 2];
                tried[lane.kind()] = Some(now);
                entry.suspension = Some(Suspension {
                    number: self.suspensions,
                    tried,
                });
                Effect::Suspended(self.suspensions, now + limits.suspend)
            }
        }
    }

    /// Whether the suspension of that number was not lifted.
    pub(super) fn is_suspended(&self, browser: &Id, number: u64) -> bool {
        let suspension = self
            .known
            .get(browser)
            .and_then(|entry| entry.suspension.as_ref());
        suspension.is_some_and(|suspension| suspension.number == number)
    }

    /// Forgets a browser whose suspension of that number was not lifted. True when it was forgotten.
    pub(super) fn expire(&mut self, browser: &Id, number: u64) -> bool {
        let due = self.is_suspended(browser, number);
        if due {
            self.remove(browser);
        }
        due
    }

    /// Lifts the suspension of that number.
    pub(super) fn restore(&mut self, browser: &Id, number: u64) {
        if self.is_suspended(browser, number)
            && let Some(entry) = self.known.get_mut(browser)
        {
            entry.suspension = None;
        }
    }

    /// Ends a lane with whatever still waits on it.
    pub(super) fn abandon(&mut self, browser: &Id, lane: &Lane) {
        if let Some(entry) = self.known.get_mut(browser) {
            entry.end(lane);
            self.tidy(browser);
        }
    }

    /// Whether nothing at all is remembered.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.by_session.is_empty() && self.everywhere.is_empty()
    }

    /// Drops all subscriptions of a browser.
    fn remove(&mut self, browser: &Id) {
        let Some(entry) = self.known.get_mut(browser) else {
            return;
        };
        let members = std::mem::take(&mut entry.members);
        entry.suspension = None;
        entry.drop_unwanted();
        for member in &members {
            self.forget_in_index(browser, member);
        }
        self.tidy(browser);
    }

    fn drop_the_quietest(&mut self) {
        let listening = self
            .known
            .iter()
            .filter(|(_, browser)| !browser.members.is_empty());
        let quietest = listening.min_by_key(|(_, browser)| browser.heard);
        if let Some(browser) = quietest.map(|(id, _)| Arc::clone(id)) {
            tracing::warn!(%browser, "too many browsers, the one not heard of for longest is dropped");
            self.remove(&browser);
        }
    }

    fn forget_in_index(&mut self, browser: &Id, member: &Member) {
        match member {
            Member::All => {
                self.everywhere.remove(browser);
            }
            Member::Session(session) => {
                if let Some(listeners) = self.by_session.get_mut(session) {
                    listeners.remove(browser);
                    if listeners.is_empty() {
                        self.by_session.remove(session);
                    }
                }
            }
        }
    }

    fn tidy(&mut self, browser: &Id) {
        if self
            .known
            .get(browser)
            .is_some_and(|entry| entry.members.is_empty() && entry.lanes.is_empty())
        {
            self.known.remove(browser);
        }
    }
}

#[cfg(test)]
mod tests;
