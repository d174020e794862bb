//! `turn::assistant_streaming`: one model turn, from the transcript to the message and its calls (contract 02 §5).

use super::record::TurnRecord;
use super::runner::{self, StepReply, StepRequest};
use super::session::{Outcome, Session};
use super::{Turns, batch, preflight, provider_turn};
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
        runner::step::<Self>(cx, request.session_id, TurnState::AssistantStreaming).await
    }
}

pub(super) async fn run(session: &mut Session, record: &mut TurnRecord) -> Result<Outcome> {
    record.turn_count += 1;
    record.turn_end_emitted = false;
    record.assistant_body_streamed = Some(false);

    let request = session.request().await?;
    let tools = request.tools()?;
    let (mut messages, mut rows) = session.context_view().await?;
    let (mut message, body_streamed) = if let Some(message) = already_answered(record, &rows) {
        // The process died between storing the message and the record; the model is not asked twice.
        (message, false)
    } else {
        if preflight::check(session, record, &request, &messages, &rows).await? {
            (messages, rows) = session.context_view().await?;
        }
        drop(rows);
        let turn = provider_turn::run(session, record, &request, messages, tools).await;
        (turn.message, turn.body_streamed)
    };

    batch::repair_call_ids(&mut message, record.turn_count);
    let stored = RawMessage::from(&AgentMessage::Assistant(message.clone()));
    let entry_id = record.entry_id("assistant");
    let joining = session.append_joining_insisting(stored.clone(), entry_id).await?;
    record.last_assistant = Some(stored.clone());
    record.assistant_body_streamed = Some(body_streamed);
    let mut events = vec![AgentEvent::MessageComplete {
        message: stored,
        body_streamed: Some(body_streamed),
    }];
    events.extend(go_on(record, &message, session.cx.now_ms()));
    Ok(Outcome {
        message: Some(joining),
        ..Outcome::of(events)
    })
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
