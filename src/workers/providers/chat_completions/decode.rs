//! Chunks of a Chat Completions stream → the message (contract 08 §6.3, §6.4; field lessons V1, V2).

use std::sync::Arc;

use serde_json::Value;

use super::slots::{Fragment, Slots};
use crate::model::{StopReason, Usage};
use crate::workers::providers::assembly::{Assembly, Key};
use crate::workers::providers::failure::Failure;
use crate::workers::providers::json;
use crate::workers::providers::names::Names;
use crate::workers::providers::protocol::{Decode, Step};
use crate::workers::providers::sse::Frame;

const THINKING: Key = (0, 0);
const TEXT: Key = (1, 0);

/// State of one stream.
#[derive(Debug)]
pub(super) struct Decoder {
    names: Arc<Names>,
    slots: Slots,
    chunks: u64,
    marked_done: bool,
    finish: Option<StopReason>,
}

impl Decoder {
    pub(super) fn new(names: Arc<Names>) -> Self {
        Self {
            names,
            slots: Slots::default(),
            chunks: 0,
            marked_done: false,
            finish: None,
        }
    }

    fn choice(&mut self, choice: &Value, out: &mut Assembly) {
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish = stop_reason(reason).or(self.finish);
        }
        // A server that does not stream answers with the whole message at once.
        let Some(delta) = choice.get("delta").or_else(|| choice.get("message")) else {
            return;
        };
        if let Some(text) = first_text(delta, &["reasoning_content", "reasoning"]) {
            out.thinking(THINKING, text);
        }
        if let Some(text) = first_text(delta, &["content", "refusal"]) {
            out.text(TEXT, text);
        }
        let items = delta.get("tool_calls").and_then(Value::as_array);
        for item in items.into_iter().flatten() {
            self.call(item, out);
        }
        if let Some(item) = delta.get("function_call").filter(|item| item.is_object()) {
            self.call(item, out);
        }
    }

    fn call(&mut self, item: &Value, out: &mut Assembly) {
        let fragment = Fragment::read(item);
        let Some(key) = self.slots.place(fragment, out) else {
            return;
        };
        let call = out.call(key);
        if let Some(id) = fragment.id {
            id.clone_into(&mut call.id);
        }
        if let Some(name) = fragment.name {
            self.names.decode(name).clone_into(&mut call.name);
        }
        let is_named = !call.name.is_empty();
        let has_arguments = !call.text.is_empty();
        if is_named {
            out.call_begins(key);
        }
        match fragment.arguments {
            Value::String(delta) => out.call_arguments(key, delta),
            // Whole at once instead of as text; an empty one in front of text says nothing.
            Value::Object(members) if !members.is_empty() && !has_arguments => {
                out.call_arguments(key, &fragment.arguments.to_string());
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {}
        }
    }
}

impl Decode for Decoder {
    fn frame(&mut self, frame: &Frame, out: &mut Assembly) -> Step {
        let data = frame.data.trim();
        if data == "[DONE]" {
            self.marked_done = true;
            return Step::End;
        }
        if frame.event == "error" {
            return Step::Failed(Failure::from_error_event(data));
        }
        let Some(chunk @ Value::Object(_)) = json::parse(data) else {
            return Step::More;
        };
        self.chunks += 1;
        if let Some(failure) = Failure::from_frame(&chunk) {
            return Step::Failed(failure);
        }
        let choice = chunk.get("choices").and_then(|choices| choices.get(0));
        for holder in std::iter::once(&chunk).chain(choice) {
            if let Some(usage) = holder.get("usage") {
                out.set_usage(|counters| update(counters, usage));
            }
        }
        if let Some(choice) = choice {
            self.choice(choice, out);
        }
        Step::More
    }

    fn is_finished(&self) -> bool {
        self.finish.is_some() || self.marked_done
    }

    fn end(&mut self, out: &Assembly) -> Result<StopReason, Failure> {
        match self.finish {
            Some(reason) => Ok(reason),
            None if self.marked_done => Ok(StopReason::End),
            None => Err(Failure::unfinished(self.chunks, out.usage().output)),
        }
    }
}

fn stop_reason(reason: &str) -> Option<StopReason> {
    match reason {
        "" => None,
        "length" => Some(StopReason::Length),
        "tool_calls" | "function_call" => Some(StopReason::FunctionCall),
        _ => Some(StopReason::End),
    }
}

/// The first of several members that is a non-empty text: two fields with the same reasoning are one text.
fn first_text<'a>(delta: &'a Value, keys: &[&str]) -> Option<&'a str> {
    keys.iter()
        .filter_map(|key| delta.get(*key)?.as_str())
        .find(|text| !text.is_empty())
}

/// Takes over the counters a server names; the last value wins. `input` includes the tokens that were cached or written to the cache.
fn update(counters: &mut Usage, usage: &Value) {
    let sum = |keys: [&str; 2]| {
        let values = keys.iter().filter_map(|key| usage.pointer(key).and_then(tokens));
        values.reduce(u64::saturating_add)
    };
    let input = sum(["/prompt_tokens", "/input_tokens"]);
    let output = sum(["/completion_tokens", "/output_tokens"]);
    let cached = sum([
        "/prompt_tokens_details/cached_tokens",
        "/input_tokens_details/cached_tokens",
    ]);
    // Kimi says it beside the others.
    let cached = cached.or_else(|| usage.get("cached_tokens").and_then(tokens));
    // OpenAI bills these apart since gpt-5.6.
    let written = sum([
        "/prompt_tokens_details/cache_write_tokens",
        "/input_tokens_details/cache_write_tokens",
    ]);
    counters.input = input.or(counters.input);
    counters.output = output.or(counters.output);
    counters.cache_read = cached.or(counters.cache_read);
    counters.cache_write = written.or(counters.cache_write);
    if input.or(output).is_some() {
        counters.total = counters
            .input
            .zip(counters.output)
            .map(|(a, b)| a.saturating_add(b));
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be a whole number within range"
)]
fn tokens(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64().filter(|n| (0.0..9e15).contains(n))?;
        Some(number.floor() as u64)
    })
}
