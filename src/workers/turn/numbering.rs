//! Item ids of a session's events, and their writes.

use std::sync::Arc;

use super::record::Emitter;
use crate::bus::{StreamItem, Write, to_json};
use crate::error::Result;
use crate::model::{AgentEvent, SessionId};

/// Stream of all agent events.
pub(super) const EVENTS: &str = "agent::events";
/// Stream that gets a copy of each `turn_end`.
const TURN_END: &str = "agent::turn_end";

/// Gives items their ids (contract 01 §7).
pub(super) struct Numbering {
    session: Arc<str>,
    prefix: String,
    next: u64,
    events: Arc<str>,
}

impl Numbering {
    pub(super) fn new(session: &SessionId, emitter: &Emitter) -> Self {
        let epoch = match emitter.wake {
            0 => emitter.epoch.clone(),
            wake => format!("{}.{wake:04}", emitter.epoch),
        };
        Self {
            session: Arc::from(session.as_str()),
            prefix: format!("{session}-{epoch}"),
            next: 0,
            events: EVENTS.into(),
        }
    }

    /// The item id that so many others come before.
    pub(super) fn item(&self, after: u64) -> String {
        format!("{}-{:08}", self.prefix, self.next + after)
    }

    /// The item of an event and its writes; one step of the counter.
    fn number(&mut self, event: &AgentEvent) -> Result<(StreamItem, Vec<Write>)> {
        self.number_as(self.item(0), event)
    }

    /// The same under a given id, which may be one of an earlier emitter.
    pub(super) fn number_as(&mut self, item: String, event: &AgentEvent) -> Result<(StreamItem, Vec<Write>)> {
        if item == self.item(0) {
            self.next += 1;
        }
        let data = Arc::new(to_json(event)?);
        let write = |stream: &str| Write::StreamSet {
            stream: stream.to_owned(),
            group: self.session.as_ref().to_owned(),
            item: item.clone(),
            data: Arc::clone(&data),
        };
        let mut writes = vec![write(EVENTS)];
        if matches!(event, AgentEvent::TurnEnd { .. }) {
            writes.push(write(TURN_END));
        }
        let shown = StreamItem {
            stream: Arc::clone(&self.events),
            group: Arc::clone(&self.session),
            item,
            data,
        };
        Ok((shown, writes))
    }

    pub(super) fn number_all(&mut self, events: &[AgentEvent]) -> (Vec<StreamItem>, Vec<Write>) {
        let mut items = Vec::with_capacity(events.len());
        let mut writes = Vec::with_capacity(events.len());
        for event in events {
            match self.number(event) {
                Ok((item, set)) => {
                    items.push(item);
                    writes.extend(set);
                }
                Err(error) => tracing::error!(%error, "event not emitted"),
            }
        }
        (items, writes)
    }
}
