//! What is remembered of a session beyond the life of its actor, until it is stored.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::SessionId;

/// One thing per session. There is one only between something that has happened and its being stored: what is kept is
/// bounded by the sessions whose store does not answer.
pub(super) struct Kept<T>(Mutex<HashMap<SessionId, T>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Kept<T> {
    /// Keeps it in the place of what was kept of the session before.
    pub(super) fn keep(&self, session: &SessionId, value: T) {
        self.lock().insert(session.clone(), value);
    }

    /// It is stored, or another process's business.
    pub(super) fn forget(&self, session: &SessionId) {
        self.lock().remove(session);
    }

    /// What is kept of the session, as far as `pick` wants it.
    pub(super) fn find<U>(&self, session: &SessionId, pick: impl FnOnce(&T) -> Option<U>) -> Option<U> {
        self.lock().get(session).and_then(pick)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
