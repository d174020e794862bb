//! Asks a model for a summary (contract 10 §7.5 to §7.9), which is paid for like any other call of a run (contract 07 §4).

use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;

use super::failure::Failure;
use super::prompt::{self, Space};
use crate::bus::billing::{self, Bill, Call, Owed, Verdict};
use crate::bus::{CallOptions, Cx, Frame, provider};
use crate::model::api::compaction::CompactModel;
use crate::model::api::provider::{Stream, StreamRequest};
use crate::model::message::UserRole;
use crate::model::route::Route;
use crate::model::{
    AgentMessage, AssistantEvent, AssistantMessage, ContentBlock, RawMessage, SessionId, StopReason, Usage,
    Usd, UserMessage, spend, tokens,
};

const CALL: Duration = Duration::from_mins(2);
/// A provider that has returned has sent everything; what is on its way gets so long to arrive.
const GRACE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(250);
/// Attempts to record a cost.
const PAYMENTS: u32 = 5;

/// What a model is asked for.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) session: &'a SessionId,
    /// Who pays, if anybody does.
    pub(super) budget_id: Option<&'a str>,
    pub(super) model: &'a CompactModel,
    pub(super) space: Space,
    /// The summary so far.
    pub(super) previous: Option<&'a str>,
    /// What came after it.
    pub(super) head: &'a [&'a RawMessage],
    pub(super) output_chars: usize,
}

/// A model's answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Summary {
    pub(super) text: String,
    /// Provider that was asked.
    pub(super) provider: String,
    pub(super) usage: Option<Usage>,
}

/// Asks, and once more when that may help.
pub(super) async fn ask<S: Send + Sync>(cx: &Cx<S>, question: &Question<'_>) -> Result<Summary, Failure> {
    let system = prompt::system(question.previous, question.space.bytes);
    let left = question.space.bytes.saturating_sub(system.len());
    let text = prompt::conversation(question.head, question.output_chars, left);
    match attempt(cx, question, &system, &text).await {
        Err(failure) if !failure.is_final => {
            tracing::warn!(error = failure.message, "summary failed, asked once more");
            tokio::time::sleep(PAUSE).await;
            attempt(cx, question, &system, &text).await
        }
        outcome => outcome,
    }
}

async fn attempt<S: Send + Sync>(
    cx: &Cx<S>,
    question: &Question<'_>,
    system: &str,
    text: &str,
) -> Result<Summary, Failure> {
    let (bus, context, model) = (cx.bus(), cx.context(), question.model);
    let known = provider::known(bus, context, &model.provider_id).await;
    let route = provider::route(bus, &model.provider_id, &model.id, known);
    let provider = match route.map_err(|error| Failure::of(error.to_string()))? {
        Route::Provider(id) => id,
        Route::Unknown(name) => return Err(Failure::finally(format!("unknown provider: {name}"))),
    };
    let request = user(text, cx.now_ms());
    let input = tokens::of_text([system]) + tokens::estimate([&request]);
    let bill = open(cx, question, &provider, input).await?;
    let mut heard = Heard::default();
    let exchange = exchange(cx, question, &provider, (system, request), &mut heard);
    let outcome = billing::held(cx, bill.as_ref(), exchange).await;
    if let Some(bill) = bill {
        pay(cx, bill.owed(heard.usage(input).as_ref())).await?;
    }
    outcome.map(|message| summary(&message, &provider))
}

/// Sets the worst case aside, if anybody pays.
async fn open<S: Send + Sync>(
    cx: &Cx<S>,
    question: &Question<'_>,
    provider: &str,
    input: u64,
) -> Result<Option<Bill>, Failure> {
    let Some(budget_id) = question.budget_id else {
        return Ok(None);
    };
    let model = billing::catalog_record(cx, provider, &question.model.id).await;
    let call = Call {
        budget_id,
        session: question.session,
        name: &format!("summary/{}", cx.uuid()),
        provider,
        model: &model,
        input,
        output: question.space.answer,
        at_least: Usd::ZERO,
    };
    match billing::open(cx, call).await {
        Verdict::Go(bill) => Ok(Some(bill)),
        Verdict::Stop(why) => Err(Failure::refused(why)),
    }
}

/// Records what the attempt cost; a summary that cannot be paid for is not used.
async fn pay<S: Send + Sync>(cx: &Cx<S>, owed: Owed) -> Result<(), Failure> {
    let mut left = PAYMENTS;
    loop {
        left -= 1;
        match billing::pay(cx, owed.clone()).await {
            Err(error) if left == 0 => return Err(Failure::finally(error.to_string())),
            Err(_) => tokio::time::sleep(PAUSE).await,
            Ok(()) => return Ok(()),
        }
    }
}

