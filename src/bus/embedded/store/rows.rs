//! Rows of state and streams. Both are collections of keyed JSON values that remember in which order keys first came.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use super::address::{Address, Place, STREAM};
use super::doc::{self, Doc};
use crate::bus::embedded::ops::{self, Op};
use crate::error::{Error, Result};

/// Low bits of `rows.seq` that count inside a collection: 2^36 insertions each, 2^27 collections.
const PLACE_BITS: u32 = 36;
const PLACES: i64 = 1 << PLACE_BITS;
const MAX_COLLECTION: i64 = 1 << (63 - PLACE_BITS);
/// Collections whose figures are kept in memory; beyond it they are read again.
const MAX_KNOWN: usize = 4096;

/// What happens at an address.
#[derive(Debug)]
pub enum Change {
    /// The value is replaced.
    Set(Arc<Doc>),
    /// Operations are applied to it (contract 00 §4.1); the old value is always reported.
    Update(Vec<Op>),
    /// It is removed.
    Delete,
}

/// One write.
#[derive(Debug)]
pub struct Write {
    /// Where.
    pub address: Address,
    /// What.
    pub change: Change,
    /// Whether anybody wants to know the old value; reading it costs.
    pub old: bool,
}

/// What a write did.
#[derive(Debug, Clone)]
pub struct Written {
    /// Where.
    pub address: Address,
    /// Whether there was a value before, a stored null included.
    pub existed: bool,
    /// The value before, if it was asked for.
    pub old: Option<Arc<Doc>>,
    /// The value now; `None` after a removal.
    pub new: Option<Arc<Doc>>,
    /// Update operations that were skipped.
    pub errors: Vec<Value>,
}

/// What the writer knows of a collection.
struct Known {
    id: i64,
    /// Place of the next new key.
    next: i64,
    /// Rows, of streams only.
    count: i64,
}

/// The writing side, with figures that are read once and then kept up to date.
pub(super) struct Rows {
    known: HashMap<Place, Known>,
    stream_items_per_group: i64,
}

impl Rows {
    pub(super) fn new(stream_items_per_group: u64) -> Self {
        let limit = i64::try_from(stream_items_per_group).unwrap_or(i64::MAX);
        Self {
            known: HashMap::new(),
            stream_items_per_group: limit,
        }
    }

