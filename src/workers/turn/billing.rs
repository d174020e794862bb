//! Who pays for a model call (contract 07 §4): the worst case is set aside before it, the real cost is recorded after it.
//!
//! ```text
//!  check {reserve} ─► model call ─► record {cost, reservation} ─► the answer is stored
//! ```
//!
//! The reservation is named after the turn, so a repeated step sets aside once. The spend is named after the turn and the
//! life of the process: a step that is repeated by the same life asks no model again and is charged once; one that a later
//! life repeats asks again, and that costs again. What the dead life had streamed is charged under its own name.
//! Without a budget nothing is asked.

use std::convert::Infallible;
use std::time::Duration;

use futures::future::{Either, select};
use serde_json::{Value, json};

use super::Turns;
use super::later;
use super::leftover::Cut;
use super::price::{self, Prices};
use super::record::TurnRecord;
use super::request::RunRequest;
use super::session::Session;
use crate::bus::{CallOptions, Cx};
use crate::config::{AtCeiling, Unpriced};
use crate::error::{Error, Result};
use crate::model::api::budget::{Check, CheckRequest, CheckResponse, Record, RecordRequest};
use crate::model::turn::BudgetWait;
use crate::model::{AssistantMessage, RawMessage, SessionId, StopReason, Usd, tokens};

/// Limit of a call about money.
const LIMIT_MS: u64 = 30_000;
/// Limit of a look into the catalog.
const CATALOG_MS: u64 = 5_000;

/// What a model is about to be asked.
pub(super) struct Call<'a> {
    pub(super) request: &'a RunRequest,
    pub(super) provider: &'a str,
    pub(super) messages: &'a [RawMessage],
    /// What an earlier life had streamed of this turn.
    pub(super) cut: Option<&'a Cut>,
}

/// Whether the model may be asked.
pub(super) enum Verdict {
    /// Yes; the bill is for what it costs.
    Go(Bill),
    /// No, for this reason.
    Stop(BudgetWait),
}

/// A call that somebody pays for.
#[derive(Debug, Clone)]
pub(super) struct Bill {
    budget_id: String,
    reservation_id: String,
    provider: String,
    prices: Option<Prices>,
    worst: Usd,
}

/// A cost that is to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Owed {
    request: RecordRequest,
}

/// The budget of a run: its own, else the one for all runs.
pub(super) fn budget_of(session: &Session, request: &RunRequest) -> Option<String> {
    let own = request.budget_id.clone().filter(|id| !id.is_empty());
    own.or_else(|| session.cx.config().budgets.default_budget_id.clone())
}

/// Sets the worst case aside.
pub(super) async fn open(
    session: &Session,
    record: &TurnRecord,
    budget_id: String,
    asked: Call<'_>,
) -> Result<Verdict> {
    let model = catalog_record(session, record, &asked).await;
    let prices = Prices::of(&model, asked.provider);
    let bill = Bill {
        budget_id,
        reservation_id: record.place(),
        provider: asked.provider.to_owned(),
        worst: worst(session, prices.as_ref(), &model, &asked),
        prices,
    };
    if let Some(cut) = asked.cut {
        pay(session, Some(bill.of_cut(record, cut))).await?;
    }
    let refused = match session.call::<Check>(bill.check(&session.id), LIMIT_MS).await {
        // A cap that opens on an error caps nothing.
        Err(error) => Some(format!("budget unavailable: {error}")),
        Ok(answer) if !answer.allowed => answer.reason.or_else(|| Some("denied".to_owned())),
        Ok(answer) => bill.unpriced(session, &answer),
    };
    Ok(match refused {
        None => Verdict::Go(bill),
        Some(reason) => Verdict::Stop(BudgetWait {
            budget_id: bill.budget_id,
            reason: format!("budget exceeded: {reason}"),
        }),
    })
}

/// Records a cost. Repeated, it is recorded once.
///
/// # Errors
/// It is not known to be recorded.
pub(super) async fn pay(session: &Session, owed: Option<Owed>) -> Result<()> {
    let Some(Owed { request }) = owed else {
        return Ok(());
    };
    let budget_id = request.budget_id.clone();
    match session.call::<Record>(request, LIMIT_MS).await {
        Ok(_) => Ok(()),
        // The budget was deleted meanwhile: nobody is left to pay.
        Err(Error::Invalid(text)) => {
            tracing::warn!(session_id = %session.id, budget_id, text, "the cost of a model call is not recorded");
            Ok(())
        }
        Err(error) => Err(Error::Transient(format!(
            "the cost of the call is not recorded: {error}"
        ))),
    }
}

/// What a refused run leaves: it rests until there is money, as before its turn, or it ends.
pub(super) enum Refused {
    /// It rests with this record.
    Rests(Box<TurnRecord>),
    /// It ends with this message.
    Ends(Box<AssistantMessage>),
}

