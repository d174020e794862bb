//! Jobs on disk. A row is written before the enqueue is acknowledged and goes when the job is done; a row that is marked
//! running when the store is opened belonged to a process that died, and waits again.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::context;
use super::schedule::Seq;
use crate::bus::CallContext;
use crate::bus::embedded::store::Doc;
use crate::error::{Error, Result};

/// Deaths of the process during one job after which the job is taken to be their cause.
pub(super) const MAX_INTERRUPTIONS: u32 = 10;
/// Messages kept per topic that nobody subscribed to; nobody will ever get them (contract 00 §6.5).
const MAX_UNCLAIMED: i64 = 1_000;

/// What a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A named queue.
    Named,
    /// A topic; each subscribed function has jobs of its own.
    Topic,
}

const WAITING: i64 = 0;
const RUNNING: i64 = 1;
const DEAD: i64 = 2;
const UNCLAIMED: i64 = 3;

/// A job to be stored.
#[derive(Debug, Clone)]
pub(super) struct NewJob {
    /// Receipt.
    pub(super) id: String,
    pub(super) kind: Kind,
    /// Queue or topic.
    pub(super) line: String,
    /// Function; `None` for a message without a subscriber.
    pub(super) target: Option<String>,
    pub(super) group: Option<String>,
    pub(super) payload: Arc<Doc>,
    pub(super) context: CallContext,
}

/// What the schedule needs to know of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) seq: Seq,
    pub(super) kind: Kind,
    pub(super) line: String,
    pub(super) target: String,
    pub(super) group: Option<String>,
    pub(super) attempts: u32,
    /// Unix milliseconds.
    pub(super) not_before_ms: i64,
}

/// What becomes of a job that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Settlement {
    /// Done.
    Done,
    /// It waits for its next attempt, until a Unix time in milliseconds.
    Retry {
        attempts: u32,
        not_before_ms: i64,
        error: String,
    },
    /// No attempt is left.
    Dead {
        attempts: u32,
        failed_at_ms: i64,
        error: String,
    },
    /// It did not begin.
    Untouched,
}

/// A dead letter as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DeadLetter {
    pub(super) id: String,
    pub(super) payload: Value,
    pub(super) error: String,
    pub(super) failed_at_ms: i64,
    pub(super) attempts: u32,
    pub(super) size_bytes: usize,
}

/// Rows of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Waiting, running or without a subscriber.
    pub(super) live: i64,
    pub(super) dead: i64,
}

fn unusable(error: rusqlite::Error) -> Error {
    Error::store("queue store", error)
}

impl Kind {
    fn code(self) -> i64 {
        match self {
            Self::Named => 0,
            Self::Topic => 1,
        }
    }

    fn of(code: i64) -> Self {
        if code == 0 { Self::Named } else { Self::Topic }
    }
}

/// Stores a job; `None` when one with its id is there already.
pub(super) fn insert(connection: &Connection, job: &NewJob) -> Result<Option<Stored>> {
    let state = if job.target.is_some() { WAITING } else { UNCLAIMED };
    let target = job.target.clone().unwrap_or_default();
    let inserted = connection
        .prepare_cached(
            "INSERT INTO jobs (id, kind, line, target, grp, payload, context, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (id) DO NOTHING",
        )
        .and_then(|mut insert| {
            insert.execute(params![
                job.id,
                job.kind.code(),
                job.line,
                target,
                job.group,
                job.payload.text(),
                context::text(&job.context),
                state
            ])
        })
        .map_err(unusable)?;
    if inserted == 0 {
        return Ok(None);
    }
    let seq = connection.last_insert_rowid();
    if job.target.is_none() {
        trim_unclaimed(connection, &job.line)?;
    }
    Ok(Some(Stored {
        seq,
        kind: job.kind,
        line: job.line.clone(),
        target,
        group: job.group.clone(),
        attempts: 0,
        not_before_ms: 0,
    }))
}

fn trim_unclaimed(connection: &Connection, line: &str) -> Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM jobs WHERE seq <= (
                 SELECT seq FROM jobs WHERE kind = 1 AND line = ?1 AND state = ?2 ORDER BY seq DESC LIMIT 1 OFFSET ?3)
             AND kind = 1 AND line = ?1 AND state = ?2",
        )
        .and_then(|mut trim| trim.execute(params![line, UNCLAIMED, MAX_UNCLAIMED]))
        .map_err(unusable)
        .map(|_| ())
}

