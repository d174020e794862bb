//! `budget::pause`: takes the cap off for a while, or puts it back (contract 07 §3.13).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Budgets, edit, request};
use crate::bus::{Cx, Function};
use crate::error::Result;

/// See the module.
#[derive(Debug)]
pub(super) struct Pause;

/// What it takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// The budget.
    budget_id: String,
    /// A boolean.
    #[serde(default)]
    #[schemars(with = "bool")]
    paused: Value,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// The budget.
    budget_id: String,
    /// Whether the cap is off now.
    paused: bool,
}

impl Function for Pause {
    const ID: &'static str = "budget::pause";
    const DESCRIPTION: &'static str = "Pause or resume a budget.";
    const REQUIRED: &'static [&'static str] = request::BUDGET_ID;
    type State = Budgets;
    type Request = Request;
    type Response = Response;

    async fn call(cx: &Cx<Budgets>, request: Request) -> Result<Response> {
        let paused = request::flag("paused", &request.paused)?;
        let budget_id = request.budget_id;
        edit::terms(cx, &budget_id, move |budget, _| {
            budget.paused = paused;
            Ok(())
        })
        .await?;
        Ok(Response { budget_id, paused })
    }
}
