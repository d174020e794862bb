//! `budget::usage`: what was spent, by period (contract 07 §3.10).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lanes::change;
use super::periods::Period;
use super::rows::Needs;
use super::store::all_logs;
use super::stored::{Budget, SpendLog};
use super::{Budgets, request};
use crate::bus::{Cx, Function};
use crate::error::{Error, Result};
use crate::model::text::clip;
use crate::model::{Usd, lenient};

/// See the module.
#[derive(Debug)]
pub(super) struct Usage;

/// What it takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// The budget.
    budget_id: String,
    /// `all`, or the budget's own period; absent means `all`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    window: Option<String>,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// The sum, US dollars.
    spent_usd: Usd,
    /// Ascending by start, the running period last.
    by_period: Vec<Row>,
    /// How many rows there are.
    records_count: usize,
    /// How many records made up the sum.
    #[serde(default)]
    spend_records: u64,
}

/// One period.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Row {
    /// Its start, Unix milliseconds.
    period: i64,
    /// Spent in it, US dollars.
    spent: Usd,
}

impl Function for Usage {
    const ID: &'static str = "budget::usage";
    const DESCRIPTION: &'static str = "Aggregate spend over a window.";
    const REQUIRED: &'static [&'static str] = request::BUDGET_ID;
    type State = Budgets;
    type Request = Request;
    type Response = Response;

    async fn call(cx: &Cx<Budgets>, request: Request) -> Result<Response> {
        let id = request::budget_id(&request.budget_id)?.to_owned();
        let window = request.window.unwrap_or_else(|| "all".to_owned());
        change(cx, &id, Needs::Family, move |chain| {
            let budget = chain.own()?.clone();
            let since = since(&budget, &window)?;
            let stored = chain.row(0).map_or(&[][..], |row| &row.logs);
            Ok(Response::of(
                &budget,
                &all_logs(stored, &budget.ledger.unarchived),
                since,
            ))
        })
        .await
    }
}

/// What ended by then does not count.
fn since(budget: &Budget, window: &str) -> Result<Option<i64>> {
    if window == "all" {
        return Ok(None);
    }
    let own = budget.period;
    match Period::named(window) {
        None => Err(Error::invalid(format!("invalid window: {}", clip(window, 64)))),
        Some(period) if period == own => Ok(Some(budget.period_start_at)),
        Some(_) => Err(Error::invalid(format!(
            "window '{window}' does not align with budget period '{0}'. Use window: '{0}' or 'all'.",
            own.name()
        ))),
    }
}

impl Response {
    fn of(budget: &Budget, logs: &[SpendLog], since: Option<i64>) -> Self {
        let counted = |log: &&SpendLog| since.is_none_or(|since| log.period_end > since);
        let mut rows: BTreeMap<i64, Usd> = BTreeMap::new();
        let mut spend_records = budget.spend_records;
        let mut running = budget.spent_usd;
        for log in logs.iter().filter(counted) {
            spend_records += log.spend_records;
            if log.period_start == budget.period_start_at {
                running = running + log.spent_usd;
            } else {
                let spent = rows.entry(log.period_start).or_default();
                *spent = *spent + log.spent_usd;
            }
        }
        let mut by_period: Vec<Row> = rows
            .into_iter()
            .map(|(period, spent)| Row { period, spent })
            .collect();
        by_period.push(Row {
            period: budget.period_start_at,
            spent: running,
        });
        Self {
            spent_usd: by_period.iter().map(|row| row.spent).sum(),
            records_count: by_period.len(),
            by_period,
            spend_records,
        }
    }
}
