//! One model turn: ask the routed provider, read its events, keep what arrived (contract 02 §5.3, §5.4).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::coalesce::Coalescer;
use super::provider_call::{self, Call};
use super::record::{RunRequest, TurnRecord};
use super::routing::Route;
use super::session::Session;
use crate::bus::Frame;
use crate::error::Error;
use crate::model::{
    AgentEvent, AgentFunction, AgentMessage, AssistantEvent, AssistantMessage, ContentBlock, ErrorKind,
    RawMessage, StopReason,
};

/// A provider that returned must have closed its channel; one that has not is not waited for longer.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// What a model turn left behind.
pub(super) struct ProviderTurn {
    /// The final message, synthetic when the provider gave none.
    pub(super) message: AssistantMessage,
    /// Whether clients have rendered its body already.
    pub(super) body_streamed: bool,
}

/// Asks the model, emitting what it streams.
pub(super) async fn run(
    session: &mut Session,
    record: &mut TurnRecord,
    request: &RunRequest,
    messages: Vec<RawMessage>,
    tools: Vec<AgentFunction>,
) -> ProviderTurn {
    let began = Instant::now();
    let route = provider_call::route_of(session, request).await;
    let mut reading = Reading::new(session, route.name(), &request.model);
    let failure = match &route {
        Route::Unknown(name) => Some(format!("unknown provider: {name}")),
        Route::Provider(id) => {
            let call = Call {
                function: format!("provider::{id}::stream"),
                request,
                messages,
                tools,
            };
            reading.provider(session, record, call).await
        }
    };
    let turn = reading.conclude(session, record, failure).await;
    session.spent_outside(began);
    turn
}

/// What was read so far.
struct Reading {
    coalescer: Coalescer,
    slim: bool,
    /// `message` of slim updates: everything but the content.
    frame: AssistantMessage,
    update: RawMessage,
    last: Option<Arc<AssistantMessage>>,
    text: String,
    thinking: String,
    body_streamed: bool,
    outcome: Option<Arc<AssistantMessage>>,
}

impl Reading {
    fn new(session: &Session, provider: &str, model: &str) -> Self {
        let events = &session.cx.config().events;
        let frame = AssistantMessage::empty(provider, model, session.cx.now_ms());
        Self {
            coalescer: Coalescer::new(events.coalesce_ms, events.coalesce_chars),
            slim: events.slim_updates,
            update: raw(frame.clone()),
            frame,
            last: None,
            text: String::new(),
            thinking: String::new(),
            body_streamed: false,
            outcome: None,
        }
    }

    /// Runs the provider and reads until the end; answers why there is no final message, if there is none.
    async fn provider(
        &mut self,
        session: &mut Session,
        record: &mut TurnRecord,
        call: Call<'_>,
    ) -> Option<String> {
        let (writer, mut reader) = match provider_call::open_channel(session, &call.function, self.slim).await
        {
            Ok(ends) => ends,
            Err(error) => return Some(format!("create_channel failed: {error}")),
        };
        let mut provider = provider_call::start(session, record, call, writer);
        let silence = Duration::from_millis(session.cx.config().turn.stream_timeout_ms);
        let mut quiet_until = tokio::time::Instant::now() + silence;
        let mut returned = None;
        loop {
            let flush_at = self.coalescer.deadline();
            tokio::select! {
                biased;
                frame = reader.next() => match frame {
                    Some(frame) => {
                        quiet_until = tokio::time::Instant::now() + returned.as_ref().map_or(silence, |()| CLOSE_GRACE);
                        self.take(session, record, frame).await;
                        if self.outcome.is_some() {
                            return None;
                        }
                    }
                    None if returned.is_some() => return Some("provider channel closed without final".into()),
                    // Closed, but the call has not said why yet.
                    None => return match tokio::time::timeout(CLOSE_GRACE, provider).await {
                        Ok(Err(error)) => Some(cause_of(&error)),
                        Ok(Ok(_)) | Err(_) => Some("provider channel closed without final".into()),
                    },
                },
                result = &mut provider, if returned.is_none() => match result {
                    Ok(_) => {
                        returned = Some(());
                        quiet_until = tokio::time::Instant::now() + CLOSE_GRACE;
                    }
                    Err(error) => return Some(cause_of(&error)),
                },
                () = sleep_until(flush_at), if flush_at.is_some() => {
                    if let Some(event) = self.coalescer.flush() {
                        self.emit(session, record, event).await;
                    }
                }
                () = tokio::time::sleep_until(quiet_until) => {
                    let why = if returned.is_some() { "closed without final".to_owned() } else {
                        format!("timed out: nothing for {} ms", silence.as_millis())
                    };
                    return Some(format!("provider channel {why}"));
                }
            }
        }
    }

