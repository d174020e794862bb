//! Collections under way, by event id, and those that just ended.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::collector::{Collector, Gathered};
use super::remove_reply;
use crate::bus::Cx;
use crate::error::{Error, Result};

/// Most collections at once.
const MAX_OPEN: usize = 1_024;

/// Ended collections that are remembered, so that their late replies are taken out of the stream.
const MAX_ENDED: usize = 4_096;

/// Memory of the worker.
#[derive(Debug, Default)]
pub struct Collectors(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    open: HashMap<Arc<str>, Arc<Collector>>,
    ended: VecDeque<Arc<str>>,
}

/// Whose replies these are.
#[derive(Debug)]
pub(super) enum Addressee {
    /// A collection under way.
    Open(Arc<Collector>),
    /// One that is over.
    Ended,
    /// Not one of this process.
    Unknown,
}

impl Collectors {
    pub(super) fn find(&self, event_id: &str) -> Addressee {
        let known = self.known();
        match known.open.get(event_id) {
            Some(collector) => Addressee::Open(Arc::clone(collector)),
            None if known.ended.iter().any(|ended| **ended == *event_id) => Addressee::Ended,
            None => Addressee::Unknown,
        }
    }

    fn open(&self, event_id: &Arc<str>, collector: Collector) -> Result<Arc<Collector>> {
        let mut known = self.known();
        if known.open.len() >= MAX_OPEN {
            return Err(Error::coded(
                "too_many_collections",
                format!("{MAX_OPEN} collections are under way; try again later"),
            ));
        }
        let collector = Arc::new(collector);
        known.open.insert(Arc::clone(event_id), Arc::clone(&collector));
        Ok(collector)
    }

    fn close(&self, event_id: &Arc<str>) {
        let mut known = self.known();
        known.open.remove(event_id);
        if known.ended.len() == MAX_ENDED {
            known.ended.pop_front();
        }
        known.ended.push_back(Arc::clone(event_id));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A collection under way; over, without a trace, when this is dropped.
#[derive(Debug)]
pub(super) struct Collection<'a> {
    cx: &'a Cx<Collectors>,
    pub(super) event_id: Arc<str>,
    pub(super) collector: Arc<Collector>,
}

impl<'a> Collection<'a> {
    /// # Errors
    /// Code `too_many_collections`.
    pub(super) fn open(cx: &'a Cx<Collectors>, collector: Collector) -> Result<Self> {
        let event_id: Arc<str> = cx.uuid().into();
        let collector = cx.state().open(&event_id, collector)?;
        Ok(Self {
            cx,
            event_id,
            collector,
        })
    }

    /// Ends it; answers the replies.
    pub(super) fn end(&self) -> Vec<serde_json::Value> {
        let Gathered { replies, items } = self.collector.end();
        for item in &items {
            remove_reply(self.cx, &self.event_id, item);
        }
        replies
    }
}

impl Drop for Collection<'_> {
    fn drop(&mut self) {
        self.cx.state().close(&self.event_id);
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge::MergeRule;
    use super::*;

    #[test]
    fn collections_are_bounded_and_leave_nothing_but_their_id() {
        let collectors = Collectors::default();
        let collector = || Collector::new(MergeRule::FieldMerge, None);
        let id = |n: usize| -> Arc<str> { n.to_string().into() };
        for n in 0..MAX_OPEN {
            collectors.open(&id(n), collector()).unwrap();
        }
        let refusal = collectors.open(&id(MAX_OPEN), collector()).unwrap_err();
        assert_eq!(refusal.wire_code(), "too_many_collections");
        assert!(matches!(collectors.find("7"), Addressee::Open(_)));
        collectors.close(&id(7));
        assert!(matches!(collectors.find("7"), Addressee::Ended));
        collectors.open(&id(MAX_OPEN), collector()).unwrap();
        for n in 0..MAX_ENDED {
            collectors.close(&id(n + 10_000));
        }
        assert!(matches!(collectors.find("7"), Addressee::Unknown));
        assert_eq!(collectors.known().ended.len(), MAX_ENDED);
    }
}
