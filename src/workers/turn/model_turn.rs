//! One model turn: the run's model is asked, and others while it is not available; each is paid for (contract 02 §5.3, 07 §4).

use std::time::Instant;

use super::billing::{self, Model};
use super::fallback;
use super::provider_call::{self, Call};
use super::provider_turn::{End, ProviderTurn, Reading, Told};
use super::record::TurnRecord;
use super::request::RunRequest;
use super::session::Session;
use crate::bus::billing::{self as books, Bill, Owed, Verdict};
use crate::bus::provider::stream_of;
use crate::error::Result;
use crate::model::route::Route;
use crate::model::turn::BudgetWait;
use crate::model::{AgentFunction, RawMessage, spend};

/// What is asked.
pub(super) struct Asking<'a> {
    pub(super) request: &'a RunRequest,
    pub(super) messages: Vec<RawMessage>,
    pub(super) tools: Vec<AgentFunction>,
    /// Who pays, if anybody does.
    pub(super) budget_id: Option<String>,
}

/// What came of it.
pub(super) enum Asked {
    /// A message, and what it cost.
    Answered(Box<ProviderTurn>, Option<Owed>),
    /// No model may be asked.
    Refused(BudgetWait),
}

/// What came of one model.
pub(super) enum Tried {
    Ended(Box<Attempt>),
    Refused(BudgetWait),
}

/// A model that was asked.
pub(super) struct Attempt {
    pub(super) reading: Reading,
    pub(super) end: End,
    bill: Option<Bill>,
}

impl Attempt {
    /// Settles a failure without a word; true when it cost something all the same.
    ///
    /// # Errors
    /// It is not known to be recorded.
    pub(super) async fn pay(&mut self, session: &Session) -> Result<bool> {
        let usage = self.reading.counted();
        let owed = self.bill.as_ref().map(|bill| bill.owed(usage));
        billing::pay(session, owed).await?;
        self.bill = None;
        Ok(usage.is_some())
    }
}

/// Asks, emitting what is streamed.
///
/// # Errors
/// The cost of a model that was given up is not known to be recorded.
pub(super) async fn run(
    session: &mut Session,
    record: &mut TurnRecord,
    asking: Asking<'_>,
    route: &Route,
) -> Result<Asked> {
    let began = Instant::now();
    let asked = ask(session, record, asking, route).await;
    session.spent_outside(began);
    asked
}

async fn ask(
    session: &mut Session,
    record: &mut TurnRecord,
    asking: Asking<'_>,
    route: &Route,
) -> Result<Asked> {
    let tried = match route {
        // Nobody is asked, so there is nothing to pay for.
        Route::Unknown(name) => Tried::Ended(Box::new(Attempt {
            reading: Reading::new(session, name, &asking.request.model),
            end: End::Failed(format!("unknown provider: {name}")),
            bill: None,
        })),
        Route::Provider(id) => {
            let own = (asking.request, id.as_str());
            match asking.attempt(session, record, own, Told::Nothing).await {
                Tried::Ended(first) => fallback::ask(session, record, &asking, first).await?,
                refused @ Tried::Refused(_) => refused,
            }
        }
    };
    let Attempt { reading, end, bill } = match tried {
        Tried::Ended(attempt) => *attempt,
        Tried::Refused(why) => return Ok(Asked::Refused(why)),
    };
    let (something_came, streamed) = (reading.has_something(), reading.streamed);
    let mut turn = reading.conclude(session, record, end).await;
    let mut usage = turn.message.usage.clone();
    if something_came {
        let input = billing::input(asking.request, &asking.messages);
        spend::settle(&mut turn.message, input, streamed);
        usage = spend::usage_of(&turn.message, input, streamed);
    }
    let owed = bill.map(|bill| bill.owed(usage.as_ref()));
    Ok(Asked::Answered(Box::new(turn), owed))
}

impl Asking<'_> {
    /// Asks one model, once its worst case is set aside. `told` is how far the answer is already.
    pub(super) async fn attempt(
        &self,
        session: &mut Session,
        record: &mut TurnRecord,
        (request, provider): (&RunRequest, &str),
        told: Told,
    ) -> Tried {
        let is_own = std::ptr::eq(request, self.request);
        let meta = record.model_meta.clone().filter(|_| is_own);
        let mut bill = None;
        if let Some(budget_id) = &self.budget_id {
            let model = Model {
                request,
                provider,
                meta: meta.as_ref(),
            };
            let input = billing::input(request, &self.messages);
            match billing::open(session, record, budget_id, model, input).await {
                Verdict::Go(opened) => bill = Some(opened),
                Verdict::Stop(why) => return Tried::Refused(why),
            }
        }
        let mut reading = Reading::new(session, provider, &request.model);
        reading.told = told;
        let call = Call {
            function: stream_of(provider),
            silence: provider_call::longest_silence(&session.cx.config(), provider),
            request,
            model_meta: meta,
            messages: self.messages.clone(),
            tools: self.tools.clone(),
        };
        let cx = session.cx.clone();
        let work = reading.provider(session, record, call);
        let end = books::held(&cx, bill.as_ref(), work).await;
        Tried::Ended(Box::new(Attempt { reading, end, bill }))
    }
}
