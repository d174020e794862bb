//! The part of a message that an earlier life of the process had streamed when it died. The model is asked again; what
//! people have read already stays in the transcript, marked as failed, and so does what it cost.

use serde_json::{Value, json};

use super::numbering::EVENTS;
use super::record::TurnRecord;
use super::session::Session;
use super::transcript::NewEntry;
use crate::error::Result;
use crate::model::{AgentMessage, AssistantMessage, ContentBlock, ErrorKind, RawMessage, StopReason, spend};

const READ_MS: u64 = 30_000;
const CAUSE: &str = "interrupted: the process stopped while the model was answering; it was asked again";

/// What was streamed of an answer that never came.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    /// With the tokens that it cost.
    pub(super) message: AssistantMessage,
}

/// Keeps what was streamed of the turn at hand, once per attempt. `input` is what the model was sent, in tokens.
pub(super) async fn keep(session: &Session, record: &TurnRecord, input: u64) -> Result<Option<Cut>> {
    let request = json!({ "stream_name": EVENTS, "group_id": session.id });
    let events = match session.invoke("stream::list", request, READ_MS).await {
        Ok(events) => events,
        // The events are for people; a turn goes on without them.
        Err(error) => {
            tracing::warn!(session_id = %session.id, %error, "interrupted message not looked for");
            return Ok(None);
        }
    };
    let Some((attempt, mut message)) = events.as_array().and_then(|events| streamed(events)) else {
        return Ok(None);
    };
    message.timestamp = session.cx.now_ms();
    spend::settle(&mut message, input, 0);
    let cut = Cut {
        message: message.clone(),
    };
    let message = RawMessage::from(&AgentMessage::Assistant(message));
    let entry_id = record.entry_id(&format!("cut-{attempt}"));
    session.append_insisting(NewEntry::new(message, entry_id)).await?;
    Ok(Some(cut))
}

/// The unfinished message at the end of a session's events, with the number of its attempt.
fn streamed(events: &[Value]) -> Option<(usize, AssistantMessage)> {
    let is_update = |event: &&Value| event["type"] == "message_update";
    let updates: Vec<&Value> = events.iter().rev().take_while(is_update).collect();
    let is_start = |update: &&&Value| update["llm_event"]["type"] == "start";
    let attempt = updates.iter().filter(is_start).count();
    let (mut text, mut thinking) = (String::new(), String::new());
    let latest: Vec<&&Value> = updates.iter().take_while(|update| !is_start(update)).collect();
    for update in latest.iter().rev() {
        let event = &update["llm_event"];
        let delta = event["delta"].as_str().unwrap_or_default();
        match event["type"].as_str() {
            Some("text_delta") => text.push_str(delta),
            Some("thinking_delta") => thinking.push_str(delta),
            _ => {}
        }
    }
    let mut message = serde_json::from_value::<AssistantMessage>(latest.first()?["message"].clone()).ok()?;
    let thinking = (!thinking.is_empty()).then_some(ContentBlock::Thinking {
        text: thinking,
        signature: None,
    });
    let text = (!text.is_empty()).then(|| ContentBlock::text(text));
    message.content = thinking.into_iter().chain(text).collect();
    message.stop_reason = StopReason::Error;
    message.error_message = Some(CAUSE.to_owned());
    message.error_kind = Some(ErrorKind::Transient);
    (!message.content.is_empty()).then_some((attempt, message))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn update(kind: &str, delta: &str) -> Value {
        json!({ "type": "message_update", "message": { "role": "assistant", "content": [], "stop_reason": "end", "model": "m" },
            "llm_event": { "type": kind, "delta": delta } })
    }

    fn found(events: &[Value]) -> Option<(usize, Value)> {
        streamed(events).map(|(attempt, message)| (attempt, json!(message.content)))
    }

    #[test]
    fn the_last_attempt_counts_and_only_while_it_is_unfinished() {
        let changed = json!({ "type": "turn_state_changed" });
        let mut events = vec![update("text_delta", "earlier turn"), changed];
        assert_eq!(found(&events), None);
        events.extend([update("start", ""), update("functioncall_delta", "{")]);
        assert_eq!(found(&events), None, "half a call is nothing to read");
        events.extend([update("text_delta", "lost"), update("start", "")]);
        assert_eq!(found(&events), None, "its earlier life has been seen to");
        events.extend([
            update("thinking_delta", "hm"),
            update("text_delta", "a"),
            update("text_delta", "b"),
        ]);
        let content = json!([{ "type": "thinking", "text": "hm" }, { "type": "text", "text": "ab" }]);
        assert_eq!(found(&events), Some((2, content)));
        events.push(json!({ "type": "message_complete" }));
        assert_eq!(found(&events), None);
    }
}
