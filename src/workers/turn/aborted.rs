//! How a run ends that somebody stopped (contract 02 §3.1): whatever it was doing, each call has a result and the transcript
//! a last message that says so.

use super::announcer::Announcer;
use super::assistant_streaming;
use super::billing;
use super::commit::Outcome;
use super::flight;
use super::function_execute::{stored_results, take_results};
use super::gate;
use super::record::TurnRecord;
use super::runner;
use super::session::Session;
use super::steering_check;
use super::transcript::NewEntry;
use super::work::{ExecutedCall, PreparedCall};
use crate::bus::Write;
use crate::error::Result;
use crate::model::{
    AgentEvent, AgentMessage, AssistantMessage, FunctionResult, RawMessage, StopReason, TurnState,
};
use crate::rules::denial::{self, Refusal};

/// Ends the run from whatever its record says. `events` are those of the step that was cut short.
pub(super) async fn end(
    session: &mut Session,
    record: &mut TurnRecord,
    mut events: Vec<AgentEvent>,
) -> Result<Outcome> {
    let now = session.cx.now_ms();
    let is_new = record.aborted_at_ms.is_none();
    record.aborted_at_ms.get_or_insert(now);
    if let Some(outcome) = assistant_streaming::answered_before(session, record).await? {
        return Ok(outcome);
    }
    settle_left(session, record).await?;
    steering_check::finish_taking(session, record).await?;
    if is_new && record.work.is_some() && !session.cx.bus().transport().is_exclusive() {
        // The results below are in the transcript before the run is over in the record. A crash in between must leave a run
        // that ends, not one that goes on and runs calls of which the transcript says that they never ran.
        session.checkpoint(record, Vec::new(), Vec::new()).await?;
    }
    let mut outcome = Outcome::default();
    record.function_results = Vec::new();
    if record.work.is_some() {
        events.extend(close_calls(session, record, &mut outcome.writes).await?);
        (_, outcome.entries) = take_results(record, now)?;
    }
    let message = AssistantMessage::synthetic(StopReason::Aborted, None, now);
    let message = RawMessage::from(&AgentMessage::Assistant(message));
    outcome
        .entries
        .push(NewEntry::new(message.clone(), record.entry_id("aborted")));
    record.last_assistant = Some(message.clone());
    events.push(AgentEvent::MessageComplete {
        message,
        body_streamed: Some(false),
    });
    events.extend(runner::turn_end(record, record.function_results.clone(), now));
    runner::finish(record, now);
    outcome.before = events;
    Ok(outcome)
}

/// The model may have been asked by a life that ended before it could pay; it is not asked again.
async fn settle_left(session: &mut Session, record: &TurnRecord) -> Result<()> {
    if !session.repeats || record.state != TurnState::AssistantStreaming {
        return Ok(());
    }
    let request = session.request().await?;
    billing::settle_left(session, record, &request, None).await
}

/// Gives every call that has none a result: one that was started may have taken effect, the others never ran.
async fn close_calls(
    session: &Session,
    record: &mut TurnRecord,
    writes: &mut Vec<Write>,
) -> Result<Vec<AgentEvent>> {
    let mut stored = stored_results(session, record).await?;
    let (_, work, awaiting) = record.batch()?;
    writes.extend(
        awaiting
            .iter()
            .map(|parked| gate::used_decision(session, &parked.function_call_id)),
    );
    let mut announcer = Announcer::default();
    for prepared in work.prepared.clone() {
        let call = prepared.call();
        let has_result = work.executed.contains_key(&call.id);
        if !has_result {
            let executed = stored
                .remove(&call.id)
                .unwrap_or_else(|| result(&prepared, work.started.contains_key(&call.id)));
            work.executed.insert(call.id.clone(), executed);
        }
        let announced = match &work.announced {
            Some(announced) => announced.contains(&call.id),
            None => has_result || awaiting.iter().any(|parked| parked.function_call_id == call.id),
        };
        if !(has_result && announced) {
            announcer.add(call.clone(), false, announced);
        }
    }
    Ok(announcer.collect(&work.executed))
}

fn result(prepared: &PreparedCall, started: bool) -> ExecutedCall {
    let call = prepared.call();
    let result: FunctionResult = match prepared {
        PreparedCall::Synthetic { result, .. } => result.clone(),
        PreparedCall::Dispatch { .. } | PreparedCall::PreApproved { .. } if started => {
            flight::interrupted(call)
        }
        PreparedCall::Dispatch { .. } | PreparedCall::PreApproved { .. } => {
            denial::by_user(&call.function_id, &call.arguments, Refusal::Aborted, None)
        }
    };
    flight::failed(call.clone(), result)
}
