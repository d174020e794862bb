//! A bounded queue from any thread to the threads of the store. Nobody polls: a thread without work sleeps.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::Error;

pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    limit: usize,
}

struct State<T> {
    jobs: VecDeque<T>,
    closed: bool,
}

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    Closed,
}

impl Refusal {
    pub(super) fn into_error(self, operation: &str) -> Error {
        match self {
            Self::Full => Error::store(operation, "too much work is waiting"),
            Self::Closed => Error::store(operation, "the store is closed"),
        }
    }
}

impl<T> Queue<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                closed: false,
            }),
            ready: Condvar::new(),
            limit,
        }
    }

    pub(super) fn push(&self, job: T) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refusal::Closed);
        }
        if state.jobs.len() >= self.limit {
            return Err(Refusal::Full);
        }
        state.jobs.push_back(job);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Waits for work and takes up to `most` jobs; empty only when the queue is closed and done.
    pub(super) fn take(&self, most: usize, into: &mut Vec<T>) {
        let mut state = self.wait();
        let count = state.jobs.len().min(most);
        into.extend(state.jobs.drain(..count));
        if state.jobs.is_empty() {
            // A burst must not pin its memory.
            state.jobs.shrink_to(1024);
        }
    }

    /// Waits for work; `None` when the queue is closed and done.
    pub(super) fn take_one(&self) -> Option<T> {
        self.wait().jobs.pop_front()
    }

    /// Refuses new work; what is queued is still done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    fn wait(&self) -> MutexGuard<'_, State<T>> {
        let state = self.lock();
        self.ready
            .wait_while(state, |state| state.jobs.is_empty() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
