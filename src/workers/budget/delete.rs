//! `budget::delete`: removes a budget and its logs (contract 07 §3.5).
//!
//! Budgets right below it are then below the one above it, so that they keep paying there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Budgets;
use super::lanes::change;
use super::request::{self, BudgetRef};
use super::rows::Needs;
use crate::bus::{Cx, Function};
use crate::error::Result;

/// See the module.
#[derive(Debug)]
pub(super) struct Delete;

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// Always true.
    ok: bool,
    /// Whether there was one.
    #[serde(default)]
    deleted: bool,
}

impl Function for Delete {
    const ID: &'static str = "budget::delete";
    const DESCRIPTION: &'static str = "Delete a budget.";
    const REQUIRED: &'static [&'static str] = request::BUDGET_ID;
    type State = Budgets;
    type Request = BudgetRef;
    type Response = Response;

    async fn call(cx: &Cx<Budgets>, request: BudgetRef) -> Result<Response> {
        change(cx, &request.budget_id, Needs::Family, |chain| {
            let below = chain.below();
            let budget = chain.row(0).and_then(|row| row.budget.take());
            let parent_id = budget.as_ref().and_then(|budget| budget.parent_id.clone());
            for child in below {
                if let Some(child) = &mut chain.other(&child).budget {
                    child.parent_id.clone_from(&parent_id);
                }
            }
            Ok(Response {
                ok: true,
                deleted: budget.is_some(),
            })
        })
        .await
    }
}
