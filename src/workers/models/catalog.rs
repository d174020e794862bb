//! The catalog in memory: a write-through map over scope `models` (contract 09 A5). State stays the source of truth. The
//! embedded engine tells of each write, so that the map needs no other look; on another engine the map is read again when it
//! is half a second old, and what somebody else writes is seen within a second.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::check::Target;
use crate::bus::Cx;
use crate::error::Result;
use crate::model::catalog::SCOPE;

/// A map older than this is read again before it answers, where nobody tells of writes and after a failure.
const FRESH: Duration = Duration::from_millis(500);

/// Longest wait for the state before the last known map answers.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// A record as it was registered.
pub(super) type Record = Arc<Value>;

/// Memory of the worker.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    map: Mutex<Map>,
    /// Held during a read of the whole scope: those who wait for it share the result.
    refreshing: tokio::sync::Mutex<()>,
    /// The engine tells of each write to the scope.
    is_watched: AtomicBool,
}

#[derive(Debug, Default)]
struct Map {
    records: BTreeMap<Name, Record>,
    read_at: Option<Instant>,
    /// How long it answers without another look; without a limit until somebody writes.
    lasts: Option<Duration>,
    reading: Option<Reading>,
}

/// What has happened while the scope is read.
#[derive(Debug, Default)]
struct Reading {
    /// Our own writes, which the read may have missed.
    own: Vec<(Name, Option<Record>)>,
    /// Somebody wrote.
    is_overtaken: bool,
}

/// Provider and id: the order of lists. A record without a provider sorts first.
type Name = (String, String);

impl Map {
    fn is_fresh(&self, now: Instant) -> bool {
        let lasts = |at| self.lasts.is_none_or(|lasts| now.duration_since(at) < lasts);
        self.read_at.is_some_and(lasts)
    }

    /// Another process, or this one, wrote a row.
    fn forget(&mut self) {
        self.read_at = None;
        if let Some(reading) = &mut self.reading {
            reading.is_overtaken = true;
        }
    }

    fn apply(&mut self, name: Name, record: Option<Record>) {
        match &record {
            Some(record) => self.records.insert(name.clone(), Arc::clone(record)),
            None => self.records.remove(&name),
        };
        if let Some(reading) = &mut self.reading {
            reading.own.push((name, record));
        }
    }

    /// The scope is going to be read.
    fn begin(&mut self) {
        self.reading = Some(Reading::default());
    }

    /// The scope could not be read; the next reader does not wait for the failure again at once.
    fn give_up(&mut self, now: Instant) {
        self.reading = None;
        self.read_at = Some(now);
        self.lasts = Some(FRESH);
    }

    fn replace(&mut self, rows: Vec<Value>, now: Instant, lasts: Option<Duration>) {
        self.records = rows
            .into_iter()
            .filter_map(|row| Some((name_of(&row)?, Arc::new(row))))
            .collect();
        let reading = self.reading.take().unwrap_or_default();
        for (name, record) in reading.own {
            match record {
                Some(record) => self.records.insert(name, record),
                None => self.records.remove(&name),
            };
        }
        self.read_at = (!reading.is_overtaken).then_some(now);
        self.lasts = lasts;
    }
}

/// Listens where the engine tells of writes. Then nothing but a write makes another look at the state necessary.
pub(super) async fn watch(cx: Cx<Catalog>) -> Result<()> {
    if cx.bus().transport().is_exclusive() {
        let catalog = Arc::clone(cx.state());
        let forget = move |scope: &str, _: &str| {
            if scope == SCOPE {
                catalog.map().forget();
            }
        };
        cx.bus().tap_state(SCOPE, Arc::new(forget));
        cx.state().is_watched.store(true, Ordering::Release);
    }
    Ok(())
}

/// Reads the catalog before somebody asks.
pub(super) async fn read_ahead(cx: Cx<Catalog>) -> Result<()> {
    Catalog::refresh(&cx, false).await;
    Ok(())
}

impl Catalog {
    /// Stores a record, or removes it; then shows it to the readers of this process.
    pub(super) async fn write(cx: &Cx<Self>, target: Target, record: Value) -> Result<()> {
        let (scope, key) = (cx.scope(SCOPE), target.key());
        let record = if target.removed {
            scope.delete(&key).await?;
            None
        } else {
            scope.set(&key, &record).await?;
            Some(Arc::new(record))
        };
        let mut map = cx.state().map();
        map.apply((target.provider, target.id), record);
        if cx.state().is_watched() {
            // Of two writes to one row the later one may be applied first.
            map.forget();
        }
        Ok(())
    }

