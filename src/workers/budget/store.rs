//! The rows of a tree, read and written (contract 07 §1).
//!
//! An engine that takes a commit whole gets one. Elsewhere the order keeps the books right after a crash at any point: ids
//! that move are stored before the rows that no longer have them; a row that moves spend to a log keeps the log until the
//! log's own row is stored. The levels of a tree are separate rows there; a record that reached only some of them is
//! completed by repeating it under its `record_id`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::try_join_all;
use serde::Serialize;

use super::callbacks;
use super::record_ids::{Older, OlderIds};
use super::rows::{MAX_LEVELS, Needs, Row, Rows};
use super::stored::{Budget, SpendLog};
use super::{Budgets, index};
use crate::bus::{Cx, Write, to_json};
use crate::error::{Error, Result};
use crate::model::api::budget::SCOPE;

/// Which budget is above all others of a tree, for the budgets that were used.
#[derive(Debug, Default)]
pub(super) struct Roots(Mutex<HashMap<String, String>>);

/// Record ids of the running period that moved out of their budget's row.
#[derive(Debug, Default)]
pub(super) struct Moved(Mutex<HashMap<String, (u32, Older)>>);

/// The lane of a budget.
pub(super) async fn root_of(cx: &Cx<Budgets>, id: &str) -> Result<String> {
    if let Some(root) = cx.state().roots.map().get(id) {
        return Ok(root.clone());
    }
    let mut rows = Rows::default();
    load_chains(cx, &mut rows, vec![id.to_owned()]).await?;
    let ids = rows.chain_ids(id)?;
    if rows.0.get(id).is_some_and(|row| row.budget.is_some()) {
        cx.state().roots.learn(&ids);
    }
    Ok(ids.into_iter().next_back().unwrap_or_default())
}

/// All that these changes need.
pub(super) async fn load(cx: &Cx<Budgets>, wanted: Vec<(String, Needs)>) -> Result<Rows> {
    let mut rows = Rows::default();
    let ids: HashSet<String> = wanted.iter().map(|(id, _)| id.clone()).collect();
    load_chains(cx, &mut rows, ids.into_iter().collect()).await?;
    if wanted.iter().any(|(_, needs)| *needs == Needs::RecordIds) {
        for (id, row) in &mut rows.0 {
            load_older(cx, id, row).await?;
        }
    }
    for (id, needs) in wanted {
        if needs == Needs::Family {
            load_family(cx, &mut rows, &id).await?;
        }
    }
    Ok(rows)
}

async fn load_chains(cx: &Cx<Budgets>, rows: &mut Rows, mut wanted: Vec<String>) -> Result<()> {
    for _ in 0..=MAX_LEVELS {
        wanted.retain(|id| !rows.0.contains_key(id));
        if wanted.is_empty() {
            return Ok(());
        }
        let read = wanted.iter().map(|id| read(cx, id));
        let found = try_join_all(read).await?;
        let parents = found
            .iter()
            .flatten()
            .filter_map(|budget| budget.parent_id.clone());
        let parents: HashSet<String> = parents.collect();
        rows.0
            .extend(wanted.into_iter().zip(found.into_iter().map(Row::of)));
        wanted = parents.into_iter().collect();
    }
    Ok(())
}

async fn read(cx: &Cx<Budgets>, id: &str) -> Result<Option<Budget>> {
    match cx.scope(SCOPE).get(&Budget::key(id)).await? {
        Some(value) => Budget::read(value),
        None => Ok(None),
    }
}

async fn load_family(cx: &Cx<Budgets>, rows: &mut Rows, id: &str) -> Result<()> {
    let family = index::family(cx, id).await?;
    load_chains(cx, rows, family.children).await?;
    rows.0.entry(id.to_owned()).or_default().logs = family.logs;
    Ok(())
}

async fn load_older(cx: &Cx<Budgets>, id: &str, row: &mut Row) -> Result<()> {
    let Some(budget) = &row.budget else { return Ok(()) };
    let (first, end) = (budget.ledger.record_ids.first, budget.ledger.record_ids.end);
    if let Some(older) = cx.state().moved.of(id, first, end) {
        row.older = older;
        return Ok(());
    }
    let read = (first..end).map(async |number| {
        let key = older_key(id, number);
        let stored = cx.scope(SCOPE).get_as::<OlderIds>(&key).await?;
        stored.ok_or_else(|| Error::store(key, "the row is missing"))
    });
    let rows = try_join_all(read).await?;
    let ids: HashSet<String> = rows.into_iter().flat_map(|row| row.record_ids).collect();
    row.older = Older {
        first,
        ids: Arc::new(ids),
    };
    cx.state().moved.remember(id, end, row.older.clone());
    Ok(())
}

/// Stores what changed, then shows it to the index and calls the callbacks that are owed.
pub(super) async fn save(cx: &Cx<Budgets>, mut rows: Rows) -> Result<()> {
    let whole = cx.bus().transport().is_exclusive();
    let plan = Plan::of(&mut rows, whole)?;
    plan.store(cx, whole).await?;
    for (id, row) in rows.0 {
        settle(cx, id, row);
    }
    Ok(())
}

/// What is written, in the order in which it must be.
#[derive(Debug, Default)]
struct Plan {
    /// Record ids that move.
    first: Vec<Write>,
    /// The budgets.
    budgets: Vec<Write>,
    /// Budgets that go, with what is theirs; those that were below them know of it by then.
    gone: Vec<Write>,
    /// Logs, each with the row that need not keep it any longer.
    last: Vec<Vec<Write>>,
}

