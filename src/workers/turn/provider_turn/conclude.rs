//! What a model turn leaves behind: the provider's message, or what came before it was cut, or the cause alone (contract 02
//! §5.4).

use std::sync::Arc;

use super::{End, ProviderTurn, Reading, raw};
use crate::error::Error;
use crate::model::{AgentEvent, AssistantEvent, AssistantMessage, ContentBlock, ErrorKind, StopReason};
use crate::workers::turn::record::TurnRecord;
use crate::workers::turn::session::Session;

impl Reading {
    /// The final message: the provider's, or what was streamed with the cause, or the cause alone.
    pub(in crate::workers::turn) async fn conclude(
        mut self,
        session: &mut Session,
        record: &mut TurnRecord,
        end: End,
    ) -> ProviderTurn {
        if let Some(event) = self.coalescer.flush() {
            self.emit(session, record, event).await;
        }
        let body_streamed = self.body_streamed;
        let counted = self.usage.clone();
        let of = |mut message: AssistantMessage| {
            message.usage = message.usage.or(counted);
            ProviderTurn {
                message,
                body_streamed,
            }
        };
        let outcome = self.outcome.take();
        let outcome =
            outcome.map(|shared| Arc::try_unwrap(shared).unwrap_or_else(|shared| (*shared).clone()));
        let cause = match (end, outcome) {
            (End::Stopped, outcome) => {
                let message = outcome.or_else(|| self.streamed()).unwrap_or(self.frame);
                return of(cut(message, StopReason::Aborted, "aborted"));
            }
            (End::Complete | End::Failed(_), Some(message)) => return of(message),
            (End::Failed(cause), None) => cause,
            (End::Complete, None) => "provider channel closed without final".into(),
        };
        if let Some(message) = self.streamed() {
            return of(cut(message, StopReason::Error, &cause));
        }
        let mut message = AssistantMessage::synthetic(StopReason::Error, Some(&cause), session.cx.now_ms());
        message.provider.clone_from(&self.frame.provider);
        message.model.clone_from(&self.frame.model);
        message.usage = self.usage;
        let event = AssistantEvent::TextDelta {
            partial: None,
            delta: cause,
        };
        session
            .emit(
                record,
                AgentEvent::MessageUpdate {
                    message: raw(message.clone()),
                    llm_event: event,
                },
            )
            .await;
        ProviderTurn {
            message,
            body_streamed: true,
        }
    }

    /// What was streamed without a final message, if anything was.
    fn streamed(&self) -> Option<AssistantMessage> {
        let mut message = match &self.last {
            Some(partial) => partial.as_ref().clone(),
            None if self.text.is_empty() && self.thinking.is_empty() => return None,
            None => {
                let mut message = self.frame.clone();
                let thinking = (!self.thinking.is_empty()).then(|| ContentBlock::Thinking {
                    text: self.thinking.clone(),
                    signature: None,
                });
                let text = (!self.text.is_empty()).then(|| ContentBlock::text(self.text.clone()));
                message.content = thinking.into_iter().chain(text).collect();
                message
            }
        };
        if self.usage.is_some() {
            message.usage.clone_from(&self.usage);
        }
        Some(message)
    }
}

/// A message that ended too early. Calls are left out: they did not run.
fn cut(mut message: AssistantMessage, stop_reason: StopReason, cause: &str) -> AssistantMessage {
    message
        .content
        .retain(|block| !matches!(block, ContentBlock::FunctionCall { .. }));
    message.stop_reason = stop_reason;
    message.error_message = Some(cause.to_owned());
    message.error_kind = Some(ErrorKind::Transient);
    message
}

/// The text of a failed provider call, without the wrappings of other runtimes.
pub(super) fn cause_of(error: &Error) -> String {
    let text = error.to_string();
    let mut rest = text.trim();
    loop {
        let stripped = ["IIIInvocationError:", "invocation_failed:"]
            .iter()
            .find_map(|prefix| {
                let head = rest.get(..prefix.len())?;
                head.eq_ignore_ascii_case(prefix)
                    .then(|| rest.get(prefix.len()..))
                    .flatten()
            });
        match stripped {
            Some(tail) => rest = tail.trim_start(),
            None => return rest.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn c02_case_12_wrappings_are_removed_from_a_cause() {
        let cause = |text: &str| cause_of(&Error::invalid(text));
        assert_eq!(cause("IIIInvocationError: upstream 500"), "upstream 500");
        assert_eq!(cause("iiiinvocationerror: Invocation_Failed:  boom "), "boom");
        assert_eq!(cause("plain"), "plain");
    }
}
