//! Configuration entries on disk.

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::{Error, Result};

/// An entry; value and metadata are JSON texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) value: String,
    pub(super) metadata: Option<String>,
}

fn unusable(error: rusqlite::Error) -> Error {
    Error::store("configuration store", error)
}

/// All entries.
pub(super) fn all(connection: &Connection) -> Result<Vec<Row>> {
    let mut statement = connection
        .prepare_cached("SELECT id, name, description, value, metadata FROM configurations")
        .map_err(unusable)?;
    let rows = statement
        .query_map([], |row| {
            Ok(Row {
                id: row.get(0)?,
                name: row.get(1)?,
                description: row.get(2)?,
                value: row.get(3)?,
                metadata: row.get(4)?,
            })
        })
        .map_err(unusable)?;
    rows.collect::<rusqlite::Result<_>>().map_err(unusable)
}

/// The value of an entry; `None` when there is no such entry.
pub(super) fn value(connection: &Connection, id: &str) -> Result<Option<String>> {
    connection
        .prepare_cached("SELECT value FROM configurations WHERE id = ?1")
        .and_then(|mut select| select.query_row([id], |row| row.get(0)).optional())
        .map_err(unusable)
}

/// Stores an entry. With `keep`, the value of an existing one stays.
pub(super) fn upsert(connection: &Connection, row: &Row, keep: bool) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO configurations (id, name, description, value, metadata) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description,
                 metadata = excluded.metadata, value = CASE WHEN ?6 THEN value ELSE excluded.value END",
        )
        .and_then(|mut upsert| {
            upsert.execute(params![
                row.id,
                row.name,
                row.description,
                row.value,
                row.metadata,
                keep
            ])
        })
        .map_err(unusable)
        .map(|_| ())
}

/// Replaces the value of an entry.
pub(super) fn set(connection: &Connection, id: &str, value: &str) -> Result<()> {
    connection
        .prepare_cached("UPDATE configurations SET value = ?2 WHERE id = ?1")
        .and_then(|mut update| update.execute([id, value]))
        .map_err(unusable)
        .map(|_| ())
}
