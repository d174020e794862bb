//! The message while it streams: one buffer per block, and the events that tell how it grows.
//!
//! Decoders say what arrived (`text`, `thinking`, `call…`); which `*_start` and `*_end` events follow from
//! that is decided here, so every provider emits the same symmetric set (contract 08 §1.5). Appending is all that a
//! delta costs: the message is built once at the end, and a snapshot only for readers that need one.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

use super::failure::Failure;
use crate::model::{AssistantEvent, AssistantMessage, ContentBlock, StopReason, Usage};

/// Place of a block in the finished message, lowest first.
pub(super) type Key = (u32, u32);

/// A message under way.
#[derive(Debug)]
pub(super) struct Assembly {
    /// Empty message with provider, model and time.
    head: AssistantMessage,
    /// Part of ids made for calls that came without one.
    nonce: String,
    blocks: BTreeMap<Key, Block>,
    open: Option<Key>,
    usage: Usage,
    content_bytes: usize,
    events: Vec<AssistantEvent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Call,
}

/// A block under way. Of `id` and `name` only calls make use, of `signature` only reasoning.
#[derive(Debug)]
pub(super) struct Block {
    kind: Kind,
    /// Text, reasoning, or the JSON text of a call's arguments, so far.
    pub(super) text: String,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) signature: String,
    started: bool,
    ended: bool,
}

impl Block {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            text: String::new(),
            id: String::new(),
            name: String::new(),
            signature: String::new(),
            started: false,
            ended: false,
        }
    }

    /// Whether the text is a whole JSON value.
    pub(super) fn is_complete(&self) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(&self.text).is_ok()
    }

    /// Nothing stands for `{}`; text that is no JSON for `null`.
    fn arguments(&self) -> Value {
        match self.text.trim() {
            "" | "null" => Value::Object(Map::new()),
            text => serde_json::from_str(text).unwrap_or(Value::Null),
        }
    }
}

impl Assembly {
    /// `nonce` is a fresh id; ids of calls are made from it.
    pub(super) fn new(provider: &str, model: &str, now_ms: i64, nonce: &str) -> Self {
        Self {
            head: AssistantMessage::empty(provider, model, now_ms),
            nonce: nonce
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .take(24)
                .collect(),
            blocks: BTreeMap::new(),
            open: None,
            usage: Usage {
                input: Some(0),
                output: Some(0),
                cache_read: Some(0),
                cache_write: Some(0),
                ..Usage::default()
            },
            content_bytes: 0,
            events: Vec::new(),
        }
    }

    /// The model that is really asked.
    pub(super) fn set_model(&mut self, id: &str) {
        id.clone_into(&mut self.head.model);
    }

    /// Answer text.
    pub(super) fn text(&mut self, key: Key, delta: &str) {
        self.append(key, Kind::Text, delta);
    }

    /// Reasoning.
    pub(super) fn thinking(&mut self, key: Key, delta: &str) {
        self.append(key, Kind::Thinking, delta);
    }

    /// A piece of a call's argument text; an empty one is told as well.
    pub(super) fn call_arguments(&mut self, key: Key, delta: &str) {
        self.append(key, Kind::Call, delta);
    }

    /// The call at a place, made when it is new; it tells nothing yet.
    pub(super) fn call(&mut self, key: Key) -> &mut Block {
        self.blocks.entry(key).or_insert_with(|| Block::new(Kind::Call))
    }

    /// Tells that a call began, once.
    pub(super) fn call_begins(&mut self, key: Key) {
        self.begin(key, Kind::Call);
    }

    /// New counters; told only when they differ.
    pub(super) fn set_usage(&mut self, change: impl FnOnce(&mut Usage)) {
        let before = self.usage.clone();
        change(&mut self.usage);
        if self.usage != before {
            self.events.push(AssistantEvent::Usage {
                usage: self.usage.clone(),
            });
        }
    }

    /// Counters so far.
    pub(super) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Whether anything of the answer arrived.
    pub(super) fn has_content(&self) -> bool {
        self.blocks.values().any(|block| block.started)
    }

    /// Bytes of content so far.
    pub(super) fn content_bytes(&self) -> usize {
        self.content_bytes
    }

    /// Back to the beginning, for another attempt.
    pub(super) fn reset(&mut self) {
        self.blocks.clear();
        self.open = None;
        self.content_bytes = 0;
        self.events.clear();
    }

    /// What happened since the last time, without the message so far.
    pub(super) fn take_events(&mut self) -> Vec<AssistantEvent> {
        std::mem::take(&mut self.events)
    }