/// What came of an attempt, whatever its end.
#[derive(Default)]
struct Heard {
    /// Characters that came.
    streamed: usize,
    usage: Option<Usage>,
    last: Option<AssistantMessage>,
}

impl Heard {
    /// What a frame says when it is the last one. What cannot be read is skipped.
    fn take(&mut self, frame: Frame) -> Option<Result<AssistantMessage, Failure>> {
        let event = match frame {
            Frame::Event(event) => event,
            Frame::Text(text) => serde_json::from_str(&text).ok()?,
            Frame::Binary(_) => return None,
        };
        self.streamed += event.delta().map_or(0, |(_, delta)| delta.chars().count());
        if let AssistantEvent::Usage { usage } = &event {
            self.usage = Some(usage.clone());
        }
        let message = event.terminal()?.as_ref().clone();
        self.last = Some(message.clone());
        Some(if matches!(event, AssistantEvent::Error { .. }) {
            Err(stream_error(&message))
        } else {
            Ok(message)
        })
    }

    /// The tokens of the call: as they were counted last, else by what came.
    fn usage(self, input: u64) -> Option<Usage> {
        let cut = || AssistantMessage::synthetic(StopReason::Error, None, 0);
        let mut message = self.last.unwrap_or_else(cut);
        message.usage = message.usage.or(self.usage);
        spend::usage_of(&message, input, self.streamed)
    }
}

/// Asks once and reads to the end.
async fn exchange<S: Send + Sync>(
    cx: &Cx<S>,
    question: &Question<'_>,
    provider: &str,
    (system, message): (&str, RawMessage),
    heard: &mut Heard,
) -> Result<AssistantMessage, Failure> {
    let (bus, context) = (cx.bus(), cx.context());
    let function = provider::stream_of(provider);
    let (writer_ref, mut reader) = provider::open_channel(bus, context, &function, true)
        .await
        .map_err(|error| Failure::of(format!("create_channel failed: {error}")))?;
    let request = StreamRequest {
        writer_ref,
        model: question.model.id.clone(),
        messages: vec![message],
        system_prompt: Some(system.to_owned()),
        tools: Vec::new(),
        thinking_level: None,
        max_output_tokens: question.space.answer,
        model_meta: None,
        resolution_key: None,
    };
    let options = CallOptions {
        timeout: Some(CALL),
        cancel: Some(cx.shutdown_token().clone()),
        ..CallOptions::default()
    };
    let mut call = bus
        .call_named::<Stream>(context, &function, request, options)
        .boxed();
    let mut grace = None;
    loop {
        tokio::select! {
            biased;
            frame = reader.next() => match frame.map(|frame| heard.take(frame)) {
                Some(None) => {}
                Some(Some(outcome)) => return outcome,
                None if grace.is_some() => return Err(no_end()),
                // Closed; the call says why.
                None => return Err(call.await.err().map_or_else(no_end, |error| Failure::of(error.to_string()))),
            },
            outcome = &mut call, if grace.is_none() => match outcome {
                Ok(_) => grace = Some(Instant::now() + GRACE),
                Err(error) => {
                    // What it sent before it failed may not be read yet.
                    while let Some(Some(frame)) = reader.next().now_or_never() {
                        if let Some(outcome) = heard.take(frame) {
                            return outcome;
                        }
                    }
                    return Err(Failure::of(error.to_string()));
                }
            },
            () = tokio::time::sleep_until(grace.unwrap_or_else(Instant::now)), if grace.is_some() => return Err(no_end()),
            () = cx.shutdown_token().cancelled() => return Err(Failure::finally("the process is stopping")),
        }
    }
}

fn user(text: &str, timestamp: i64) -> RawMessage {
    RawMessage::from(&AgentMessage::User(UserMessage {
        role: UserRole::Role,
        content: vec![ContentBlock::text(text)],
        timestamp,
    }))
}

fn stream_error(message: &AssistantMessage) -> Failure {
    let mut texts = message.content.iter().filter_map(ContentBlock::as_text);
    let cause = message.error_message.as_deref().or_else(|| texts.next());
    Failure::of(format!(
        "summariser stream error: {}",
        cause.unwrap_or("unknown provider error")
    ))
}

fn no_end() -> Failure {
    Failure::of("summariser stream returned without a terminal event")
}

fn summary(message: &AssistantMessage, provider: &str) -> Summary {
    let texts: Vec<&str> = message.content.iter().filter_map(ContentBlock::as_text).collect();
    Summary {
        text: texts.join("\n"),
        provider: provider.to_owned(),
        usage: message.usage.clone(),
    }
}
