//! `budget::forecast`: where spend is heading (contract 07 §3.11).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Budgets;
use super::lanes::change;
use super::projection::Projection;
use super::request::{self, BudgetRef};
use super::rows::Needs;
use crate::bus::{Cx, Function};
use crate::error::Result;

/// See the module.
#[derive(Debug)]
pub(super) struct Forecast;

/// What it answers. Amounts in US dollars.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// In thirty days at this rate.
    projected_month_usd: f64,
    /// Whether the rate keeps the period under the ceiling.
    on_track: bool,
    /// When the ceiling is reached; null when it never is, or is already.
    days_until_breach: Option<f64>,
    /// At the end of the period at this rate.
    #[serde(default)]
    projected_period_usd: f64,
    /// Per day; in the first day of a period, what was spent in it.
    #[serde(default)]
    rate_usd_per_day: f64,
    /// Per day, over the time that really passed.
    #[serde(default)]
    burn_rate_usd_per_day: f64,
    /// Whether the burn rate breaks the ceiling before the period ends.
    #[serde(default)]
    at_risk: bool,
}

impl Function for Forecast {
    const ID: &'static str = "budget::forecast";
    const DESCRIPTION: &'static str = "Project spend through period end.";
    const REQUIRED: &'static [&'static str] = request::BUDGET_ID;
    type State = Budgets;
    type Request = BudgetRef;
    type Response = Response;

    async fn call(cx: &Cx<Budgets>, request: BudgetRef) -> Result<Response> {
        change(cx, &request.budget_id, Needs::Budgets, |chain| {
            let now_ms = chain.at.now_ms;
            let found = Projection::of(chain.own()?, now_ms);
            Ok(Response {
                projected_month_usd: found.month,
                on_track: found.on_track,
                days_until_breach: found.days_until_breach,
                projected_period_usd: found.period,
                rate_usd_per_day: found.rate,
                burn_rate_usd_per_day: found.burn_rate,
                at_risk: found.at_risk,
            })
        })
        .await
    }
}
