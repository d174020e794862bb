//! The file's shape and how an older one becomes a newer one.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::Durability;
use super::rows;
use crate::error::{Error, Result};

/// "hrns", so that `file` and other tools can tell whose database it is.
const APPLICATION_ID: i32 = 0x6872_6e73;

/// Step n takes a file from version n to n + 1. Released steps never change; new ones go to the end.
const MIGRATIONS: &[&str] = &[
    // 1: state and streams. `rows.seq` is collection << 36 | place, so that a collection lies together on disk, in order.
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
     CREATE TABLE collections (
         id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, name TEXT NOT NULL, grp TEXT NOT NULL,
         UNIQUE (kind, name, grp));
     CREATE TABLE rows (
         seq INTEGER PRIMARY KEY, collection INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
         UNIQUE (collection, key));
     CREATE VIEW state AS
         SELECT c.name AS scope, r.key, r.value FROM rows r JOIN collections c ON c.id = r.collection
         WHERE c.kind = 0 ORDER BY r.seq;
     CREATE VIEW streams AS
         SELECT c.name AS stream, c.grp AS \"group\", r.key AS item, r.value
         FROM rows r JOIN collections c ON c.id = r.collection
         WHERE c.kind = 1 ORDER BY r.seq;",
    // 2: queues and configuration. `jobs.kind`: 0 named queue, 1 topic; `jobs.state`: 0 waiting, 1 running, 2 dead letter,
    // 3 without a subscriber. Sequence numbers are never used again: they are the order of a queue.
    "CREATE TABLE jobs (
         seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL, line TEXT NOT NULL,
         target TEXT NOT NULL, grp TEXT, payload TEXT NOT NULL, context TEXT NOT NULL, state INTEGER NOT NULL,
         attempts INTEGER NOT NULL DEFAULT 0, interruptions INTEGER NOT NULL DEFAULT 0,
         not_before_ms INTEGER NOT NULL DEFAULT 0, error TEXT, failed_at_ms INTEGER);
     CREATE INDEX jobs_by_line ON jobs (line, state);
     CREATE INDEX jobs_by_state ON jobs (state) WHERE state <> 0;
     CREATE TABLE configurations (
         id TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT NOT NULL, value TEXT NOT NULL, metadata TEXT)
         WITHOUT ROWID;",
];

pub(super) fn prepare_file(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    // Another tool may look into the file for a moment; do not fail at once.
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 2000, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
    prepare_memory(connection)
}

pub(super) fn prepare_memory(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -4096)
}

pub(super) fn prepare_reader(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update(None, "query_only", true)
}

/// Brings the file up to date.
pub(super) fn migrate(connection: &mut Connection, place: &str) -> Result<()> {
    let unusable =
        |error: rusqlite::Error| Error::Unavailable(format!("cannot open the store in {place}: {error}"));
    let found: u32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(unusable)?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let Some(missing) = usize::try_from(found)
        .ok()
        .and_then(|found| MIGRATIONS.get(found..))
    else {
        return Err(Error::Unavailable(format!(
            "the store in {place} was written by a newer version of this program: its schema is {found}, this version \
             knows up to {known}"
        )));
    };
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction().map_err(unusable)?;
    missing
        .iter()
        .try_for_each(|step| transaction.execute_batch(step))
        .map_err(unusable)?;
    transaction
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(unusable)?;
    transaction
        .pragma_update(None, "user_version", known)
        .map_err(unusable)?;
    transaction.commit().map_err(unusable)
}

/// Cuts groups that are longer than the limit allows, if the limit was lowered since the last time.
pub(super) fn apply_retention(connection: &mut Connection, limit: u64) -> rusqlite::Result<()> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let last: Option<i64> = connection
        .query_row(
            "SELECT value FROM meta WHERE key = 'stream_items_per_group'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    if last == Some(limit) {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    if last.is_some_and(|last| limit < last) {
        rows::cut_streams(&transaction, limit)?;
    }
    transaction.execute(
        "INSERT INTO meta (key, value) VALUES ('stream_items_per_group', ?1)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        params![limit],
    )?;
    transaction.commit()
}
