//! `budget::exempt`: the cap does not hold somebody for a day (contract 07 §3.14).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::periods::DAY_MS;
use super::stored::Exemption;
use super::{Budgets, edit, request};
use crate::bus::{Cx, Function};
use crate::error::Result;

/// See the module.
#[derive(Debug)]
pub(super) struct Exempt;

/// What it takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// The budget.
    budget_id: String,
    /// Who.
    principal_id: String,
    /// Why.
    reason: String,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// The budget.
    budget_id: String,
    /// Void from then on, Unix milliseconds.
    expires_at: i64,
}

impl Function for Exempt {
    const ID: &'static str = "budget::exempt";
    const DESCRIPTION: &'static str = "Add a 24h exemption for a principal.";
    const REQUIRED: &'static [&'static str] = &["budget_id", "principal_id", "reason"];
    type State = Budgets;
    type Request = Request;
    type Response = Response;

    async fn call(cx: &Cx<Budgets>, request: Request) -> Result<Response> {
        let Request {
            budget_id,
            principal_id,
            reason,
        } = request;
        request::id("principal_id", &principal_id)?;
        request::text("reason", &reason)?;
        let expires_at = edit::terms(cx, &budget_id, move |budget, at| {
            budget.prune(at.now_ms);
            budget
                .exemptions
                .retain(|exemption| exemption.principal_id != principal_id);
            let expires_at = at.now_ms.saturating_add(DAY_MS);
            budget.exemptions.push(Exemption {
                principal_id,
                reason,
                expires_at,
            });
            Ok(expires_at)
        })
        .await?;
        Ok(Response {
            budget_id,
            expires_at,
        })
    }
}