    async fn take(&mut self, session: &mut Session, record: &mut TurnRecord, frame: Frame) {
        let event = match frame {
            Frame::Event(event) => event,
            Frame::Text(text) => match serde_json::from_str::<AssistantEvent>(&text) {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(session_id = %session.id, %error, "provider frame skipped");
                    return;
                }
            },
            Frame::Binary(_) => return,
        };
        if let Some(message) = event.terminal() {
            self.outcome = Some(Arc::clone(message));
            return;
        }
        match &event {
            AssistantEvent::Usage { .. } | AssistantEvent::Stop { .. } => return,
            AssistantEvent::TextDelta { delta, .. } => {
                self.body_streamed = true;
                self.text.push_str(delta);
            }
            AssistantEvent::ThinkingDelta { delta, .. } => {
                self.body_streamed = true;
                self.thinking.push_str(delta);
            }
            _ => {}
        }
        if let Some(partial) = event.partial() {
            self.last = Some(Arc::clone(partial));
        }
        for event in self.coalescer.push(event, Instant::now()) {
            self.emit(session, record, event).await;
        }
    }

    async fn emit(&mut self, session: &mut Session, record: &mut TurnRecord, mut event: AssistantEvent) {
        let partial = event.partial_mut().and_then(|partial| {
            if self.slim {
                partial.take()
            } else {
                partial.clone()
            }
        });
        let message = match partial {
            Some(partial) if !self.slim => raw(partial.as_ref().clone()),
            _ => self.update.clone(),
        };
        session
            .emit(
                record,
                AgentEvent::MessageUpdate {
                    message,
                    llm_event: event,
                },
            )
            .await;
    }

    /// The final message: the provider's, or what was streamed with the cause, or the cause alone.
    async fn conclude(
        mut self,
        session: &mut Session,
        record: &mut TurnRecord,
        failure: Option<String>,
    ) -> ProviderTurn {
        if let Some(event) = self.coalescer.flush() {
            self.emit(session, record, event).await;
        }
        if let Some(message) = self.outcome.take() {
            let message = Arc::try_unwrap(message).unwrap_or_else(|shared| shared.as_ref().clone());
            return ProviderTurn {
                message,
                body_streamed: self.body_streamed,
            };
        }
        let cause = failure.unwrap_or_else(|| "provider channel closed without final".into());
        if let Some(message) = self.cut_off(&cause) {
            return ProviderTurn {
                message,
                body_streamed: self.body_streamed,
            };
        }
        let mut message = AssistantMessage::synthetic(StopReason::Error, Some(&cause), session.cx.now_ms());
        message.provider.clone_from(&self.frame.provider);
        message.model.clone_from(&self.frame.model);
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

    /// What was streamed before the provider died, marked as failed. Calls are left out: they are not complete.
    fn cut_off(&self, cause: &str) -> Option<AssistantMessage> {
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
        message
            .content
            .retain(|block| !matches!(block, ContentBlock::FunctionCall { .. }));
        message.stop_reason = StopReason::Error;
        message.error_message = Some(cause.to_owned());
        message.error_kind = Some(ErrorKind::Transient);
        Some(message)
    }
}

fn raw(message: AssistantMessage) -> RawMessage {
    RawMessage::from(&AgentMessage::Assistant(message))
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The text of a failed provider call, without the wrappings of other runtimes.
fn cause_of(error: &Error) -> String {
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
