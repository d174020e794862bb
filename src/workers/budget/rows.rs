//! What a change sees: the budgets of one tree, loaded, not yet saved.

use std::collections::HashMap;

use super::ledger::Moment;
use super::record_ids::{Older, OlderIds};
use super::stored::{Budget, SpendLog};
use crate::error::{Error, Result};

/// Longest chain of budgets above one another.
pub(super) const MAX_LEVELS: usize = 8;

/// What a change needs besides the budgets that pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing.
    Budgets,
    /// The ids of all records of the period.
    RecordIds,
    /// The logs of the budget, and the budgets right below it.
    Family,
}

/// One budget, or the lack of it.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// As stored.
    pub(super) before: Option<Budget>,
    /// As it is to be stored.
    pub(super) budget: Option<Budget>,
    /// Record ids of the period that moved out of the row before.
    pub(super) older: Older,
    /// Record ids that move now: number of their row, and they.
    pub(super) moved: Vec<(u32, OlderIds)>,
    /// Its logs, when they were asked for.
    pub(super) logs: Vec<SpendLog>,
}

/// Budgets of one tree by id.
#[derive(Debug, Default)]
pub(super) struct Rows(pub(super) HashMap<String, Row>);

/// A budget with those above it, at a moment.
pub(super) struct Chain<'a> {
    rows: &'a mut Rows,
    /// The budget itself first.
    ids: Vec<String>,
    pub(super) at: Moment<'a>,
}

impl Row {
    /// As loaded.
    pub(super) fn of(budget: Option<Budget>) -> Self {
        Self {
            before: budget.clone(),
            budget,
            ..Self::default()
        }
    }

    /// Whether a spend is recorded in this period.
    pub(super) fn has_record(&self, hash: &str) -> bool {
        self.budget
            .as_ref()
            .is_some_and(|budget| budget.ledger.record_ids.has(hash, &self.older))
    }

    /// Remembers that a spend is recorded.
    pub(super) fn add_record(&mut self, hash: String) {
        let Some(budget) = &mut self.budget else { return };
        let moved = budget.ledger.record_ids.add(hash, &mut self.older);
        self.moved.extend(moved);
    }
}

impl Rows {
    /// The ids from a budget to the one that is above all others, as far as they are loaded. The end of a chain is a
    /// budget without one above it, or whose parent is gone.
    ///
    /// # Errors
    /// The chain is longer than any that was made.
    pub(super) fn chain_ids(&self, id: &str) -> Result<Vec<String>> {
        let mut ids = vec![id.to_owned()];
        let mut next = self.parent(id);
        while let Some(parent) = next {
            if self.budget(parent).is_none() {
                break;
            }
            if ids.len() == MAX_LEVELS {
                return Err(Error::invalid(format!(
                    "budget {id} has more than {} budgets above it",
                    MAX_LEVELS - 1
                )));
            }
            ids.push(parent.to_owned());
            next = self.parent(parent);
        }
        Ok(ids)
    }

    fn parent(&self, id: &str) -> Option<&str> {
        self.budget(id)?.parent_id.as_deref()
    }

    fn budget(&self, id: &str) -> Option<&Budget> {
        self.0.get(id)?.budget.as_ref()
    }
}

impl<'a> Chain<'a> {
    /// The loaded chain of a budget.
    pub(super) fn of(rows: &'a mut Rows, id: &str, at: Moment<'a>) -> Result<Self> {
        let ids = rows.chain_ids(id)?;
        Ok(Self { rows, ids, at })
    }

    /// How many budgets pay.
    pub(super) fn levels(&self) -> usize {
        self.ids.len()
    }

    /// The budget itself, brought to the present.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn own(&mut self) -> Result<&mut Budget> {
        let at = self.at;
        let budget = self.level(0)?;
        budget.roll(at)?;
        Ok(budget)
    }

    /// Brings every level to the present.
    ///
    /// # Errors
    /// There is no budget.
    pub(super) fn roll(&mut self) -> Result<()> {
        let at = self.at;
        (0..self.levels()).try_for_each(|level| self.level(level)?.roll(at))
    }

    /// A budget of the chain; 0 is the budget itself.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn level(&mut self, level: usize) -> Result<&mut Budget> {
        let id = self.id();
        self.row(level)
            .and_then(|row| row.budget.as_mut())
            .ok_or_else(|| not_found(&id))
    }

    /// A row of the chain.
    pub(super) fn row(&mut self, level: usize) -> Option<&mut Row> {
        self.ids.get(level).and_then(|id| self.rows.0.get_mut(id))
    }

    /// The loaded budgets right below the budget itself.
    pub(super) fn below(&self) -> Vec<String> {
        let id = self.ids.first();
        let is_below = |row: &Row| {
            row.budget
                .as_ref()
                .is_some_and(|budget| budget.parent_id.as_ref() == id)
        };
        let below = self.rows.0.iter().filter(|(_, row)| is_below(row));
        below.map(|(id, _)| id.clone()).collect()
    }

    /// Another loaded row.
    pub(super) fn other(&mut self, id: &str) -> &mut Row {
        self.rows.0.entry(id.to_owned()).or_default()
    }

    /// Adds a budget that is not stored yet.
    pub(super) fn add(&mut self, budget: Budget) {
        let id = budget.id.clone();
        self.other(&id).budget = Some(budget);
    }

    fn id(&self) -> String {
        self.ids.first().cloned().unwrap_or_default()
    }
}

/// The contract's text for a budget that is not there.
pub(super) fn not_found(id: &str) -> Error {
    Error::invalid(format!("budget not found: {id}"))
}