/// Called once per life of the process, before anything runs: leases of an earlier life are void. Answers all jobs that
/// wait, oldest first.
pub(super) fn open(connection: &Connection, now_ms: i64) -> Result<Vec<Stored>> {
    connection
        .execute(
            "UPDATE jobs SET state = ?1, interruptions = interruptions + 1 WHERE state = ?2",
            params![WAITING, RUNNING],
        )
        .map_err(unusable)?;
    let given_up = connection
        .execute(
            "UPDATE jobs SET state = ?1, failed_at_ms = ?2, error = ?3 WHERE state = ?4 AND interruptions >= ?5",
            params![
                DEAD,
                now_ms,
                format!("the process ended {MAX_INTERRUPTIONS} times while the job ran"),
                WAITING,
                MAX_INTERRUPTIONS
            ],
        )
        .map_err(unusable)?;
    if given_up > 0 {
        tracing::warn!(
            jobs = given_up,
            "jobs that ran at the end of too many processes are dead letters now"
        );
    }
    select(connection, "state = 0 ORDER BY seq", [])
}

fn select(connection: &Connection, which: &str, values: impl rusqlite::Params) -> Result<Vec<Stored>> {
    let query =
        format!("SELECT seq, kind, line, target, grp, attempts, not_before_ms FROM jobs WHERE {which}");
    let mut statement = connection.prepare_cached(&query).map_err(unusable)?;
    let rows = statement.query_map(values, stored).map_err(unusable)?;
    rows.collect::<rusqlite::Result<_>>().map_err(unusable)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        seq: row.get(0)?,
        kind: Kind::of(row.get(1)?),
        line: row.get(2)?,
        target: row.get(3)?,
        group: row.get(4)?,
        attempts: row.get(5)?,
        not_before_ms: row.get(6)?,
    })
}

/// Remembers that a job runs, so that the next life knows what this one died of.
pub(super) fn mark_running(connection: &Connection, seq: Seq) -> Result<()> {
    connection
        .prepare_cached("UPDATE jobs SET state = ?2 WHERE seq = ?1 AND state = ?3")
        .and_then(|mut update| update.execute(params![seq, RUNNING, WAITING]))
        .map_err(unusable)
        .map(|_| ())
}