    /// To be called when work was undone: the figures may be ahead of the file.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    pub(super) fn apply(&mut self, db: &Connection, write: Write) -> Result<Written> {
        let Write { address, change, old } = write;
        match change {
            Change::Set(doc) => {
                let (existed, old) = self.set(db, &address, doc.text(), old).map_err(failed)?;
                Ok(Written {
                    address,
                    existed,
                    old,
                    new: Some(doc),
                    errors: Vec::new(),
                })
            }
            Change::Update(ops) => self.update(db, address, &ops),
            Change::Delete => {
                let (existed, old) = self.delete(db, &address, old).map_err(failed)?;
                Ok(Written {
                    address,
                    existed,
                    old,
                    new: None,
                    errors: Vec::new(),
                })
            }
        }
    }

    fn update(&mut self, db: &Connection, address: Address, ops: &[Op]) -> Result<Written> {
        let current = get(db, &address)?.map(Arc::new);
        let start = current.as_ref().map(|doc| doc::parse(doc.text())).transpose()?;
        let applied = ops::apply(start, ops);
        let new = Arc::new(Doc::new(Arc::new(applied.value))?);
        let (existed, _) = self.set(db, &address, new.text(), false).map_err(failed)?;
        Ok(Written {
            address,
            existed,
            old: current,
            new: Some(new),
            errors: applied.errors,
        })
    }

    fn set(&mut self, db: &Connection, address: &Address, text: &str, old: bool) -> rusqlite::Result<Found> {
        let limit = self.stream_items_per_group;
        let known = self.open(db, &address.place)?;
        if old {
            if let Some((seq, old)) = find(db, known.id, &address.key)? {
                db.prepare_cached("UPDATE rows SET value = ?2 WHERE seq = ?1")?
                    .execute(params![seq, text])?;
                return Ok((true, Some(Arc::new(Doc::from_text(old)))));
            }
        } else {
            let updated = db
                .prepare_cached("UPDATE rows SET value = ?3 WHERE collection = ?1 AND key = ?2")?
                .execute(params![known.id, address.key, text])?;
            if updated > 0 {
                return Ok((true, None));
            }
        }
        db.prepare_cached("INSERT INTO rows (seq, collection, key, value) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                seq_of(known.id, known.next)?,
                known.id,
                address.key,
                text
            ])?;
        known.next += 1;
        known.count += 1;
        if address.place.is_stream() && known.count > limit {
            drop_oldest(db, known.id, known.count - limit)?;
            known.count = limit;
        }
        Ok((false, None))
    }

    fn delete(&mut self, db: &Connection, address: &Address, old: bool) -> rusqlite::Result<Found> {
        let Some(known) = self.find_known(db, &address.place)? else {
            return Ok((false, None));
        };
        let old = if old {
            find(db, known.id, &address.key)?.map(|(_, text)| text)
        } else {
            None
        };
        let removed = db
            .prepare_cached("DELETE FROM rows WHERE collection = ?1 AND key = ?2")?
            .execute(params![known.id, address.key])?;
        if removed == 0 {
            return Ok((false, None));
        }
        known.count -= 1;
        let left: bool = db
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM rows WHERE seq >= ?1 AND seq < ?2)")?
            .query_row(
                params![known.id << PLACE_BITS, (known.id + 1) << PLACE_BITS],
                |row| row.get(0),
            )?;
        if !left {
            db.prepare_cached("DELETE FROM collections WHERE id = ?1")?
                .execute(params![known.id])?;
            self.known.remove(&address.place);
        }
        Ok((true, old.map(|text| Arc::new(Doc::from_text(text)))))
    }

    /// The collection, made if it is not there.
    fn open(&mut self, db: &Connection, place: &Place) -> rusqlite::Result<&mut Known> {
        if self.find_known(db, place)?.is_none() {
            db.prepare_cached("INSERT INTO collections (kind, name, grp) VALUES (?1, ?2, ?3)")?
                .execute(params![place.kind, place.name, place.group])?;
            self.known.insert(
                place.clone(),
                Known {
                    id: db.last_insert_rowid(),
                    next: 0,
                    count: 0,
                },
            );
        }
        self.known
            .get_mut(place)
            .ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    fn find_known(&mut self, db: &Connection, place: &Place) -> rusqlite::Result<Option<&mut Known>> {
        if !self.known.contains_key(place) {
            let Some(known) = load(db, place)? else {
                return Ok(None);
            };
            if self.known.len() >= MAX_KNOWN {
                self.known.clear();
            }
            self.known.insert(place.clone(), known);
        }
        Ok(self.known.get_mut(place))
    }
}

/// Whether there was a value, and the value if it was asked for.
type Found = (bool, Option<Arc<Doc>>);

fn failed(error: rusqlite::Error) -> Error {
    Error::store("store", error)
}

fn seq_of(collection: i64, place: i64) -> rusqlite::Result<i64> {
    if collection >= MAX_COLLECTION || place >= PLACES {
        return Err(rusqlite::Error::IntegralValueOutOfRange(0, place));
    }
    Ok(collection << PLACE_BITS | place)
}

fn load(db: &Connection, place: &Place) -> rusqlite::Result<Option<Known>> {
    let id: Option<i64> = db
        .prepare_cached("SELECT id FROM collections WHERE kind = ?1 AND name = ?2 AND grp = ?3")?
        .query_row(params![place.kind, place.name, place.group], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok(None) };
    let last: Option<i64> = db
        .prepare_cached("SELECT max(seq) FROM rows WHERE seq >= ?1 AND seq < ?2")?
        .query_row(params![id << PLACE_BITS, (id + 1) << PLACE_BITS], |row| {
            row.get(0)
        })?;
    let next = last.map_or(0, |seq| (seq & (PLACES - 1)) + 1);
    let count = if place.is_stream() {
        db.prepare_cached("SELECT count(*) FROM rows WHERE collection = ?1")?
            .query_row(params![id], |row| row.get(0))?
    } else {
        0
    };
    Ok(Some(Known { id, next, count }))
}