    /// Ends every block that is still open.
    pub(super) fn close(&mut self) {
        let keys: Vec<_> = self.blocks.keys().copied().collect();
        for key in keys {
            self.end(key);
        }
        self.open = None;
    }

    /// The message so far.
    pub(super) fn snapshot(&self) -> AssistantMessage {
        let mut message = self.head.clone();
        message.content = self.content(|_| true);
        message.usage = self.has_content().then(|| self.usage.clone());
        message
    }

    /// The finished message. Calls and the stop reason agree in it, whatever the server said (contract 08 §6.3).
    pub(super) fn done(&self, reason: StopReason) -> AssistantMessage {
        let mut message = self.head.clone();
        message.content = self.content(|_| true);
        let has_calls = message.calls().next().is_some();
        message.stop_reason = match reason {
            StopReason::End if has_calls => StopReason::FunctionCall,
            StopReason::FunctionCall if !has_calls => StopReason::End,
            StopReason::Length => {
                unfinished_call_is_no_call_without_arguments(&mut message, &self.blocks);
                reason
            }
            StopReason::End | StopReason::FunctionCall | StopReason::Aborted | StopReason::Error => reason,
        };
        message.usage = Some(self.usage.clone());
        message
    }

    /// The message of a turn that failed or was stopped: what was streamed, but no call that is cut.
    pub(super) fn failed(&self, reason: StopReason, failure: &Failure) -> AssistantMessage {
        let mut message = self.snapshot();
        message.content = self.content(Block::is_complete);
        message.stop_reason = reason;
        message.error_message = Some(failure.message.clone());
        message.error_kind = Some(failure.kind);
        message
    }

    fn content(&self, keep: impl Fn(&Block) -> bool) -> Vec<ContentBlock> {
        let mut ids = HashSet::new();
        let blocks = self.blocks.iter().filter_map(|(key, block)| match block.kind {
            Kind::Text => (!block.text.is_empty()).then(|| ContentBlock::text(block.text.clone())),
            Kind::Thinking => Some(ContentBlock::Thinking {
                text: block.text.clone(),
                signature: (!block.signature.is_empty()).then(|| block.signature.clone()),
            }),
            Kind::Call if !block.name.is_empty() && keep(block) => {
                let given = !block.id.is_empty() && ids.insert(block.id.clone());
                let id = if given {
                    block.id.clone()
                } else {
                    self.made_id(*key)
                };
                Some(ContentBlock::FunctionCall {
                    id: id.into(),
                    function_id: block.name.as_str().into(),
                    arguments: block.arguments(),
                })
            }
            Kind::Call => None,
        });
        blocks.collect()
    }

    fn made_id(&self, (place, order): Key) -> String {
        format!("call_{}_{place}_{order}", self.nonce)
    }

    fn append(&mut self, key: Key, kind: Kind, delta: &str) {
        self.begin(key, kind);
        if let Some(block) = self.blocks.get_mut(&key) {
            block.text.push_str(delta);
        }
        self.content_bytes += delta.len();
        let (partial, delta) = (None, delta.to_owned());
        self.events.push(match kind {
            Kind::Text => AssistantEvent::TextDelta { partial, delta },
            Kind::Thinking => AssistantEvent::ThinkingDelta { partial, delta },
            Kind::Call => AssistantEvent::FunctioncallDelta { partial, delta },
        });
    }

    /// Makes a block when it is new, tells its start once, and the end of the one that was open before.
    fn begin(&mut self, key: Key, kind: Kind) {
        if self.open != Some(key)
            && let Some(before) = self.open.replace(key)
        {
            self.end(before);
        }
        let block = self.blocks.entry(key).or_insert_with(|| Block::new(kind));
        if block.started {
            return;
        }
        block.started = true;
        let partial = None;
        self.events.push(match block.kind {
            Kind::Text => AssistantEvent::TextStart { partial },
            Kind::Thinking => AssistantEvent::ThinkingStart { partial },
            Kind::Call => AssistantEvent::FunctioncallStart { partial },
        });
    }

    fn end(&mut self, key: Key) {
        let Some(block) = self
            .blocks
            .get_mut(&key)
            .filter(|block| block.started && !block.ended)
        else {
            return;
        };
        block.ended = true;
        let partial = None;
        self.events.push(match block.kind {
            Kind::Text => AssistantEvent::TextEnd { partial },
            Kind::Thinking => AssistantEvent::ThinkingEnd { partial },
            Kind::Call => AssistantEvent::FunctioncallEnd { partial },
        });
    }
}

