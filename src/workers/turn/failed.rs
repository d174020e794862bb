//! How a run fails (contract 02 §2.1).

use super::commit::Outcome;
use super::record::TurnRecord;
use super::session::Session;
use super::steering_check;
use super::transcript::NewEntry;
use super::work::PreparedCall;
use crate::error::{Error, Result};
use crate::model::{
    AgentEvent, AgentMessage, AssistantMessage, RawMessage, StopReason, TurnError, TurnState,
};

/// The fail transition: the run ends, and the transcript says why, behind the results that there are.
///
/// # Errors
/// An inbox was begun to be emptied and the store stays away: a next run would be told its messages again, so this one has to
/// wait for better times.
pub(super) async fn fail(session: &mut Session, record: &mut TurnRecord, cause: &Error) -> Result<Outcome> {
    match steering_check::finish_taking(session, record).await {
        Err(error) if error.is_retryable() => return Err(error),
        Err(error) => tracing::warn!(session_id = %session.id, %error, "inbox of a failed run not looked at"),
        Ok(_) => {}
    }
    let now = session.cx.now_ms();
    let text = format!("from {}: {cause}", record.state.as_str());
    tracing::error!(session_id = %session.id, error = %text, "run failed");
    let message = AssistantMessage::synthetic(StopReason::Error, Some(&text), now);
    let message = RawMessage::from(&AgentMessage::Assistant(message));
    let work = record.work.iter();
    let results = work.flat_map(|work| {
        let calls = work.prepared.iter().map(PreparedCall::call);
        calls.filter_map(|call| work.executed.get(&call.id))
    });
    let mut entries: Vec<NewEntry> = results.map(|executed| executed.entry(record, now)).collect();
    entries.push(NewEntry::new(message.clone(), record.entry_id("failed")));
    record.error = Some(TurnError {
        kind: "transition_error".into(),
        message: text,
    });
    record.awaiting_approval = None;
    record.go(TurnState::Failed, now);
    Ok(Outcome {
        entries,
        after: vec![AgentEvent::MessageComplete {
            message,
            body_streamed: Some(false),
        }],
        ..Outcome::default()
    })
}
