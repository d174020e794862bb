//! State taps: in-process listeners on rows that somebody writes through the engine's own functions. With them a worker
//! that keeps rows in memory hears of a foreign write before its writer does.

use std::sync::{Arc, PoisonError, RwLock};

/// Sees scope and key of a stored write, in commit order, before the writer is answered; must not block.
pub type StateTap = Arc<dyn Fn(&str, &str) + Send + Sync>;

#[derive(Default)]
pub(super) struct StateTaps(RwLock<Vec<(String, StateTap)>>);

impl StateTaps {
    pub(super) fn add(&self, prefix: &str, tap: StateTap) {
        let mut taps = self.0.write().unwrap_or_else(PoisonError::into_inner);
        taps.push((prefix.to_owned(), tap));
    }

    pub(super) fn of(&self, scope: &str) -> Vec<StateTap> {
        let taps = self.0.read().unwrap_or_else(PoisonError::into_inner);
        taps.iter()
            .filter(|(prefix, _)| scope.starts_with(prefix.as_str()))
            .map(|(_, tap)| Arc::clone(tap))
            .collect()
    }
}
