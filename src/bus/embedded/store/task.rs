//! Work for the writer thread, in two steps: run inside the transaction, settle after its end.

use std::panic::AssertUnwindSafe;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::AfterCommit;
use super::rows::{Rows, Write, Written};
use crate::error::{Error, Result};

pub(super) trait Task: Send {
    /// Does the work inside the open transaction; a failure undoes this task only.
    fn run(&mut self, connection: &Connection, rows: &mut Rows) -> Result<()>;

    /// Called once, after the transaction ended, with what became of the work.
    fn settle(self: Box<Self>, outcome: Result<()>);
}

/// A list of writes to state and streams.
pub(super) struct Batch {
    writes: Vec<Write>,
    written: Vec<Written>,
    then: Option<AfterCommit>,
    answer: oneshot::Sender<Result<Vec<Written>>>,
}

impl Batch {
    pub(super) fn new(
        writes: Vec<Write>,
        then: Option<AfterCommit>,
        answer: oneshot::Sender<Result<Vec<Written>>>,
    ) -> Self {
        Self {
            written: Vec::with_capacity(writes.len()),
            writes,
            then,
            answer,
        }
    }
}

impl Task for Batch {
    fn run(&mut self, connection: &Connection, rows: &mut Rows) -> Result<()> {
        for write in self.writes.drain(..) {
            self.written.push(rows.apply(connection, write)?);
        }
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<()>) {
        let Self {
            written,
            then,
            answer,
            ..
        } = *self;
        let outcome = outcome.map(|()| {
            if let Some(then) = then {
                after_commit(|| then(&written));
            }
            written
        });
        // The caller may be gone; its write stands.
        drop(answer.send(outcome));
    }
}

/// Work of the queues and the configuration.
pub(super) struct Custom<T, F, A> {
    work: Option<F>,
    result: Option<T>,
    then: A,
    answer: oneshot::Sender<Result<T>>,
}

impl<T, F, A> Custom<T, F, A> {
    pub(super) fn new(work: F, then: A, answer: oneshot::Sender<Result<T>>) -> Self {
        Self {
            work: Some(work),
            result: None,
            then,
            answer,
        }
    }
}

impl<T, F, A> Task for Custom<T, F, A>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T> + Send,
    A: FnOnce(&T) + Send,
{
    fn run(&mut self, connection: &Connection, _: &mut Rows) -> Result<()> {
        let Some(work) = self.work.take() else {
            return Err(Error::store("store", "the work was done before"));
        };
        self.result = Some(work(connection)?);
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<()>) {
        let Self {
            result, then, answer, ..
        } = *self;
        let outcome =
            outcome.and_then(|()| result.ok_or_else(|| Error::store("store", "the work gave no result")));
        if let Ok(result) = &outcome {
            after_commit(|| then(result));
        }
        drop(answer.send(outcome));
    }
}

/// Runs a hook; the write it belongs to stands, whatever the hook does.
fn after_commit(hook: impl FnOnce()) {
    let done = guarded(|| {
        hook();
        Ok(())
    });
    if done.is_err() {
        tracing::error!("an after-commit hook panicked");
    }
}

/// Runs a step; a panic becomes its error, so that the thread lives on.
pub(super) fn guarded<T>(step: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(step))
        .unwrap_or_else(|_| Err(Error::store("store", "a step of the store panicked")))
}
