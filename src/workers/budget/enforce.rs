//! `budget::enforce`: whether the cap holds (contract 07 §3.12).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Budgets, edit, request};
use crate::bus::{Cx, Function};
use crate::error::Result;

/// See the module.
#[derive(Debug)]
pub(super) struct Enforce;

/// What it takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// The budget.
    budget_id: String,
    /// A boolean.
    #[serde(default)]
    #[schemars(with = "bool")]
    enforced: Value,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// The budget.
    budget_id: String,
    /// Whether the cap holds now.
    enforced: bool,
}

impl Function for Enforce {
    const ID: &'static str = "budget::enforce";
    const DESCRIPTION: &'static str = "Toggle enforcement on a budget.";
    const REQUIRED: &'static [&'static str] = request::BUDGET_ID;
    type State = Budgets;
    type Request = Request;
    type Response = Response;

    async fn call(cx: &Cx<Budgets>, request: Request) -> Result<Response> {
        let enforced = request::flag("enforced", &request.enforced)?;
        let budget_id = request.budget_id;
        edit::terms(cx, &budget_id, move |budget, _| {
            budget.enforced = enforced;
            Ok(())
        })
        .await?;
        Ok(Response { budget_id, enforced })
    }
}
