//! `turn::assistant_streaming`: one model turn, from the transcript to the message and its calls (contract 02 §5).

use std::sync::Arc;

use super::billing::Refused;
use super::commit::Outcome;
use super::model_turn::Asking;
use super::preflight::Fit;
use super::provider_turn::ProviderTurn;
use super::record::TurnRecord;
use super::request::RunRequest;
use super::runner;
use super::session::Session;
use super::step::{self, StepReply, StepRequest};
use super::transcript::NewEntry;
use super::{Turns, batch, billing, leftover, model_turn, preflight, provider_call};
use crate::bus::billing::Owed;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::session::MessagesResponse;
use crate::model::route::Route;
use crate::model::turn::BudgetWait;
use crate::model::{
    AgentEvent, AgentFunction, AgentMessage, AssistantMessage, RawMessage, StopReason, TurnState,
};

/// `turn::assistant_streaming`.
#[derive(Debug)]
pub(super) struct AssistantStreaming;

impl Function for AssistantStreaming {
    const ID: &'static str = "turn::assistant_streaming";
    const DESCRIPTION: &'static str = "Run one durable FSM transition for session in state assistant_streaming: start turn, stream provider response, finalize, and route onward.";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    type State = Turns;
    type Request = StepRequest;
    type Response = StepReply;

    async fn call(cx: &Cx<Turns>, request: StepRequest) -> Result<StepReply> {
        step::run::<Self>(cx, request.session_id, TurnState::AssistantStreaming).await
    }
}

pub(super) async fn run(session: &mut Session, record: &mut TurnRecord) -> Result<Outcome> {
    if let Some(outcome) = answered_before(session, record).await? {
        return Ok(outcome);
    }
    let request = session.request().await?;
    let tools = request.tools()?;
    let before = Box::new(record.clone());
    begin(record);
    let stop = Arc::clone(&session.stop);
    let (message, body_streamed) = match stop.unless_asked(look(session, record, &request)).await {
        Some(Ok(seen)) => match Box::pin(ask(session, record, &request, seen, before, tools)).await? {
            Asked::Answered(turn) => (turn.message, turn.body_streamed),
            Asked::Refused(Refused::Ends(message)) => (*message, false),
            Asked::Refused(Refused::Rests(before)) => {
                *record = *before;
                return Ok(Outcome::default());
            }
        },
        Some(Err(error)) => return Err(error),
        None => {
            billing::settle_left(session, record, &request, None).await?;
            let now = session.cx.now_ms();
            (AssistantMessage::synthetic(StopReason::Aborted, None, now), false)
        }
    };
    if message.stop_reason == StopReason::Aborted && stop.is_asked() {
        record.aborted_at_ms = Some(session.cx.now_ms());
    }
    Ok(accept(session, record, message, body_streamed))
}

/// What the model is to see, and where it is.
struct Seen {
    route: Route,
    /// Or why a summary, without which it would be too much, may not be made.
    messages: std::result::Result<Vec<RawMessage>, BudgetWait>,
}

/// What came of a turn.
enum Asked {
    Answered(Box<ProviderTurn>),
    Refused(Refused),
}

/// Asks the model, if whoever pays lets it be asked. `before` is the record before this turn.
async fn ask(
    session: &mut Session,
    record: &mut TurnRecord,
    request: &RunRequest,
    seen: Seen,
    before: Box<TurnRecord>,
    tools: Vec<AgentFunction>,
) -> Result<Asked> {
    let asked = match seen.messages {
        Ok(messages) => {
            let asking = Asking {
                request,
                messages,
                tools,
                budget_id: billing::budget_of(session, request),
            };
            model_turn::run(session, record, asking, &seen.route).await?
        }
        Err(why) => model_turn::Asked::Refused(why),
    };
    let (turn, owed) = match asked {
        model_turn::Asked::Answered(turn, owed) => (turn, owed),
        model_turn::Asked::Refused(why) => return Ok(Asked::Refused(billing::refuse(session, before, why))),
    };
    let answer = Answer {
        place: record.place(),
        message: turn.message.clone(),
        body_streamed: turn.body_streamed,
        owed: owed.clone(),
    };
    session.cx.state().answers.keep(&session.id, answer);
    billing::pay(session, owed).await?;
    Ok(Asked::Answered(turn))
}

/// The answer of a model, kept until it is stored: it was paid for.
pub(super) struct Answer {
    /// The turn that it belongs to, as [`TurnRecord::place`] says it.
    place: String,
    message: AssistantMessage,
    body_streamed: bool,
    /// What is perhaps not recorded yet.
    owed: Option<Owed>,
}

