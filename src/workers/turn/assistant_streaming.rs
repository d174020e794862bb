//! `turn::assistant_streaming`: one model turn, from the transcript to the message and its calls (contract 02 §5).

use std::sync::Arc;

use super::record::TurnRecord;
use super::request::RunRequest;
use super::routing::Route;
use super::runner;
use super::session::{Outcome, Session};
use super::step::{self, StepReply, StepRequest};
use super::transcript::NewEntry;
use super::{Turns, batch, leftover, preflight, provider_call, provider_turn};
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::session::MessagesResponse;
use crate::model::{AgentEvent, AgentMessage, AssistantMessage, RawMessage, StopReason, TurnState};

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
    record.turn_count += 1;
    record.turn_end_emitted = false;
    record.assistant_body_streamed = Some(false);

    let request = session.request().await?;
    let tools = request.tools()?;
    let stop = Arc::clone(&session.stop);
    let (mut message, body_streamed) = match stop.unless_asked(look(session, record, &request)).await {
        Some(Ok(Before::Answered(message, body_streamed))) => (*message, body_streamed),
        Some(Ok(Before::Asking(route, messages))) => {
            let turn = provider_turn::run(session, record, &request, &route, messages, tools).await;
            let answer = Answer {
                place: record.place(),
                message: turn.message.clone(),
                body_streamed: turn.body_streamed,
            };
            session.cx.state().answers.keep(&session.id, answer);
            (turn.message, turn.body_streamed)
        }
        Some(Err(error)) => return Err(error),
        None => {
            let now = session.cx.now_ms();
            (AssistantMessage::synthetic(StopReason::Aborted, None, now), false)
        }
    };
    if message.stop_reason == StopReason::Aborted && stop.is_asked() {
        record.aborted_at_ms = Some(session.cx.now_ms());
    }

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
    Ok(outcome)
}

/// The answer of a model, kept until it is stored: it was paid for.
pub(super) struct Answer {
    /// The turn that it belongs to, as [`TurnRecord::place`] says it.
    place: String,
    message: AssistantMessage,
    body_streamed: bool,
}

/// What is known before the model is asked.
enum Before {
    /// It has answered, and the record could not be stored; it is not asked twice. With whether clients have rendered the
    /// body.
    Answered(Box<AssistantMessage>, bool),
    /// Where the model is, and what it is to see.
    Asking(Route, Vec<RawMessage>),
}

async fn look(session: &mut Session, record: &TurnRecord, request: &RunRequest) -> Result<Before> {
    let place = record.place();
    if !session.repeats {
        session.swept = Some(place.clone());
    }
    let (messages, rows) = session.context_view().await?;
    let kept = session.cx.state().answers.find(&session.id, |answer| {
        (answer.place == place).then(|| (answer.message.clone(), answer.body_streamed))
    });
    // What is in the transcript counts: another process may have had the session meanwhile.
    if let Some(message) = already_answered(record, &rows) {
        let body_streamed = kept.is_some_and(|(_, body_streamed)| body_streamed);
        return Ok(Before::Answered(Box::new(message), body_streamed));
    }
    if let Some((message, body_streamed)) = kept {
        return Ok(Before::Answered(Box::new(message), body_streamed));
    }
    // All events of the session are read for it. What this life has streamed is kept above.
    if session.swept.as_ref() != Some(&place) {
        leftover::keep(session, record, &messages).await?;
        session.swept = Some(place);
    }
    let route = provider_call::route_of(session, request).await?;
    if preflight::check(session, record, request, route.name(), &messages, &rows).await? {
        return Ok(Before::Asking(route, session.context_view().await?.0));
    }
    Ok(Before::Asking(route, messages))
}

/// The message of this turn, when an earlier life of the process has already stored it.
fn already_answered(record: &TurnRecord, rows: &MessagesResponse) -> Option<AssistantMessage> {
    let last = rows.messages.last()?;
    if *last.entry_id != *record.entry_id("assistant") {
        return None;
    }
    match last.message.typed()? {
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
