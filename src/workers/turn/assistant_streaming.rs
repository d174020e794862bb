//! `turn::assistant_streaming`: one model turn, from the transcript to the message and its calls (contract 02 §5).

use std::sync::Arc;

use super::record::TurnRecord;
use super::request::RunRequest;
use super::runner;
use super::session::{Outcome, Session};
use super::step::{self, StepReply, StepRequest};
use super::transcript::NewEntry;
use super::{Turns, batch, leftover, preflight, provider_turn};
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
    if let Some(outcome) = stored_before(session, record).await? {
        return Ok(outcome);
    }
    begin(record);
    let request = session.request().await?;
    let tools = request.tools()?;
    let stop = Arc::clone(&session.stop);
    let (message, body_streamed) = match stop.unless_asked(look(session, record, &request)).await {
        Some(Ok(messages)) => {
            let turn = provider_turn::run(session, record, &request, messages, tools).await;
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
    Ok(accept(session, record, message, body_streamed))
}

/// Goes on with the answer that an earlier life has stored without the record: the model is not asked twice, and a run that
/// is to stop does so at what the answer leads to. Where a commit is stored whole there is no such answer.
pub(super) async fn stored_before(session: &Session, record: &mut TurnRecord) -> Result<Option<Outcome>> {
    let may_be_stored = session.repeats && record.state == TurnState::AssistantStreaming;
    if !may_be_stored || session.cx.bus().transport().is_exclusive() {
        return Ok(None);
    }
    let (rows, _) = session.transcript().await?;
    let mut next = record.clone();
    begin(&mut next);
    let Some(message) = answer_in(&next, &rows) else {
        return Ok(None);
    };
    *record = next;
    Ok(Some(accept(session, record, message, false)))
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

/// What the model is to see.
async fn look(session: &Session, record: &TurnRecord, request: &RunRequest) -> Result<Vec<RawMessage>> {
    let (messages, rows) = session.context_view().await?;
    if session.repeats {
        leftover::keep(session, record, &messages).await?;
    }
    let compacted = preflight::check(session, record, request, &messages, &rows).await?;
    Ok(compacted.unwrap_or(messages))
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
