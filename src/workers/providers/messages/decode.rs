//! Events of a Messages stream → the message (contract 08 §5.6; field lesson V6).

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::REDACTED;
use crate::model::{ErrorKind, StopReason, Usage};
use crate::workers::providers::assembly::{Assembly, Key};
use crate::workers::providers::failure::Failure;
use crate::workers::providers::json;
use crate::workers::providers::names::Names;
use crate::workers::providers::overflow::kind_of_text;
use crate::workers::providers::protocol::{Decode, Step};
use crate::workers::providers::sse::Frame;

/// More blocks than any answer has.
const MAX_BLOCKS: u32 = 4096;

/// State of one stream.
#[derive(Debug)]
pub(super) struct Decoder {
    names: Arc<Names>,
    /// Blocks so far: their place in the message is the order in which they began.
    begun: u32,
    /// By the index of the wire.
    blocks: HashMap<u64, Block>,
    /// For deltas that name no index.
    last_index: u64,
    events: u64,
    stopped: bool,
    finish: Option<Finish>,
}

/// A block of the wire.
#[derive(Debug)]
enum Block {
    Text(Key),
    Thinking(Key),
    /// A call, and its arguments when they came whole at the start.
    Call(Key, Option<String>),
    /// Nothing we know, like the calls of upstream's own tools.
    Other,
}

/// Why the model stopped.
#[derive(Debug)]
enum Finish {
    Stop(StopReason),
    /// It refused; its reason.
    Refusal(Option<String>),
}

impl Decoder {
    pub(super) fn new(names: Arc<Names>) -> Self {
        Self {
            names,
            begun: 0,
            blocks: HashMap::new(),
            last_index: 0,
            events: 0,
            stopped: false,
            finish: None,
        }
    }

    fn block_starts(&mut self, event: &Value, out: &mut Assembly) {
        let index = self.index(event);
        let block = event.get("content_block").unwrap_or(&Value::Null);
        let block = match text(block, "type") {
            _ if self.begun >= MAX_BLOCKS => Block::Other,
            "text" => {
                let key = self.next_key();
                out.text_begins(key);
                if let Some(said) = some_text(block, "text") {
                    out.text(key, said);
                }
                Block::Text(key)
            }
            "thinking" => {
                let key = self.next_key();
                out.thinking_begins(key);
                if let Some(thought) = some_text(block, "thinking") {
                    out.thinking(key, thought);
                }
                out.sign(key, text(block, "signature"));
                Block::Thinking(key)
            }
            "redacted_thinking" => {
                let key = self.next_key();
                out.thinking_begins(key);
                if let Some(data) = some_text(block, "data") {
                    out.sign(key, &format!("{REDACTED}{data}"));
                }
                Block::Thinking(key)
            }
            "tool_use" => {
                let key = self.next_key();
                let call = out.call(key);
                text(block, "id").clone_into(&mut call.id);
                call.name = self.name(text(block, "name"));
                out.call_begins(key);
                let input = block.get("input").and_then(Value::as_object);
                let whole = input.filter(|members| !members.is_empty());
                Block::Call(key, whole.and_then(|members| serde_json::to_string(members).ok()))
            }
            _ => Block::Other,
        };
        self.blocks.insert(index, block);
    }

    fn block_grows(&mut self, event: &Value, out: &mut Assembly) {
        let index = self.index(event);
        let delta = event.get("delta").unwrap_or(&Value::Null);
        let kind = text(delta, "type");
        // Some servers forget to tell the start.
        if !self.blocks.contains_key(&index) && self.begun < MAX_BLOCKS {
            let block = match kind {
                "text_delta" => Block::Text(self.next_key()),
                "thinking_delta" => Block::Thinking(self.next_key()),
                _ => Block::Other,
            };
            self.blocks.insert(index, block);
        }
        match (kind, self.blocks.get_mut(&index)) {
            ("text_delta", Some(Block::Text(key))) => {
                if let Some(said) = some_text(delta, "text") {
                    out.text(*key, said);
                }
            }
            ("thinking_delta", Some(Block::Thinking(key))) => {
                if let Some(thought) = some_text(delta, "thinking") {
                    out.thinking(*key, thought);
                }
            }
            ("signature_delta", Some(Block::Thinking(key))) => {
                if let Some(signature) = some_text(delta, "signature") {
                    out.sign(*key, signature);
                }
            }
            ("input_json_delta", Some(Block::Call(key, whole))) => {
                if let Some(piece) = delta.get("partial_json").and_then(Value::as_str) {
                    if !piece.is_empty() {
                        *whole = None;
                    }
                    out.call_arguments(*key, piece);
                }
            }
            _ => {}
        }
    }

    fn block_stops(&mut self, event: &Value, out: &mut Assembly) {
        let index = self.index(event);
        match self.blocks.get_mut(&index) {
            Some(Block::Text(key) | Block::Thinking(key)) => out.end(*key),
            Some(Block::Call(key, whole)) => {
                if let Some(arguments) = whole.take() {
                    out.call_arguments(*key, &arguments);
                }
                out.end(*key);
            }
            Some(Block::Other) | None => {}
        }
    }

