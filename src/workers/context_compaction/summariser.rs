//! Asks a model for a summary (contract 10 §7.5 to §7.9).

use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;

use super::failure::Failure;
use super::prompt::{self, Space};
use crate::bus::{CallOptions, Cx, Frame, provider};
use crate::model::api::compaction::CompactModel;
use crate::model::api::provider::{Stream, StreamRequest};
use crate::model::message::UserRole;
use crate::model::route::Route;
use crate::model::{
    AgentMessage, AssistantEvent, AssistantMessage, ContentBlock, RawMessage, Usage, UserMessage,
};

const CALL: Duration = Duration::from_mins(2);
/// A provider that has returned has sent everything; what is on its way gets so long to arrive.
const GRACE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(250);

/// What a model is asked for.
#[derive(Debug)]
pub(super) struct Question<'a> {
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
    let function = provider::stream_of(&provider);
    let (writer_ref, mut reader) = provider::open_channel(bus, context, &function, true)
        .await
        .map_err(|error| Failure::of(format!("create_channel failed: {error}")))?;
    let request = StreamRequest {
        writer_ref,
        model: model.id.clone(),
        messages: vec![user(text, cx.now_ms())],
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
            frame = reader.next() => match frame.map(terminal) {
                Some(None) => {}
                Some(Some(outcome)) => return outcome.map(|message| summary(&message, &provider)),
                None if grace.is_some() => return Err(no_end()),
                // Closed; the call says why.
                None => return Err(call.await.err().map_or_else(no_end, |error| Failure::of(error.to_string()))),
            },
            outcome = &mut call, if grace.is_none() => match outcome {
                Ok(_) => grace = Some(Instant::now() + GRACE),
                Err(error) => return Err(Failure::of(error.to_string())),
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

/// What a frame says when it is the last one. What cannot be read is skipped.
fn terminal(frame: Frame) -> Option<Result<AssistantMessage, Failure>> {
    let event = match frame {
        Frame::Event(event) => event,
        Frame::Text(text) => serde_json::from_str(&text).ok()?,
        Frame::Binary(_) => return None,
    };
    let message = event.terminal()?.as_ref().clone();
    Some(if matches!(event, AssistantEvent::Error { .. }) {
        Err(stream_error(&message))
    } else {
        Ok(message)
    })
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
