//! `budget::create`: a new budget (contract 07 §3.1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lanes::change;
use super::periods::{self, Period};
use super::rows::{MAX_LEVELS, Needs};
use super::stored::{Budget, Ledger};
use super::{Budgets, request};
use crate::bus::{Cx, Function};
use crate::error::{Error, Result};
use crate::model::text::clip;
use crate::model::{Usd, lenient};

/// See the module.
#[derive(Debug)]
pub(super) struct Create;

/// What it takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// Cap of a period, US dollars, above 0.
    #[serde(default, deserialize_with = "lenient::optional")]
    ceiling_usd: Option<f64>,
    /// `day`, `week` or `month`.
    #[serde(default, deserialize_with = "lenient::optional")]
    period: Option<String>,
    /// Whose it is.
    #[serde(default, deserialize_with = "lenient::optional")]
    workspace_id: Option<String>,
    /// Which agent's it is.
    #[serde(default, deserialize_with = "lenient::optional")]
    agent_id: Option<String>,
    /// Name for people.
    #[serde(default, deserialize_with = "lenient::optional")]
    name: Option<String>,
    /// A budget that pays too; it must be there. At most 8 in a chain.
    #[serde(default, deserialize_with = "lenient::optional")]
    parent_id: Option<String>,
    /// Zone of its calendar, such as `Europe/Berlin`; UTC when absent.
    #[serde(default, deserialize_with = "lenient::optional")]
    time_zone: Option<String>,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// The new budget.
    budget_id: String,
}

impl Function for Create {
    const ID: &'static str = "budget::create";
    const DESCRIPTION: &'static str = "Create a budget with ceiling + period.";
    type State = Budgets;
    type Request = Request;
    type Response = Response;

    async fn call(cx: &Cx<Budgets>, request: Request) -> Result<Response> {
        let budget = request.budget(cx)?;
        let budget_id = budget.id.clone();
        let tree = budget.parent_id.clone().unwrap_or_else(|| budget_id.clone());
        change(cx, &tree, Needs::Budgets, move |chain| {
            if let Some(parent_id) = &budget.parent_id {
                chain.level(0)?;
                if chain.levels() == MAX_LEVELS {
                    return Err(Error::invalid(format!(
                        "parent_id: {parent_id} has {} budgets above it already",
                        MAX_LEVELS - 1
                    )));
                }
            }
            chain.add(budget);
            Ok(())
        })
        .await?;
        Ok(Response { budget_id })
    }
}

impl Request {
    fn budget(self, cx: &Cx<Budgets>) -> Result<Budget> {
        let ceiling_usd = self
            .ceiling_usd
            .and_then(Usd::from_dollars)
            .filter(|ceiling| *ceiling > Usd::ZERO)
            .ok_or_else(|| Error::invalid("ceiling_usd must be > 0"))?;
        let name = self.period.filter(|period| !period.is_empty());
        let name = name.ok_or_else(|| Error::missing_string("period"))?;
        let period = Period::named(&name).ok_or_else(|| {
            Error::invalid(format!(
                "invalid period: {} (expected 'day' | 'week' | 'month')",
                clip(&name, 64)
            ))
        })?;
        let zone = periods::zone(self.time_zone.as_deref())?;
        let now_ms = cx.now_ms();
        let bounds = period.around(now_ms, &zone)?;
        Ok(Budget {
            id: cx.uuid(),
            workspace_id: request::optional("workspace_id", self.workspace_id)?,
            agent_id: request::optional("agent_id", self.agent_id)?,
            name: request::optional("name", self.name)?,
            parent_id: request::optional("parent_id", self.parent_id)?,
            time_zone: self.time_zone,
            ceiling_usd,
            period,
            spent_usd: Usd::ZERO,
            spend_records: 0,
            period_start_at: bounds.start,
            period_resets_at: bounds.end,
            enforced: true,
            paused: false,
            alerts: Vec::new(),
            exemptions: Vec::new(),
            reservations: Vec::new(),
            created_at: now_ms,
            updated_at: now_ms,
            ledger: Ledger::default(),
            extra: serde_json::Map::new(),
        })
    }
}
