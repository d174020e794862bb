//! `budget::get`: one budget, as it is now (contract 07 §3.2).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Budgets;
use super::lanes::change;
use super::request::{self, BudgetRef};
use super::rows::Needs;
use super::stored::Budget;
use crate::bus::{Cx, Function};
use crate::error::Result;

/// See the module.
#[derive(Debug)]
pub(super) struct Get;

/// A budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Found {
    /// It.
    pub(super) budget: Budget,
}

impl Function for Get {
    const ID: &'static str = "budget::get";
    const DESCRIPTION: &'static str = "Fetch a budget by id.";
    const REQUIRED: &'static [&'static str] = request::BUDGET_ID;
    type State = Budgets;
    type Request = BudgetRef;
    type Response = Found;

    async fn call(cx: &Cx<Budgets>, request: BudgetRef) -> Result<Found> {
        change(cx, &request.budget_id, Needs::Budgets, |chain| {
            let budget = chain.own()?.clone().shown();
            Ok(Found { budget })
        })
        .await
    }
}
