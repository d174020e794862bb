//! Runs that rest because of a budget, in the order in which they came: what one call releases, the next one may need.
//!
//! Only of this process, and only a help: whoever changes a budget wakes them all, and each looks again by itself.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::SessionId;

/// The resting runs, by budget.
#[derive(Default)]
pub(super) struct Resting(Mutex<HashMap<String, Queue>>);

#[derive(Default)]
struct Queue {
    order: VecDeque<SessionId>,
    /// Those of `order` that rest.
    rests: HashSet<SessionId>,
}

impl Resting {
    /// It rests from now on; one that does already keeps its place.
    pub(super) fn add(&self, budget_id: &str, session: &SessionId) {
        let mut queues = self.lock();
        let queue = queues.entry(budget_id.to_owned()).or_default();
        if queue.rests.insert(session.clone()) {
            queue.order.push_back(session.clone());
        }
    }

    /// It rests no longer.
    pub(super) fn remove(&self, budget_id: &str, session: &SessionId) {
        if let Some(queue) = self.lock().get_mut(budget_id) {
            queue.rests.remove(session);
        }
    }

    /// Takes out the one that rests for longest.
    pub(super) fn next(&self, budget_id: &str) -> Option<SessionId> {
        let mut queues = self.lock();
        let queue = queues.get_mut(budget_id)?;
        while let Some(session) = queue.order.pop_front() {
            if queue.rests.remove(&session) {
                return Some(session);
            }
        }
        queues.remove(budget_id);
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn whoever_rests_for_longest_is_next() {
        let resting = Resting::default();
        for session in ["a", "b", "a", "c"] {
            resting.add("x", &session.into());
        }
        resting.add("y", &"d".into());
        resting.remove("x", &"b".into());
        let mut order = Vec::new();
        while let Some(session) = resting.next("x") {
            order.push(session.to_string());
        }
        assert_eq!(order, ["a", "c"]);
        assert_eq!(resting.next("y"), Some("d".into()));
        assert!(resting.next("y").is_none() && resting.lock().is_empty());
    }
}
