//! `budget::record`: this was spent (contract 07 §3.7).

use super::lanes::change;
use super::rows::Needs;
use super::tree::{self, Spend};
use super::{Budgets, record_ids, request};
use crate::bus::{Cx, Function};
use crate::error::{Error, Result};
use crate::model::Usd;
use crate::model::api::budget::{RecordRequest, RecordResponse};

/// See the module.
#[derive(Debug)]
pub(super) struct Record;

impl Function for Record {
    const ID: &'static str = "budget::record";
    const DESCRIPTION: &'static str = "Record a spend, fire matching alerts.";
    const REQUIRED: &'static [&'static str] = request::BUDGET_ID;
    type State = Budgets;
    type Request = RecordRequest;
    type Response = RecordResponse;

    async fn call(cx: &Cx<Budgets>, request: RecordRequest) -> Result<RecordResponse> {
        let cost = request
            .cost_usd
            .and_then(Usd::from_dollars)
            .filter(|cost| *cost >= Usd::ZERO)
            .ok_or_else(|| Error::invalid("cost_usd must be >= 0"))?;
        let record_id = request.record_id.filter(|id| !id.is_empty());
        let needs = match record_id {
            Some(_) => Needs::RecordIds,
            None => Needs::Budgets,
        };
        let spend = Spend {
            cost,
            reservation_id: request.reservation_id,
            record: record_id.as_deref().map(record_ids::hash),
        };
        change(cx, &request.budget_id, needs, move |chain| {
            tree::record(chain, &spend)
        })
        .await
    }
}