impl Plan {
    fn of(rows: &mut Rows, whole: bool) -> Result<Self> {
        let mut plan = Self::default();
        for (id, row) in &mut rows.0 {
            plan.add(id, row, whole)?;
        }
        Ok(plan)
    }

    fn add(&mut self, id: &str, row: &mut Row, whole: bool) -> Result<()> {
        for (number, ids) in &row.moved {
            self.first.push(set(older_key(id, *number), ids)?);
        }
        let had = row.before.as_ref().map(|budget| &budget.ledger.record_ids);
        let (first, end) = had.map_or((0, 0), |had| (had.first, had.end));
        let kept = row
            .budget
            .as_ref()
            .map_or(end, |budget| budget.ledger.record_ids.first);
        let over = (first..kept.min(end)).map(|number| delete(older_key(id, number)));
        let Some(budget) = &mut row.budget else {
            if row.before.is_some() || !row.logs.is_empty() {
                self.gone.extend(over);
                self.gone.extend(row.logs.iter().map(|log| delete(log.key())));
                self.gone.push(delete(Budget::key(id)));
            }
            return Ok(());
        };
        let with_logs = budget.clone();
        let logs = std::mem::take(&mut budget.ledger.unarchived);
        let mut last: Vec<Write> = over.collect();
        for log in &logs {
            last.push(set(log.key(), log)?);
        }
        if !whole && !logs.is_empty() {
            self.budgets.push(set(Budget::key(id), &with_logs)?);
            last.push(set(Budget::key(id), budget)?);
        } else if row.before.as_ref() != Some(budget) {
            self.budgets.push(set(Budget::key(id), budget)?);
        }
        row.logs = logs;
        if !last.is_empty() {
            self.last.push(last);
        }
        Ok(())
    }

    async fn store(self, cx: &Cx<Budgets>, whole: bool) -> Result<()> {
        let transport = cx.bus().transport();
        let Self {
            first,
            budgets,
            gone,
            last,
        } = self;
        let (steps, last) = if whole {
            (vec![[first, budgets, gone, last.concat()].concat()], Vec::new())
        } else {
            (vec![first, budgets, gone], last)
        };
        for writes in steps.into_iter().filter(|writes| !writes.is_empty()) {
            transport.commit(writes).await?;
        }
        for writes in last {
            // The budget keeps the logs meanwhile; whoever loads it next writes them.
            if let Err(error) = transport.commit(writes).await {
                tracing::warn!(%error, "a spend log is not stored yet");
            }
        }
        Ok(())
    }
}

/// After the commit: the memory of this process follows, and what fired is called.
fn settle(cx: &Cx<Budgets>, id: String, row: Row) {
    let state = cx.state();
    let Row {
        before,
        budget,
        older,
        moved,
        logs,
        ..
    } = row;
    if let Some(budget) = &budget {
        let ids = &budget.ledger.record_ids;
        if ids.first == ids.end {
            state.moved.forget(&id);
        } else if !moved.is_empty() {
            state.moved.remember(&id, ids.end, older);
        }
        // Also those from before: where rows are stored one by one, a commit that failed may have left some.
        for delivery in &budget.ledger.deliveries {
            callbacks::deliver(cx, &id, delivery.clone());
        }
    } else {
        state.moved.forget(&id);
        state.roots.forget(&id);
    }
    if before != budget || !logs.is_empty() {
        state.index.apply(id, budget, logs);
    }
}

fn older_key(id: &str, number: u32) -> String {
    format!("record_ids:{id}:{number}")
}

fn set(key: String, value: &impl Serialize) -> Result<Write> {
    Ok(Write::StateSet {
        scope: SCOPE.into(),
        key,
        value: Arc::new(to_json(value)?),
    })
}

fn delete(key: String) -> Write {
    Write::StateDelete {
        scope: SCOPE.into(),
        key,
    }
}

impl Roots {
    /// The last of these is above all others.
    pub(super) fn learn(&self, ids: &[String]) {
        let Some(root) = ids.last() else { return };
        let mut map = self.map();
        for id in ids {
            map.insert(id.clone(), root.clone());
        }
    }

    fn forget(&self, id: &str) {
        self.map().retain(|known, root| known != id && root != id);
    }

    fn map(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Moved {
    fn of(&self, id: &str, first: u32, end: u32) -> Option<Older> {
        if first == end {
            return Some(Older {
                first,
                ..Older::default()
            });
        }
        let map = self.map();
        let (known_end, older) = map.get(id)?;
        (*known_end == end && older.first == first).then(|| older.clone())
    }

    fn remember(&self, id: &str, end: u32, older: Older) {
        self.map().insert(id.to_owned(), (end, older));
    }

    fn forget(&self, id: &str) {
        self.map().remove(id);
    }

    fn map(&self) -> MutexGuard<'_, HashMap<String, (u32, Older)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log that a budget still keeps is as good as stored.
pub(super) fn all_logs(stored: &[SpendLog], unarchived: &[SpendLog]) -> Vec<SpendLog> {
    let mut logs: HashMap<String, &SpendLog> = stored.iter().map(|log| (log.key(), log)).collect();
    logs.extend(unarchived.iter().map(|log| (log.key(), log)));
    logs.into_values().cloned().collect()
}