    /// The answer of a server that does not stream: the message at once.
    fn whole(&mut self, message: &Value, out: &mut Assembly) -> Step {
        let blocks = message.get("content").and_then(Value::as_array);
        for (index, block) in blocks.into_iter().flatten().enumerate() {
            let event = json!({ "index": index, "content_block": block });
            self.block_starts(&event, out);
            self.block_stops(&event, out);
        }
        count(message.get("usage"), out);
        self.stops(message);
        self.stopped = true;
        Step::End
    }

    /// Why the model stopped, when `delta` says it.
    fn stops(&mut self, delta: &Value) {
        if let Some(reason) = some_text(delta, "stop_reason") {
            self.finish = Some(match reason {
                "max_tokens" | "model_context_window_exceeded" => Finish::Stop(StopReason::Length),
                "tool_use" => Finish::Stop(StopReason::FunctionCall),
                "refusal" => {
                    let why = delta.pointer("/stop_details/explanation").and_then(Value::as_str);
                    Finish::Refusal(why.map(str::to_owned))
                }
                _ => Finish::Stop(StopReason::End),
            });
        }
    }

    fn index(&mut self, event: &Value) -> u64 {
        if let Some(index) = event.get("index").and_then(Value::as_u64) {
            self.last_index = index;
        }
        self.last_index
    }

    fn next_key(&mut self) -> Key {
        self.begun += 1;
        (self.begun, 0)
    }

    /// A name nobody gave the model may still be ours, in the usual form (contract 08 §5.2).
    fn name(&self, form: &str) -> String {
        let original = self.names.original(form);
        original.map_or_else(|| form.replace("__", "::"), str::to_owned)
    }
}

impl Decode for Decoder {
    fn frame(&mut self, frame: &Frame, out: &mut Assembly) -> Step {
        let data = frame.data.trim();
        let event = json::parse(data).unwrap_or_default();
        let kind = text(&event, "type");
        if kind == "error" || frame.event == "error" || (kind.is_empty() && event.get("error").is_some()) {
            return Step::Failed(failure(data, &event));
        }
        if !event.is_object() {
            return Step::More;
        }
        self.events += u64::from(!kind.is_empty());
        match kind {
            "message_start" => count(event.pointer("/message/usage"), out),
            "message" => return self.whole(&event, out),
            "content_block_start" => self.block_starts(&event, out),
            "content_block_delta" => self.block_grows(&event, out),
            "content_block_stop" => self.block_stops(&event, out),
            "message_delta" => {
                count(event.get("usage"), out);
                self.stops(event.get("delta").unwrap_or(&Value::Null));
            }
            "message_stop" => {
                self.stopped = true;
                return Step::End;
            }
            _ => {}
        }
        Step::More
    }

    fn is_finished(&self) -> bool {
        self.stopped || self.finish.is_some()
    }

    fn end(&mut self, out: &Assembly) -> Result<StopReason, Failure> {
        match &self.finish {
            Some(Finish::Stop(reason)) => Ok(*reason),
            Some(Finish::Refusal(why)) => {
                let text = "the model refused to answer";
                let text = match why {
                    Some(why) => format!("{text}: {why}"),
                    None => text.to_owned(),
                };
                Err(Failure::new(ErrorKind::Permanent, text))
            }
            None if self.stopped => Ok(StopReason::End),
            None => Err(Failure::unfinished(self.events, out.usage().output)),
        }
    }
}

/// What an `error` event means: its type says it, for a bad request its text (contract 08 §9).
fn failure(data: &str, event: &Value) -> Failure {
    let told = Failure::from_error_event(data);
    let kind = match text(event.get("error").unwrap_or(event), "type") {
        "overloaded_error" | "api_error" | "timeout_error" => ErrorKind::Transient,
        "rate_limit_error" => ErrorKind::RateLimited,
        "authentication_error" | "permission_error" => ErrorKind::AuthExpired,
        "request_too_large" => ErrorKind::ContextOverflow,
        "invalid_request_error" | "not_found_error" | "billing_error" => {
            kind_of_text(&told.message).unwrap_or(ErrorKind::Permanent)
        }
        _ => return told,
    };
    let told = Failure { kind, ..told };
    match kind {
        ErrorKind::Transient | ErrorKind::RateLimited => told.retryable(),
        ErrorKind::AuthExpired | ErrorKind::ContextOverflow | ErrorKind::Permanent => told,
    }
}

/// Takes over the counters an event names. They are totals, so a later one replaces an earlier one; a zero does not: it
/// is how some servers leave out what they said at the start. `input` does not hold the cached tokens.
fn count(usage: Option<&Value>, out: &mut Assembly) {
    let Some(usage) = usage else { return };
    let tokens = |key: &str| {
        let number = usage.get(key)?.as_u64();
        number.filter(|tokens| *tokens > 0)
    };
    let named = ["input_tokens", "output_tokens"]
        .iter()
        .any(|key| usage.get(*key).is_some_and(Value::is_u64));
    out.set_usage(|counters| {
        let Usage {
            input,
            output,
            cache_read,
            cache_write,
            ..
        } = counters;
        *input = tokens("input_tokens").or(*input);
        *output = tokens("output_tokens").or(*output);
        *cache_read = tokens("cache_read_input_tokens").or(*cache_read);
        *cache_write = tokens("cache_creation_input_tokens").or(*cache_write);
        if named {
            let all = [*input, *output, *cache_read, *cache_write];
            counters.total = Some(all.into_iter().flatten().fold(0, u64::saturating_add));
        }
    });
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn some_text<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    Some(text(object, key)).filter(|text| !text.is_empty())
}
