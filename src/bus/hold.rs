//! Named locks of the process: two workers that touch the same thing agree on a name instead of on each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use super::Bus;

type Locks = HashMap<String, Arc<tokio::sync::Mutex<()>>>;

/// A held name; dropping it lets the next one in.
#[derive(Debug)]
pub struct Hold {
    guard: Option<OwnedMutexGuard<()>>,
    name: String,
    locks: Arc<Mutex<Locks>>,
}

#[derive(Debug, Default)]
pub(super) struct Holds(Arc<Mutex<Locks>>);

impl Bus {
    /// Holds a name; waits, in order, while another one holds it.
    pub async fn hold(&self, name: &str) -> Hold {
        let locks = Arc::clone(&self.0.holds.0);
        let lock = {
            let mut known = locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(name.to_owned()).or_default())
        };
        // Made before the wait: one that gives up while it waits leaves nothing behind either.
        let mut hold = Hold {
            guard: None,
            name: name.to_owned(),
            locks,
        };
        hold.guard = Some(lock.lock_owned().await);
        hold
    }

    /// Names held or waited for right now, sorted.
    pub fn held(&self) -> Vec<String> {
        let known = self.0.holds.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> = known.keys().cloned().collect();
        names.sort();
        names
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.guard = None;
        let mut known = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // Only the map still knows it: nobody holds it or waits for it.
        if known
            .get(&self.name)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            known.remove(&self.name);
        }
    }
}
