//! `budget::enforce`: whether the cap holds (contract 07 §3.12).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lanes::change;
use super::rows::Needs;
use super::{Budgets, request, wake};
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
        let budget_id = request::budget_id(&request.budget_id)?.to_owned();
        let enforced = request::flag("enforced", &request.enforced)?;
        change(cx, &budget_id, Needs::Budgets, move |chain| {
            let now_ms = chain.at.now_ms;
            let budget = chain.own()?;
            budget.enforced = enforced;
            budget.updated_at = now_ms;
            Ok(())
        })
        .await?;
        wake::changed(cx);
        Ok(Response { budget_id, enforced })
    }
}