/// Goes on with an answer that is there already: stored without the record by an earlier life, or kept because it could not
/// be stored. The model is not asked twice, and a run that is to stop does so at what the answer leads to.
pub(super) async fn answered_before(session: &Session, record: &mut TurnRecord) -> Result<Option<Outcome>> {
    if !session.repeats || record.state != TurnState::AssistantStreaming {
        return Ok(None);
    }
    let mut next = record.clone();
    begin(&mut next);
    let place = next.place();
    let kept = session.cx.state().answers.find(&session.id, |answer| {
        (answer.place == place).then(|| (answer.message.clone(), answer.body_streamed, answer.owed.clone()))
    });
    let kept = match kept {
        Some((message, body_streamed, owed)) => {
            billing::pay(session, owed).await?;
            Some((message, body_streamed))
        }
        None => None,
    };
    let body_streamed = kept.as_ref().is_some_and(|(_, body_streamed)| *body_streamed);
    let (rows, _) = session.transcript().await?;
    // What is in the transcript counts: another process may have had the session meanwhile.
    let Some(message) = answer_in(&next, &rows).or_else(|| kept.map(|(message, _)| message)) else {
        return Ok(None);
    };
    *record = next;
    Ok(Some(accept(session, record, message, body_streamed)))
}

/// The next turn begins.
fn begin(record: &mut TurnRecord) {
    record.turn_count += 1;
    record.turn_end_emitted = false;
    record.assistant_body_streamed = Some(false);
}

/// The answer goes to the transcript, and the run on to where it leads.
fn accept(
    session: &Session,
    record: &mut TurnRecord,
    mut message: AssistantMessage,
    body_streamed: bool,
) -> Outcome {
    batch::repair_call_ids(&mut message, record.turn_count);
    let stored = RawMessage::from(&AgentMessage::Assistant(message.clone()));
    let entry_id = record.entry_id("assistant");
    let mut outcome = Outcome::default();
    session.join(&mut outcome, NewEntry::new(stored.clone(), entry_id));
    record.last_assistant = Some(stored.clone());
    record.assistant_body_streamed = Some(body_streamed);
    outcome.before.push(AgentEvent::MessageComplete {
        message: stored,
        body_streamed: Some(body_streamed),
    });
    outcome
        .before
        .extend(go_on(record, &message, session.cx.now_ms()));
    outcome
}

/// Where the model is, and what it is to see.
async fn look(session: &mut Session, record: &TurnRecord, request: &RunRequest) -> Result<Seen> {
    let place = record.place();
    if !session.repeats {
        session.swept = Some(place.clone());
    }
    let (messages, rows) = session.context_view().await?;
    // All events of the session are read for it. What this life has streamed is kept with its answer.
    let mut cut = None;
    if session.swept.as_ref() != Some(&place) {
        cut = leftover::keep(session, record, billing::input(request, &messages)).await?;
    }
    billing::settle_left(session, record, request, cut.as_ref()).await?;
    session.swept = Some(place);
    let route = provider_call::route_of(session, request).await?;
    let fit = preflight::check(session, record, request, route.name(), &messages, &rows).await?;
    let messages = match fit {
        Fit::AsItIs => Ok(messages),
        Fit::Compacted(shorter) => Ok(shorter),
        Fit::Refused(why) => Err(why),
    };
    Ok(Seen { route, messages })
}

/// The answer of this turn, if it is in the transcript.
fn answer_in(record: &TurnRecord, rows: &MessagesResponse) -> Option<AssistantMessage> {
    let id = record.entry_id("assistant");
    let row = rows.messages.iter().rev().find(|row| *row.entry_id == *id)?;
    match row.message.typed()? {
        AgentMessage::Assistant(message) => Some(message),
        AgentMessage::User(_) | AgentMessage::FunctionResult(_) | AgentMessage::Custom(_) => None,
    }
}

/// Where the message leads. Its content decides, not its stop reason, unless the turn failed or was stopped.
fn go_on(record: &mut TurnRecord, message: &AssistantMessage, now: i64) -> Option<AgentEvent> {
    if matches!(message.stop_reason, StopReason::Error | StopReason::Aborted) {
        let event = runner::turn_end(record, Vec::new(), now);
        runner::finish(record, now);
        return event;
    }
    if message.calls().next().is_some() {
        record.function_results = Vec::new();
        record.awaiting_approval = Some(Vec::new());
        record.work = Some(batch::prepare(message));
        record.go(TurnState::FunctionExecute, now);
    } else {
        record.go(TurnState::SteeringCheck, now);
    }
    None
}