    /// One record. A miss is looked up in the state before it is believed, unless every write is told.
    pub(super) async fn get(cx: &Cx<Self>, provider: &str, id: &str) -> Option<Record> {
        let name = (provider.to_owned(), id.to_owned());
        let fresh = Self::refresh(cx, false).await;
        if let Some(record) = cx.state().map().records.get(&name).cloned() {
            return Some(record);
        }
        if fresh && !cx.state().is_watched() {
            Self::refresh(cx, true).await;
        }
        cx.state().map().records.get(&name).cloned()
    }

    /// All records, sorted by provider and id.
    pub(super) async fn all(cx: &Cx<Self>) -> Vec<Record> {
        Self::refresh(cx, false).await;
        cx.state().map().records.values().cloned().collect()
    }

    /// Reads the scope when the map is not fresh, or in any case. A failure leaves the map as it is. True when the map was
    /// fresh already.
    async fn refresh(cx: &Cx<Self>, in_any_case: bool) -> bool {
        let catalog = cx.state();
        if !in_any_case && catalog.map().is_fresh(Instant::now()) {
            return true;
        }
        let asked = Instant::now();
        let _refreshing = catalog.refreshing.lock().await;
        {
            let mut map = catalog.map();
            // Somebody else read it while we waited.
            if map.read_at.is_some_and(|at| at >= asked) {
                return false;
            }
            map.begin();
        }
        let started = Instant::now();
        let rows = tokio::time::timeout(READ_LIMIT, cx.scope(SCOPE).list()).await;
        let mut map = catalog.map();
        match rows {
            Ok(Ok(rows)) => map.replace(rows, started, (!catalog.is_watched()).then_some(FRESH)),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the model catalog is not readable, the last known one serves");
                map.give_up(Instant::now());
            }
            Err(_) => {
                tracing::warn!("the model catalog takes too long to read, the last known one serves");
                map.give_up(Instant::now());
            }
        }
        false
    }

    fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Acquire)
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Provider and id of a record; `None` for what is no record at all. Other programs may keep other things in the scope.
fn name_of(row: &Value) -> Option<Name> {
    let text = |member: &str| row.get(member).and_then(Value::as_str);
    let id = text("id").filter(|id| !id.is_empty())?;
    Some((text("provider").unwrap_or_default().to_owned(), id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn ids(map: &Map) -> Vec<&str> {
        map.records.keys().map(|(_, id)| id.as_str()).collect()
    }

    #[test]
    fn c09_case_23_what_is_no_record_is_skipped() {
        let mut map = Map::default();
        let rows = vec![
            json!("junk"),
            json!(null),
            json!([{"id": "in a list", "provider": "p"}]),
            json!({"provider": "p"}),
            json!({"id": "", "provider": "p"}),
            json!({"id": 5, "provider": "p"}),
            json!({"id": "b", "provider": "p"}),
            json!({"id": "a", "provider": "p"}),
            json!({"id": "c", "provider": "o"}),
        ];
        map.replace(rows, Instant::now(), None);
        assert_eq!(ids(&map), ["c", "a", "b"]);
    }

    #[test]
    fn own_writes_survive_a_read_that_missed_them() {
        let record = |id: &str| json!({"id": id, "provider": "p"});
        let name = |id: &str| ("p".to_owned(), id.to_owned());
        let mut map = Map::default();
        map.replace(vec![record("old"), record("kept")], Instant::now(), None);
        map.begin();
        map.apply(name("new"), Some(Arc::new(record("new"))));
        map.apply(name("old"), None);
        map.replace(vec![record("old"), record("kept")], Instant::now(), None);
        assert_eq!(ids(&map), ["kept", "new"]);
        map.replace(vec![record("old"), record("kept")], Instant::now(), None);
        assert_eq!(ids(&map), ["kept", "old"]);
    }
    #[test]
    fn a_map_that_is_told_of_writes_lasts_until_one() {
        let read = Instant::now();
        let later = read + Duration::from_hours(1);
        let mut map = Map::default();
        assert!(!map.is_fresh(read));
        map.begin();
        map.replace(vec![], read, None);
        assert!(map.is_fresh(later));
        map.forget();
        assert!(!map.is_fresh(later));
        // A write during a read: nobody knows whether it was seen.
        map.begin();
        map.forget();
        map.replace(vec![], later, None);
        assert!(!map.is_fresh(later));
        // Elsewhere, and after a failure, half a second.
        for (age, fresh) in [(499, true), (500, false)] {
            map.begin();
            map.replace(vec![], read, Some(FRESH));
            assert_eq!(map.is_fresh(read + Duration::from_millis(age)), fresh);
            map.begin();
            map.give_up(later);
            assert_eq!(map.is_fresh(later + Duration::from_millis(age)), fresh);
        }
    }
}
