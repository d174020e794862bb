//! The events of a provider: read until the end, shown, and kept as far as they came (contract 02 §5.3, §5.4).

mod conclude;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;

use super::coalesce::Coalescer;
use super::provider_call::{self, Call};
use super::record::TurnRecord;
use super::session::Session;
use crate::bus::{Frame, provider};
use crate::model::{AgentEvent, AgentMessage, AssistantEvent, AssistantMessage, RawMessage, Usage};

/// A provider that returned must have closed its channel; one that has not is not waited for longer.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// A provider of this process that was told to stop says its last word at once, with what it has streamed and counted.
const LAST_WORD: Duration = Duration::from_millis(500);

/// What a model turn left behind.
pub(super) struct ProviderTurn {
    /// The final message, synthetic when the provider gave none.
    pub(super) message: AssistantMessage,
    /// Whether clients have rendered its body already.
    pub(super) body_streamed: bool,
}

/// How the reading of a turn ended.
pub(super) enum End {
    /// With the provider's final message.
    Complete,
    /// Without one, for this reason.
    Failed(String),
    /// The run is stopped; there may be a final message.
    Stopped,
}

/// What was read so far.
pub(super) struct Reading {
    coalescer: Coalescer,
    slim: bool,
    /// `message` of slim updates: everything but the content.
    frame: AssistantMessage,
    update: RawMessage,
    last: Option<Arc<AssistantMessage>>,
    text: String,
    thinking: String,
    /// Characters that came, of any kind.
    pub(super) streamed: usize,
    body_streamed: bool,
    /// Counted so far, for a message that is cut.
    usage: Option<Usage>,
    pub(super) outcome: Option<Arc<AssistantMessage>>,
    /// How far the answer is, also of a model that was asked before.
    pub(super) told: Told,
}

/// How far an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    Start,
    Content,
}

impl Reading {
    pub(super) fn new(session: &Session, provider: &str, model: &str) -> Self {
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
            streamed: 0,
            body_streamed: false,
            usage: None,
            outcome: None,
            told: Told::Nothing,
        }
    }

    /// Runs the provider and reads until the end.
    pub(super) async fn provider(
        &mut self,
        session: &mut Session,
        record: &mut TurnRecord,
        call: Call<'_>,
    ) -> End {
        let stop = session.stop.token();
        let (bus, context) = (session.cx.bus().clone(), session.cx.context().clone());
        let open = provider::open_channel(&bus, &context, &call.function, self.slim);
        let (writer, mut reader) = match stop.run_until_cancelled(open).await {
            Some(Ok(ends)) => ends,
            Some(Err(error)) => return End::Failed(format!("create_channel failed: {error}")),
            None => return End::Stopped,
        };
        let hears_the_stop = session.cx.bus().hosts(&call.function);
        let mut last_word = None;
        let silence = call.silence;
        let mut provider = provider_call::start(session, record, call, writer);
        let mut quiet_until = tokio::time::Instant::now() + silence;
        let mut returned = None;
        loop {
            let flush_at = self.coalescer.deadline();
            tokio::select! {
                biased;
                () = stop.cancelled(), if last_word.is_none() => {
                    if !hears_the_stop {
                        return End::Stopped;
                    }
                    last_word = Some(Instant::now() + LAST_WORD);
                }
                () = sleep_until(last_word), if last_word.is_some() => return End::Stopped,
                frame = reader.next() => match frame {
                    Some(frame) => {
                        quiet_until = tokio::time::Instant::now() + returned.as_ref().map_or(silence, |()| CLOSE_GRACE);
                        self.take(session, record, frame).await;
                        if self.outcome.is_some() {
                            return if last_word.is_some() { End::Stopped } else { End::Complete };
                        }
                    }
                    None if last_word.is_some() => return End::Stopped,
                    None if returned.is_some() => return End::Failed("provider channel closed without final".into()),
                    // Closed, but the call has not said why yet.
                    None => return match stop.run_until_cancelled(tokio::time::timeout(CLOSE_GRACE, provider)).await {
                        None => End::Stopped,
                        Some(Ok(Err(error))) => End::Failed(conclude::cause_of(&error)),
                        Some(Ok(Ok(_)) | Err(_)) => End::Failed("provider channel closed without final".into()),
                    },
                },
                result = &mut provider, if returned.is_none() => match result {
                    Ok(_) => {
                        returned = Some(());
                        quiet_until = tokio::time::Instant::now() + CLOSE_GRACE;
                    }
                    Err(_) if last_word.is_some() => return End::Stopped,
                    Err(error) => {
                        // What it sent before it failed may not be read yet.
                        while let Some(Some(frame)) = reader.next().now_or_never() {
                            self.take(session, record, frame).await;
                        }
                        return if self.outcome.is_some() { End::Complete } else { End::Failed(conclude::cause_of(&error)) };
                    }
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
                    return End::Failed(format!("provider channel {why}"));
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
        self.streamed += event.delta().map_or(0, |(_, delta)| delta.chars().count());
        match &event {
            AssistantEvent::Usage { usage } => {
                self.usage = Some(usage.clone());
                return;
            }
            AssistantEvent::Start { .. } if self.told == Told::Nothing => self.told = Told::Start,
            AssistantEvent::Start { .. } | AssistantEvent::Stop { .. } => return,
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
        if !matches!(event, AssistantEvent::Start { .. }) {
            self.told = Told::Content;
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

    /// The tokens of the call so far, as its provider counted them.
    pub(super) fn counted(&self) -> Option<&Usage> {
        let told = self.outcome.as_ref().and_then(|message| message.usage.as_ref());
        told.or(self.usage.as_ref())
    }

    /// Whether anything came of the call; the text of a failure is ours.
    pub(super) fn has_something(&self) -> bool {
        self.outcome.is_some() || self.last.is_some() || self.streamed > 0
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