fn find(db: &Connection, collection: i64, key: &str) -> rusqlite::Result<Option<(i64, String)>> {
    db.prepare_cached("SELECT seq, value FROM rows WHERE collection = ?1 AND key = ?2")?
        .query_row(params![collection, key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

fn drop_oldest(db: &Connection, collection: i64, count: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "DELETE FROM rows WHERE seq IN (SELECT seq FROM rows WHERE seq >= ?1 AND seq < ?2 ORDER BY seq LIMIT ?3)",
    )?
    .execute(params![collection << PLACE_BITS, (collection + 1) << PLACE_BITS, count])
    .map(|_| ())
}

/// Cuts every stream group to `limit` items.
pub(super) fn cut_streams(db: &Connection, limit: i64) -> rusqlite::Result<()> {
    let mut too_long = db.prepare(
        "SELECT r.collection, count(*) FROM rows r JOIN collections c ON c.id = r.collection
         WHERE c.kind = ?1 GROUP BY r.collection HAVING count(*) > ?2",
    )?;
    let groups: Vec<(i64, i64)> = too_long
        .query_map(params![STREAM, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    groups
        .into_iter()
        .try_for_each(|(id, count)| drop_oldest(db, id, count - limit))
}

pub(super) fn get(db: &Connection, address: &Address) -> Result<Option<Doc>> {
    let Place { kind, name, group } = &address.place;
    let text: Option<String> = db
        .prepare_cached(
            "SELECT value FROM rows WHERE key = ?4
             AND collection = (SELECT id FROM collections WHERE kind = ?1 AND name = ?2 AND grp = ?3)",
        )
        .and_then(|mut query| {
            query
                .query_row(params![kind, name, group, address.key], |row| row.get(0))
                .optional()
        })
        .map_err(failed)?;
    Ok(text.map(Doc::from_text))
}

pub(super) fn list(db: &Connection, place: &Place) -> Result<Vec<Value>> {
    // One statement, so that it sees one moment.
    let mut query = db
        .prepare_cached(
            "SELECT value FROM rows
             WHERE seq >= (SELECT id << 36 FROM collections WHERE kind = ?1 AND name = ?2 AND grp = ?3)
             AND seq < (SELECT (id + 1) << 36 FROM collections WHERE kind = ?1 AND name = ?2 AND grp = ?3)
             ORDER BY seq",
        )
        .map_err(failed)?;
    let mut rows = query
        .query(params![place.kind, place.name, place.group])
        .map_err(failed)?;
    let mut values = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let text = row
            .get_ref(0)
            .and_then(|text| Ok(text.as_str()?))
            .map_err(failed)?;
        values.push(doc::parse(text)?);
    }
    Ok(values)
}

pub(super) fn state_scopes(db: &Connection) -> Result<Vec<String>> {
    strings(
        db,
        "SELECT name FROM collections WHERE kind = 0 ORDER BY name",
        [],
    )
}

pub(super) fn stream_groups(db: &Connection, stream: &str) -> Result<Vec<String>> {
    strings(
        db,
        "SELECT grp FROM collections WHERE kind = 1 AND name = ?1 ORDER BY grp",
        [stream],
    )
}

fn strings(db: &Connection, query: &str, params: impl rusqlite::Params) -> Result<Vec<String>> {
    db.prepare_cached(query)
        .and_then(|mut query| query.query_map(params, |row| row.get(0))?.collect())
        .map_err(failed)
}

pub(super) fn streams(db: &Connection) -> Result<Vec<(String, Vec<String>)>> {
    let pairs: Vec<(String, String)> = db
        .prepare_cached("SELECT name, grp FROM collections WHERE kind = 1 ORDER BY name, grp")
        .and_then(|mut query| {
            query
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .map_err(failed)?;
    let mut streams: Vec<(String, Vec<String>)> = Vec::new();
    for (stream, group) in pairs {
        match streams.last_mut() {
            Some((last, groups)) if *last == stream => groups.push(group),
            _ => streams.push((stream, vec![group])),
        }
    }
    Ok(streams)
}