/// What a job is called with.
pub(super) fn load(connection: &Connection, seq: Seq) -> Result<(Value, CallContext)> {
    let found: Option<(String, String)> = connection
        .prepare_cached("SELECT payload, context FROM jobs WHERE seq = ?1")
        .and_then(|mut select| {
            select
                .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
        .map_err(unusable)?;
    let (payload, made_in) = found.ok_or_else(|| Error::store("queue store", "the job is gone"))?;
    let payload = serde_json::from_str(&payload).map_err(|error| Error::store("stored job", error))?;
    Ok((payload, context::read(&made_in)))
}

/// Stores what became of a job.
pub(super) fn settle(connection: &Connection, seq: Seq, settlement: &Settlement) -> Result<()> {
    let done = match settlement {
        Settlement::Done => connection
            .prepare_cached("DELETE FROM jobs WHERE seq = ?1")
            .and_then(|mut delete| delete.execute([seq])),
        Settlement::Retry {
            attempts,
            not_before_ms,
            error,
        } => connection
            .prepare_cached(
                "UPDATE jobs SET state = ?2, attempts = ?3, not_before_ms = ?4, error = ?5, interruptions = 0
                 WHERE seq = ?1",
            )
            .and_then(|mut update| update.execute(params![seq, WAITING, attempts, not_before_ms, error])),
        Settlement::Dead {
            attempts,
            failed_at_ms,
            error,
        } => connection
            .prepare_cached(
                "UPDATE jobs SET state = ?2, attempts = ?3, failed_at_ms = ?4, error = ?5 WHERE seq = ?1",
            )
            .and_then(|mut update| update.execute(params![seq, DEAD, attempts, failed_at_ms, error])),
        Settlement::Untouched => connection
            .prepare_cached("UPDATE jobs SET state = ?2 WHERE seq = ?1 AND state = ?3")
            .and_then(|mut update| update.execute(params![seq, WAITING, RUNNING])),
    };
    done.map_err(unusable).map(|_| ())
}

/// How much a queue or topic holds.
pub(super) fn counts(connection: &Connection, line: &str) -> Result<Counts> {
    connection
        .prepare_cached(
            "SELECT COALESCE(SUM(state <> 2), 0), COALESCE(SUM(state = 2), 0) FROM jobs WHERE line = ?1",
        )
        .and_then(|mut select| {
            select.query_row([line], |row| {
                Ok(Counts {
                    live: row.get(0)?,
                    dead: row.get(1)?,
                })
            })
        })
        .map_err(unusable)
}

/// Topics that hold anything, sorted.
pub(super) fn topics(connection: &Connection) -> Result<Vec<String>> {
    let mut statement = connection
        .prepare_cached("SELECT DISTINCT line FROM jobs WHERE kind = 1 ORDER BY line")
        .map_err(unusable)?;
    let rows = statement.query_map([], |row| row.get(0)).map_err(unusable)?;
    rows.collect::<rusqlite::Result<_>>().map_err(unusable)
}

/// Queues and topics with dead letters, and how many, sorted.
pub(super) fn dead_lines(connection: &Connection) -> Result<Vec<(String, i64)>> {
    let mut statement = connection
        .prepare_cached("SELECT line, COUNT(*) FROM jobs WHERE state = 2 GROUP BY line ORDER BY line")
        .map_err(unusable)?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(unusable)?;
    rows.collect::<rusqlite::Result<_>>().map_err(unusable)
}

/// A page of dead letters, oldest failure first.
pub(super) fn dead_letters(
    connection: &Connection,
    line: &str,
    offset: u32,
    limit: u32,
) -> Result<Vec<DeadLetter>> {
    let mut statement = connection
        .prepare_cached(
            "SELECT id, payload, error, failed_at_ms, attempts FROM jobs WHERE line = ?1 AND state = 2
             ORDER BY failed_at_ms, seq LIMIT ?3 OFFSET ?2",
        )
        .map_err(unusable)?;
    let rows = statement
        .query_map(params![line, offset, limit], dead_letter)
        .map_err(unusable)?;
    rows.collect::<rusqlite::Result<_>>().map_err(unusable)
}

fn dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let text: String = row.get(1)?;
    Ok(DeadLetter {
        id: row.get(0)?,
        size_bytes: text.len(),
        // A text that is no JSON is shown as it is: somebody must be able to look at it.
        payload: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        error: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
        failed_at_ms: row.get::<_, Option<i64>>(3)?.unwrap_or_default(),
        attempts: row.get(4)?,
    })
}

/// Makes dead letters wait again, all of a line or one, behind what waits already and with all attempts before them.
pub(super) fn revive(connection: &Connection, line: &str, id: Option<&str>) -> Result<Vec<Stored>> {
    let dead = select(
        connection,
        "line = ?1 AND state = 2 AND (?2 IS NULL OR id = ?2) ORDER BY seq",
        params![line, id],
    )?;
    dead.into_iter().map(|job| revive_one(connection, job)).collect()
}

fn revive_one(connection: &Connection, mut job: Stored) -> Result<Stored> {
    let next: Seq = connection
        .prepare_cached("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'jobs' RETURNING seq")
        .and_then(|mut update| update.query_row([], |row| row.get(0)))
        .map_err(unusable)?;
    connection
        .prepare_cached(
            "UPDATE jobs SET seq = ?2, state = ?3, attempts = 0, interruptions = 0, not_before_ms = 0, error = NULL,
                 failed_at_ms = NULL
             WHERE seq = ?1",
        )
        .and_then(|mut update| update.execute(params![job.seq, next, WAITING]))
        .map_err(unusable)?;
    job.seq = next;
    job.attempts = 0;
    job.not_before_ms = 0;
    Ok(job)
}

/// Forgets a dead letter; false when there is none.
pub(super) fn discard(connection: &Connection, line: &str, id: &str) -> Result<bool> {
    connection
        .prepare_cached("DELETE FROM jobs WHERE line = ?1 AND id = ?2 AND state = 2")
        .and_then(|mut delete| delete.execute(params![line, id]))
        .map_err(unusable)
        .map(|count| count > 0)
}