/// Ends or parks a run. `before` is its record before this turn.
pub(super) fn refuse(session: &Session, mut before: Box<TurnRecord>, why: BudgetWait) -> Refused {
    let now = session.cx.now_ms();
    match session.cx.config().budgets.at_ceiling {
        AtCeiling::Park => {
            // Whoever changes a budget wakes it; time may help as well.
            later::look_again(session);
            before.budget_wait = Some(Box::new(why));
            Refused::Rests(before)
        }
        AtCeiling::End => {
            let text = Some(why.reason.as_str());
            Refused::Ends(Box::new(AssistantMessage::synthetic(
                StopReason::Error,
                text,
                now,
            )))
        }
    }
}

/// Does the work while the reservation is kept alive: a call may take longer than one lives.
pub(super) async fn held<T>(
    cx: &Cx<Turns>,
    session: &SessionId,
    bill: Option<&Bill>,
    work: impl Future<Output = T>,
) -> T {
    let Some(bill) = bill else { return work.await };
    let renew = renew(cx, session, bill);
    tokio::pin!(work, renew);
    match select(work, renew).await {
        Either::Left((done, _)) => done,
        Either::Right((never, _)) => match never {},
    }
}

/// Sets the same aside again and again.
async fn renew(cx: &Cx<Turns>, session: &SessionId, bill: &Bill) -> Infallible {
    loop {
        let half = cx.config().budgets.reservation_ttl_ms / 2;
        tokio::time::sleep(Duration::from_millis(half.max(1))).await;
        let options = CallOptions::timeout_ms(LIMIT_MS);
        // A cap that was lowered meanwhile does not take back what runs already.
        if let Err(error) = cx.call_with::<Check>(bill.check(session), options).await {
            tracing::warn!(%error, "the reservation of a model call was not renewed");
        }
    }
}

/// The most that the call can cost, or what the run says when that is more.
fn worst(session: &Session, prices: Option<&Prices>, model: &Value, asked: &Call<'_>) -> Usd {
    let request = asked.request;
    let fixed = tokens::of_fixed(&request.system_prompt, &request.function_schemas);
    let input = tokens::of_view(asked.messages, fixed, &request.model) + fixed;
    let cap = session.cx.config().provider.output_token_max;
    let output = model
        .get("max_output_tokens")
        .and_then(tokens::whole)
        .map_or(cap, |most| most.min(cap));
    let priced = prices.map_or(Usd::ZERO, |prices| prices.worst(input, output));
    let estimated = request.estimated_cost_usd.and_then(Usd::from_dollars);
    priced.max(estimated.unwrap_or(Usd::ZERO))
}

async fn catalog_record(session: &Session, record: &TurnRecord, asked: &Call<'_>) -> Value {
    if let Some(meta) = &record.model_meta {
        return Value::Object(meta.clone());
    }
    let request = json!({ "provider": asked.provider, "model_id": asked.request.model });
    // A model that cannot be looked up has no price.
    session
        .invoke("models::get", request, CATALOG_MS)
        .await
        .unwrap_or_default()
}

impl Bill {
    /// What the call costs that ended with this message.
    pub(super) fn of(&self, session: &Session, message: &AssistantMessage) -> Owed {
        self.owed(session.cx.bus().epoch(), message)
    }

    /// What an earlier life had streamed; that life may have recorded it already.
    fn of_cut(&self, record: &TurnRecord, cut: &Cut) -> Owed {
        let epoch = record
            .emitter
            .as_ref()
            .map_or("", |emitter| emitter.epoch.as_str());
        self.owed(epoch, &cut.message)
    }

    fn owed(&self, epoch: &str, message: &AssistantMessage) -> Owed {
        let cost = price::of_call(message.usage.as_ref(), self.prices.as_ref(), &self.provider);
        Owed {
            request: RecordRequest {
                budget_id: self.budget_id.clone(),
                cost_usd: Some(cost.dollars()),
                reservation_id: Some(self.reservation_id.clone()),
                record_id: Some(format!("{}@{epoch}", self.reservation_id)),
            },
        }
    }

    fn check(&self, session: &SessionId) -> CheckRequest {
        CheckRequest {
            budget_id: self.budget_id.clone(),
            estimated_cost_usd: Some(json!(self.worst)),
            principal_id: Some(session.to_string()),
            reserve: true,
            reservation_id: Some(self.reservation_id.clone()),
        }
    }

    /// Why a call without a price does not happen, under a cap that holds.
    fn unpriced(&self, session: &Session, answer: &CheckResponse) -> Option<String> {
        let refuses = session.cx.config().budgets.unpriced == Unpriced::Refuse;
        let is_capped = answer.reservation_id.is_some();
        (self.prices.is_none() && refuses && is_capped).then(|| "model has no price".to_owned())
    }
}
