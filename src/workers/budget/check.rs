//! `budget::check`: may this estimated spend go ahead? (contract 07 §3.6)

use serde_json::Value;

use super::lanes::change;
use super::rows::Needs;
use super::tree::{self, Ask, Reserve};
use super::{Budgets, request};
use crate::bus::{Cx, Function};
use crate::error::{Error, Result};
use crate::model::Usd;
use crate::model::api::budget::{CheckRequest, CheckResponse};

/// See the module.
#[derive(Debug)]
pub(super) struct Check;

impl Function for Check {
    const ID: &'static str = "budget::check";
    const DESCRIPTION: &'static str = "Check whether a budget allows an estimated spend.";
    const REQUIRED: &'static [&'static str] = request::BUDGET_ID;
    type State = Budgets;
    type Request = CheckRequest;
    type Response = CheckResponse;

    async fn call(cx: &Cx<Budgets>, request: CheckRequest) -> Result<CheckResponse> {
        let reserve = if request.reserve {
            let given = request::optional("reservation_id", request.reservation_id)?;
            let ttl_ms = cx.config().budgets.reservation_ttl_ms;
            Some(Reserve {
                reservation_id: given.unwrap_or_else(|| cx.uuid()),
                ttl_ms: i64::try_from(ttl_ms).unwrap_or(i64::MAX),
            })
        } else {
            None
        };
        let ask = Ask {
            estimate: estimate(request.estimated_cost_usd.as_ref())?,
            principal_id: request.principal_id,
            reserve,
        };
        change(cx, &request.budget_id, Needs::Budgets, move |chain| {
            tree::check(chain, &ask)
        })
        .await
    }
}

/// A wrong estimate is refused, not taken for nothing (contract 07 weakness 8).
fn estimate(value: Option<&Value>) -> Result<Usd> {
    match value {
        None | Some(Value::Null) => Ok(Usd::ZERO),
        Some(value) => value
            .as_f64()
            .and_then(Usd::from_dollars)
            .filter(|estimate| *estimate >= Usd::ZERO)
            .ok_or_else(|| Error::invalid("estimated_cost_usd must be a finite number >= 0")),
    }
}