/// A message cut by the output limit right after the name of a call: that call has no `{}`, it has nothing.
fn unfinished_call_is_no_call_without_arguments(
    message: &mut AssistantMessage,
    blocks: &BTreeMap<Key, Block>,
) {
    let cut = blocks.values().next_back().is_some_and(|block| {
        block.kind == Kind::Call && block.text.trim().is_empty() && !block.name.is_empty()
    });
    if let Some(ContentBlock::FunctionCall { arguments, .. }) = message.content.last_mut().filter(|_| cut) {
        *arguments = Value::Null;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn assembly() -> Assembly {
        Assembly::new("openai", "m", 7, "00000000-0000-4000-8000-000000000001")
    }

    fn kinds(assembly: &mut Assembly) -> Vec<String> {
        let events = assembly.take_events();
        events
            .iter()
            .map(|event| {
                serde_json::to_value(event).unwrap()["type"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    }

    fn call(assembly: &mut Assembly, key: Key, id: &str, name: &str, arguments: &str) {
        let call = assembly.call(key);
        call.id = id.into();
        call.name = name.into();
        assembly.call_arguments(key, arguments);
    }

    #[test]
    fn blocks_start_and_end_once_in_order_and_land_in_place() {
        let mut a = assembly();
        a.thinking((0, 0), "hm");
        a.text((1, 0), "Hel");
        a.text((1, 0), "lo");
        call(&mut a, (2, 0), "c1", "f", "{}");
        a.thinking((0, 0), "late");
        a.close();
        a.close();
        assert_eq!(
            kinds(&mut a),
            [
                "thinking_start",
                "thinking_delta",
                "thinking_end",
                "text_start",
                "text_delta",
                "text_delta",
                "text_end",
                "functioncall_start",
                "functioncall_delta",
                "functioncall_end",
                "thinking_delta"
            ]
        );
        let message = serde_json::to_value(a.done(StopReason::End)).unwrap();
        assert_eq!(
            message["content"],
            json!([
                {"type": "thinking", "text": "hmlate"},
                {"type": "text", "text": "Hello"},
                {"type": "function_call", "id": "c1", "function_id": "f", "arguments": {}}
            ])
        );
        assert_eq!(message["stop_reason"], "function_call");
    }

    #[test]
    fn v2_missing_and_repeated_ids_become_unique() {
        let mut a = assembly();
        call(&mut a, (2, 0), "", "f", "");
        call(&mut a, (3, 0), "x", "f", "null");
        call(&mut a, (4, 0), "x", "f", "[1");
        call(&mut a, (5, 0), "y", "", "{}");
        let message = a.done(StopReason::FunctionCall);
        let calls: Vec<_> = message
            .calls()
            .map(|(id, _, args)| (id.as_str(), args.clone()))
            .collect();
        assert_eq!(
            calls,
            [
                ("call_000000000000400080000000_2_0", json!({})),
                ("x", json!({})),
                ("call_000000000000400080000000_4_0", Value::Null)
            ]
        );
    }

    #[test]
    fn v3_a_call_cut_by_the_output_limit_has_no_arguments() {
        for (arguments, expected) in [
            ("", Value::Null),
            ("{\"a\":", Value::Null),
            ("{\"a\":1}", json!({"a": 1})),
        ] {
            let mut a = assembly();
            call(&mut a, (2, 0), "c", "f", arguments);
            let message = a.done(StopReason::Length);
            assert_eq!(message.stop_reason, StopReason::Length);
            assert_eq!(message.calls().next().unwrap().2, &expected);
        }
    }

    #[test]
    fn a_failed_message_keeps_its_text_but_no_cut_call() {
        let mut a = assembly();
        assert_eq!(a.snapshot().usage, None);
        a.text((1, 0), "so far");
        call(&mut a, (2, 0), "c1", "f", "{\"a\":1}");
        call(&mut a, (3, 0), "c2", "f", "{\"a\":");
        call(&mut a, (4, 0), "c3", "f", "");
        let failure = Failure::transient("gone");
        let message = a.failed(StopReason::Error, &failure);
        assert_eq!(message.content.len(), 2);
        assert_eq!(
            message.calls().map(|call| call.0.as_str()).collect::<Vec<_>>(),
            ["c1"]
        );
        assert_eq!(message.error_message.as_deref(), Some("gone"));
        assert_eq!(message.error_kind, Some(ErrorKind::Transient));
        assert_eq!(message.usage, Some(a.usage().clone()));
    }

    #[test]
    fn no_calls_means_no_function_call_stop() {
        let a = assembly();
        assert_eq!(a.done(StopReason::FunctionCall).stop_reason, StopReason::End);
        assert_eq!(a.done(StopReason::End).usage.unwrap().input, Some(0));
    }
}
