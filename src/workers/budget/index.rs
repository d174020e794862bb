//! The whole scope in memory, for the questions that are about many rows (contract 07 weakness 9).
//!
//! State stays the source of truth. On an engine of this process every write of others is heard of before its writer is
//! answered, so the scope is read once and followed from then on. Another engine tells nothing: there each question reads it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::Budgets;
use super::stored::{Budget, SpendLog};
use crate::bus::Cx;
use crate::error::Result;
use crate::model::api::budget::SCOPE;

/// What is known of the scope.
#[derive(Debug, Default)]
pub(super) struct Index(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Raised by each write; a read that began before one is not kept.
    writes: u64,
    known: Option<Known>,
}

/// All rows.
#[derive(Debug, Default)]
struct Known {
    budgets: HashMap<String, Budget>,
    logs: HashMap<String, Vec<SpendLog>>,
}

/// What belongs to one budget.
#[derive(Debug, Default)]
pub(super) struct Family {
    /// Its logs.
    pub(super) logs: Vec<SpendLog>,
    /// The budgets right below it.
    pub(super) children: Vec<String>,
}

/// All budgets, in no order.
pub(super) async fn budgets(cx: &Cx<Budgets>) -> Result<Vec<Budget>> {
    ask(cx, |known| known.budgets.values().cloned().collect()).await
}

/// What belongs to a budget.
pub(super) async fn family(cx: &Cx<Budgets>, id: &str) -> Result<Family> {
    ask(cx, |known| Family {
        logs: known.logs.get(id).cloned().unwrap_or_default(),
        children: known.children(id),
    })
    .await
}

async fn ask<T>(cx: &Cx<Budgets>, question: impl FnOnce(&Known) -> T) -> Result<T> {
    let index = &cx.state().index;
    let writes = {
        let inner = index.inner();
        if let Some(known) = &inner.known {
            return Ok(question(known));
        }
        inner.writes
    };
    let known = Known::of(cx.scope(SCOPE).list().await?);
    let answer = question(&known);
    if cx.bus().transport().is_exclusive() {
        let mut inner = index.inner();
        if inner.writes == writes {
            inner.known = Some(known);
        }
    }
    Ok(answer)
}

impl Index {
    /// Somebody else wrote a row. Short and without I/O, fit for a tap.
    pub(super) fn invalidate(&self) {
        let mut inner = self.inner();
        inner.writes += 1;
        inner.known = None;
    }

    /// This process stored a budget, or its lack, and logs.
    pub(super) fn apply(&self, id: String, budget: Option<Budget>, logs: Vec<SpendLog>) {
        let mut inner = self.inner();
        inner.writes += 1;
        let Some(known) = &mut inner.known else { return };
        if let Some(budget) = budget {
            if !logs.is_empty() {
                known.logs.entry(id.clone()).or_default().extend(logs);
            }
            known.budgets.insert(id, budget);
        } else {
            known.logs.remove(&id);
            known.budgets.remove(&id);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn of(rows: Vec<Value>) -> Self {
        let mut known = Self::default();
        for row in rows {
            if row.get("ceiling_usd").is_some() {
                if let Some(budget) = readable(Budget::read(row)) {
                    known.budgets.insert(budget.id.clone(), budget);
                }
            } else if let Some(log) = readable(SpendLog::read(row)) {
                known.logs.entry(log.budget_id.clone()).or_default().push(log);
            }
        }
        known
    }

    fn children(&self, id: &str) -> Vec<String> {
        self.budgets
            .values()
            .filter(|budget| budget.parent_id.as_deref() == Some(id))
            .map(|budget| budget.id.clone())
            .collect()
    }
}

/// A row that cannot be read is an error for who asks for it, not for who asks for all.
pub(super) fn readable<T>(row: Result<Option<T>>) -> Option<T> {
    row.unwrap_or_else(|error| {
        tracing::warn!(%error, "left out");
        None
    })
}
