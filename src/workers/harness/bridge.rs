//! From the events of sessions to the browsers (contract 04 §3): one ordered queue and one push in flight per browser
//! and session. Whoever emits an event only queues it here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::announced::Announced;
use super::push;
use super::queue::Event;
use super::subscriptions::{Browsers, Id, Limits, Member, Start};
use super::turn_log::{self, TurnLog};
use crate::bus::{Bus, StreamItem};
use crate::error::{Error, Result};

/// Stream of the agent events (contract 01 §7).
pub(super) const EVENTS: &str = "agent::events";

/// Subscriptions, queues and the tasks that empty them.
#[derive(Debug, Default)]
pub(super) struct Bridge {
    /// Held from the note of an event to its place in the queues, so that a late listener misses nothing and gets nothing
    /// twice. Always taken before `browsers`.
    turns: Mutex<TurnLog>,
    browsers: Mutex<Browsers>,
    announced: Mutex<Announced>,
}

impl Bridge {
    /// Adds a subscription; answers the number of browsers. With `replay` a browser that was not reached by the session's
    /// events gets those of its current turn first.
    ///
    /// # Errors
    /// The browser listens to too many sessions.
    pub(super) fn subscribe(
        self: &Arc<Self>,
        bus: &Bus,
        browser: &str,
        member: Member,
        replay: bool,
    ) -> Result<usize> {
        let browser: Id = Arc::from(browser);
        let turns = self.turns();
        let mut browsers = self.browsers();
        if !browsers.has_room(&browser, &member) {
            return Err(Error::invalid(
                "too many subscriptions of one browser; subscribe to all sessions with null",
            ));
        }
        let missed = match &member {
            Member::Session(session) if replay && browsers.misses(&browser, session) => {
                Some((Arc::clone(session), turns.told(session)))
            }
            Member::Session(_) | Member::All => None,
        };
        let total = browsers.subscribe(&browser, member);
        let start = missed.and_then(|(session, told)| browsers.replay(&browser, &session, told));
        drop((browsers, turns));
        self.run(bus, start.into_iter().collect(), &[]);
        Ok(total)
    }

    /// Removes a subscription; answers the number of browsers.
    pub(super) fn unsubscribe(&self, browser: &str, member: &Member) -> usize {
        self.browsers().unsubscribe(&Arc::from(browser), member)
    }

    /// Shows this bridge everything that this process writes to `agent::events`.
    pub(super) fn listen(self: &Arc<Self>, bus: &Bus) {
        let (bridge, weak) = (Arc::clone(self), bus.downgrade());
        bus.tap_stream(
            EVENTS,
            Arc::new(move |item: &StreamItem| {
                let Some(bus) = weak.upgrade() else { return };
                if is_first_state(&item.data) {
                    bridge.session_created(&bus, &item.group);
                }
                bridge.event(&bus, &item.group, Arc::clone(&item.data));
            }),
        );
    }

    /// Queues an event of a session for its listeners.
    pub(super) fn event(self: &Arc<Self>, bus: &Bus, session: &Id, event: Arc<Value>) {
        let limits = Limits::of(&bus.config());
        let event = Event::new(event);
        // Everything that takes time goes before the locks: they are those of all sessions.
        let bytes = turn_log::bytes_of(event.json());
        let (starts, evicted) = {
            let mut turns = self.turns();
            turns.note(session, &event, bytes);
            self.browsers().offer(session, &event, limits, Instant::now())
        };
        self.run(bus, starts, &evicted);
    }

    /// Tells all-sessions listeners of a new session, once.
    pub(super) fn session_created(self: &Arc<Self>, bus: &Bus, session: &Id) {
        if self.announced().is_news(session, Instant::now()) {
            self.change(bus, json!({ "added": [&**session], "removed": [] }));
        }
    }

    /// Tells all-sessions listeners that a session is gone.
    pub(super) fn session_deleted(self: &Arc<Self>, bus: &Bus, session: &Id) {
        self.announced().forget(session);
        self.turns().forget(session);
        self.change(bus, json!({ "added": [], "removed": [&**session] }));
    }

    fn change(self: &Arc<Self>, bus: &Bus, news: Value) {
        let limits = Limits::of(&bus.config());
        let (starts, evicted) =
            self.browsers()
                .offer_change(&Event::new(Arc::new(news)), limits, Instant::now());
        self.run(bus, starts, &evicted);
    }

    fn run(self: &Arc<Self>, bus: &Bus, starts: Vec<Start>, evicted: &[Id]) {
        for browser in evicted {
            tracing::warn!(%browser, "browser does not keep up, its subscriptions are dropped");
        }
        for (browser, lane) in starts {
            bus.spawn(push::pump(Arc::clone(self), bus.clone(), browser, lane));
        }
    }

    fn turns(&self) -> MutexGuard<'_, TurnLog> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never held across an await.
    pub(super) fn browsers(&self) -> MutexGuard<'_, Browsers> {
        self.browsers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announced(&self) -> MutexGuard<'_, Announced> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The event that a session emits when its turn record is written for the first time (contract 02 §1.1).
fn is_first_state(event: &Value) -> bool {
    event.get("type").is_some_and(|kind| kind == "turn_state_changed")
        && event
            .get("event_type")
            .is_some_and(|kind| kind == "state:created")
}
