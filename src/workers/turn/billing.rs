//! Who pays for a turn (contract 07 §4): which budget, what its model calls can cost, what an earlier life still owes for
//! them, and what becomes of a run that may not spend. The books are kept by [`crate::bus::billing`].

use serde_json::{Map, Value};

use super::actor::Input;
use super::later;
use super::leftover::Cut;
use super::record::TurnRecord;
use super::request::RunRequest;
use super::session::Session;
use crate::bus::billing::{self, Call, Left, Owed, Verdict};
use crate::config::AtCeiling;
use crate::error::Result;
use crate::model::price::{self, Prices};
use crate::model::turn::BudgetWait;
use crate::model::{AssistantMessage, RawMessage, StopReason, Usd, tokens};

/// The budget of a run: its own, else the one for all runs.
pub(super) fn budget_of(session: &Session, request: &RunRequest) -> Option<String> {
    let own = request.budget_id.clone().filter(|id| !id.is_empty());
    own.or_else(|| session.cx.config().budgets.default_budget_id.clone())
}

/// Tokens that a model is sent, estimated.
pub(super) fn input(request: &RunRequest, messages: &[RawMessage]) -> u64 {
    let fixed = tokens::of_fixed(&request.system_prompt, &request.function_schemas);
    tokens::of_view(messages, fixed, &request.model) + fixed
}

/// A model that a turn asks.
#[derive(Clone, Copy)]
pub(super) struct Model<'a> {
    /// The run's request, as this model gets it.
    pub(super) request: &'a RunRequest,
    pub(super) provider: &'a str,
    /// Its catalog record, when that is known already.
    pub(super) meta: Option<&'a Map<String, Value>>,
}

impl Model<'_> {
    async fn catalog_record(&self, session: &Session) -> Value {
        match self.meta {
            Some(meta) => Value::Object(meta.clone()),
            None => billing::catalog_record(&session.cx, self.provider, &self.request.model).await,
        }
    }

    /// Tells the calls of a turn apart: each of its models is asked once.
    fn name(&self, record: &TurnRecord) -> String {
        format!("{}{}/{}", prefix(record), self.provider, self.request.model)
    }
}

/// How the names of the calls of a turn begin.
fn prefix(record: &TurnRecord) -> String {
    format!("{}/{}/", record.run(), record.turn_count)
}

/// Sets the worst case of a model call aside.
pub(super) async fn open(
    session: &Session,
    record: &TurnRecord,
    budget_id: &str,
    model: Model<'_>,
    input: u64,
) -> Verdict {
    let known = model.catalog_record(session).await;
    let estimated = model.request.estimated_cost_usd.and_then(Usd::from_dollars);
    let call = Call {
        budget_id,
        session: &session.id,
        name: &model.name(record),
        provider: model.provider,
        model: &known,
        input,
        output: None,
        at_least: estimated.unwrap_or(Usd::ZERO),
    };
    let verdict = billing::open(&session.cx, call).await;
    if matches!(verdict, Verdict::Go(_)) {
        session.cx.state().resting.remove(budget_id, &session.id);
    }
    verdict
}

/// Records a cost, and takes up the run that waits for longest for what this releases.
///
/// # Errors
/// It is not known to be recorded.
pub(super) async fn pay(session: &Session, owed: Option<Owed>) -> Result<()> {
    let Some(owed) = owed else { return Ok(()) };
    let (cx, budget_id) = (&session.cx, owed.budget_id().to_owned());
    billing::pay(cx, owed).await?;
    if let Some(next) = cx.state().resting.next(&budget_id) {
        cx.state().actors.submit(cx, &next, Input::Resume);
    }
    Ok(())
}

/// Pays for the model calls of earlier lives that ended before they could: for one that was `cut` what was streamed, for
/// whatever else is set aside all of it. Looked for when a step may be a repeated one, and once while the actor lives.
///
/// # Errors
/// It is not known to be recorded.
pub(super) async fn settle_left(
    session: &mut Session,
    record: &TurnRecord,
    request: &RunRequest,
    cut: Option<&Cut>,
) -> Result<()> {
    let Some(budget_id) = budget_of(session, request) else {
        return Ok(());
    };
    let mut left = Vec::new();
    if session.repeats || !session.knows_bills {
        match billing::left(&session.cx, &budget_id, &session.id).await {
            Ok(found) => {
                left = found;
                session.knows_bills = true;
            }
            Err(error) => {
                tracing::warn!(session_id = %session.id, %error, "calls of earlier lives not looked for");
            }
        }
    }
    if let Some(cut) = cut {
        let owed = of_cut(session, record, (&budget_id, request), cut, &mut left).await;
        pay(session, Some(owed)).await?;
    }
    for left in left {
        pay(session, Some(left.whole())).await?;
    }
    Ok(())
}

/// What was streamed of a call. Its life may have recorded it already, under its name.
async fn of_cut(
    session: &Session,
    record: &TurnRecord,
    (budget_id, request): (&str, &RunRequest),
    cut: &Cut,
    left: &mut Vec<Left>,
) -> Owed {
    let message = &cut.message;
    let others = request.fallbacks(&session.cx.config().turn.fallback_models);
    let other = others
        .iter()
        .find(|other| other.model == message.model && other.provider.eq_ignore_ascii_case(&message.provider));
    let model = Model {
        request: other.unwrap_or(request),
        provider: &message.provider,
        meta: record.model_meta.as_ref().filter(|_| other.is_none()),
    };
    let prices = Prices::of(&model.catalog_record(session).await, model.provider);
    let cost = price::of_call(message.usage.as_ref(), prices.as_ref(), model.provider);
    let turn = prefix(record);
    if let Some(at) = left.iter().position(|left| left.name.starts_with(&turn)) {
        return left.remove(at).costing(cost);
    }
    let life = record.emitter.as_ref();
    let epoch = life.map_or("", |emitter| emitter.epoch.as_str());
    Owed::of_life(budget_id, &session.id, &model.name(record), epoch, cost)
}

/// What a refused run leaves: it rests until there is money, as before its turn, or it ends.
pub(super) enum Refused {
    /// It rests with this record.
    Rests(Box<TurnRecord>),
    /// It ends with this message.
    Ends(Box<AssistantMessage>),
}

/// Ends or parks a run; one that no budget would let go on ends. `before` is its record before this turn.
pub(super) fn refuse(session: &Session, mut before: Box<TurnRecord>, why: BudgetWait) -> Refused {
    let now = session.cx.now_ms();
    match session.cx.config().budgets.at_ceiling {
        AtCeiling::Park if !why.is_final => {
            tracing::info!(session_id = %session.id, budget_id = why.budget_id, reason = why.reason, "the run rests");
            // Whoever changes a budget wakes it, and whoever settles a call; time may help as well.
            later::look_again(session);
            session.cx.state().resting.add(&why.budget_id, &session.id);
            before.budget_wait = Some(Box::new(why));
            // A model that was given up may have shown that it began.
            before.emitter = session.emitter.clone().or(before.emitter);
            Refused::Rests(before)
        }
        AtCeiling::Park | AtCeiling::End => {
            let text = Some(why.reason.as_str());
            Refused::Ends(Box::new(AssistantMessage::synthetic(
                StopReason::Error,
                text,
                now,
            )))
        }
    }
}
