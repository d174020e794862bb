//! `budget::reset`: begins the period anew (contract 07 §3.8).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::{self, BudgetRef};
use super::stored::Budget;
use super::{Budgets, edit};
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::Usd;

/// See the module.
#[derive(Debug)]
pub(super) struct Reset;

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// The budget.
    budget_id: String,
    /// Spent in the period before the reset, US dollars.
    previous_spent_usd: Usd,
}

impl Function for Reset {
    const ID: &'static str = "budget::reset";
    const DESCRIPTION: &'static str = "Reset spent_usd, archive prior period.";
    const REQUIRED: &'static [&'static str] = request::BUDGET_ID;
    type State = Budgets;
    type Request = BudgetRef;
    type Response = Response;

    async fn call(cx: &Cx<Budgets>, BudgetRef { budget_id }: BudgetRef) -> Result<Response> {
        let previous_spent_usd = edit::terms(cx, &budget_id, Budget::reset).await?;
        Ok(Response {
            budget_id,
            previous_spent_usd,
        })
    }
}
