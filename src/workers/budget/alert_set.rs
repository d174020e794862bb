//! `budget::alert_set`: tell somebody when a share of the ceiling is spent (contract 07 §3.9).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::stored::{Alert, Budget};
use super::{Budgets, edit, request};
use crate::bus::{Cx, Function};
use crate::error::{Error, Result};
use crate::model::lenient;
use crate::model::text::clip;

/// See the module.
#[derive(Debug)]
pub(super) struct AlertSet;

/// What it takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// The budget.
    budget_id: String,
    /// Share of the ceiling, above 0, at most 1.
    #[serde(default, deserialize_with = "lenient::optional")]
    threshold_pct: Option<f64>,
    /// What is called.
    #[serde(default, deserialize_with = "lenient::or_default")]
    callback_function_id: String,
    /// What it is called with besides; the alert's own members win.
    #[serde(default)]
    callback_payload: Option<Value>,
    /// The alert to remove. Nothing else is looked at then.
    #[serde(default, deserialize_with = "lenient::optional")]
    remove_alert_id: Option<String>,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// The alert.
    alert_id: String,
}

impl Function for AlertSet {
    const ID: &'static str = "budget::alert_set";
    const DESCRIPTION: &'static str = "Add an alert to a budget.";
    const REQUIRED: &'static [&'static str] = request::BUDGET_ID;
    type State = Budgets;
    type Request = Request;
    type Response = Response;

    async fn call(cx: &Cx<Budgets>, request: Request) -> Result<Response> {
        let budget_id = request.budget_id.clone();
        let change = Change::of(request, cx)?;
        edit::edit(cx, &budget_id, move |budget, _| {
            let alert_id = change.apply(budget)?;
            Ok(Response { alert_id })
        })
        .await
    }
}

/// What is done to the alerts.
enum Change {
    Add(Alert),
    Remove(String),
}

impl Change {
    fn of(request: Request, cx: &Cx<Budgets>) -> Result<Self> {
        if let Some(alert_id) = request.remove_alert_id {
            return Ok(Self::Remove(alert_id));
        }
        let threshold = request.threshold_pct.filter(|threshold| threshold.is_finite());
        let threshold = threshold.ok_or_else(|| Error::invalid("threshold_pct must be a finite number"))?;
        if threshold <= 0.0 || threshold > 1.0 {
            return Err(Error::invalid("threshold_pct must be in (0, 1]"));
        }
        request::id("callback_function_id", &request.callback_function_id)?;
        Ok(Self::Add(Alert {
            id: cx.uuid(),
            threshold_pct: threshold,
            callback_function_id: request.callback_function_id,
            callback_payload: request.callback_payload,
            last_fired_period_start: None,
        }))
    }

    fn apply(self, budget: &mut Budget) -> Result<String> {
        match self {
            Self::Add(alert) => {
                let alert_id = alert.id.clone();
                budget.alerts.push(alert);
                Ok(alert_id)
            }
            Self::Remove(alert_id) => {
                let before = budget.alerts.len();
                budget.alerts.retain(|alert| alert.id != alert_id);
                if budget.alerts.len() == before {
                    return Err(Error::invalid(format!(
                        "alert not found: {}",
                        clip(&alert_id, 64)
                    )));
                }
                Ok(alert_id)
            }
        }
    }
}
