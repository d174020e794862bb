//! One lock per session, so that two changes of its settings never overwrite each other (contract 03 weakness 4).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::model::SessionId;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// Locks of the sessions that are being changed right now; never more than there are changes on their way.
#[derive(Debug, Default)]
pub(super) struct SessionLocks {
    locks: Mutex<HashMap<SessionId, Lock>>,
}

/// Proof that nobody else changes the session; ends when dropped. The fields drop in this order, so that the ticket counts
/// right.
#[derive(Debug)]
pub(super) struct SessionGuard<'a> {
    _guard: OwnedMutexGuard<()>,
    _ticket: Ticket<'a>,
}

/// One user of a lock, waiting or holding. The last one takes the lock away.
#[derive(Debug)]
struct Ticket<'a> {
    locks: &'a SessionLocks,
    session_id: SessionId,
}

impl SessionLocks {
    /// Waits for the session's turn.
    pub(super) async fn lock(&self, session_id: &SessionId) -> SessionGuard<'_> {
        let lock = Arc::clone(self.map().entry(session_id.clone()).or_default());
        let ticket = Ticket {
            locks: self,
            session_id: session_id.clone(),
        };
        SessionGuard {
            _guard: lock.lock_owned().await,
            _ticket: ticket,
        }
    }

    /// How many sessions have a lock now.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.map().len()
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Lock>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut locks = self.locks.map();
        if locks
            .get(&self.session_id)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            locks.remove(&self.session_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_left_behind() {
        let locks = SessionLocks::default();
        let (a, b) = (SessionId::from("a"), SessionId::from("b"));
        let first = locks.lock(&a).await;
        let mut second = Box::pin(locks.lock(&a));
        assert!(second.as_mut().now_or_never().is_none());
        let other = locks.lock(&b).await;
        assert_eq!(locks.len(), 2);
        drop(first);
        let second = second.await;
        // One that gives up while waiting leaves nothing behind either.
        assert!(locks.lock(&a).now_or_never().is_none());
        assert_eq!(locks.len(), 2);
        drop(second);
        drop(other);
        assert_eq!(locks.len(), 0);
    }
}
