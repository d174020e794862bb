//! The writer thread: group commit.

use std::sync::Arc;

use rusqlite::Connection;

use super::queue::Queue;
use super::rows::Rows;
use super::task::{Task, guarded};
use super::{Health, ReadJob, WriterJob};
use crate::error::{Error, Result};

/// Most tasks per transaction: bounds how long the first one waits for the last.
const MAX_GROUP: usize = 1024;

pub(super) struct Writer {
    connection: Connection,
    rows: Rows,
    health: Arc<Health>,
}

type Ran = (Box<dyn Task>, Result<()>);

impl Writer {
    pub(super) fn new(connection: Connection, stream_items_per_group: u64, health: Arc<Health>) -> Self {
        Self {
            connection,
            rows: Rows::new(stream_items_per_group),
            health,
        }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, queue: &Queue<WriterJob>) {
        let mut jobs = Vec::new();
        loop {
            queue.take(MAX_GROUP, &mut jobs);
            if jobs.is_empty() {
                break;
            }
            self.group(jobs.drain(..));
            jobs.shrink_to(64);
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "the store did not close cleanly");
        }
    }

    fn group(&mut self, jobs: impl ExactSizeIterator<Item = WriterJob>) {
        let alone = jobs.len() == 1;
        let mut ran: Vec<Ran> = Vec::with_capacity(jobs.len());
        let mut reads: Vec<ReadJob> = Vec::new();
        for job in jobs {
            match job {
                WriterJob::Read(read) => reads.push(read),
                WriterJob::Write(mut task) => {
                    let outcome = self.run_task(task.as_mut(), alone, &mut ran);
                    ran.push((task, outcome));
                }
            }
        }
        if !ran.is_empty() {
            self.commit(&mut ran);
        }
        for (task, outcome) in ran {
            let settled = guarded(|| {
                task.settle(outcome);
                Ok(())
            });
            report(settled, "an after-commit hook failed");
        }
        for read in reads {
            let done = guarded(|| {
                read(&self.connection);
                Ok(())
            });
            report(done, "a read failed");
        }
    }

    /// Runs one task in the open transaction. A failure undoes this task; neighbours keep their work, unless `SQLite`
    /// gave up the whole transaction: then they failed too.
    fn run_task(&mut self, task: &mut dyn Task, alone: bool, before: &mut [Ran]) -> Result<()> {
        if self.connection.is_autocommit() {
            let begun = self.execute("BEGIN IMMEDIATE");
            if let Err(error) = begun {
                self.health.failed(Some(&error));
                return Err(error);
            }
        }
        let mut outcome = if alone {
            Ok(())
        } else {
            self.execute("SAVEPOINT task")
        };
        if outcome.is_ok() {
            let (connection, rows) = (&self.connection, &mut self.rows);
            outcome = guarded(|| task.run(connection, rows));
        }
        if outcome.is_ok() && !alone {
            outcome = self.execute("RELEASE task");
        }
        if let Err(error) = &outcome {
            self.undo(error, alone, before);
        }
        outcome
    }

    fn undo(&mut self, error: &Error, alone: bool, before: &mut [Ran]) {
        self.rows.forget();
        if self.connection.is_autocommit() {
            // Given up by `SQLite` itself: the disk, or memory.
            self.health.failed(Some(error));
        }
        if !alone && !self.connection.is_autocommit() {
            let undone = self
                .execute("ROLLBACK TO task")
                .and_then(|()| self.execute("RELEASE task"));
            if undone.is_ok() {
                return;
            }
        }
        self.roll_back();
        fail_all(before, error);
    }

    fn commit(&mut self, ran: &mut [Ran]) {
        if self.connection.is_autocommit() {
            // Nothing was begun, or everything was undone.
            return;
        }
        let outcome = self.execute("COMMIT");
        self.health.failed(outcome.as_ref().err());
        if let Err(error) = outcome {
            tracing::error!(%error, "a write group was not committed");
            self.roll_back();
            self.rows.forget();
            fail_all(ran, &error);
        }
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit() {
            report(self.execute("ROLLBACK"), "a rollback failed");
        }
    }

    fn execute(&self, statement: &str) -> Result<()> {
        self.connection
            .prepare_cached(statement)
            .and_then(|mut statement| statement.execute([]))
            .map(|_| ())
            .map_err(|error| Error::store("store", error))
    }
}

fn fail_all(ran: &mut [Ran], error: &Error) {
    for (_, outcome) in ran.iter_mut().filter(|(_, outcome)| outcome.is_ok()) {
        *outcome = Err(error.clone());
    }
}

fn report(outcome: Result<()>, what: &str) {
    if let Err(error) = outcome {
        tracing::error!(%error, "{what}");
    }
}
