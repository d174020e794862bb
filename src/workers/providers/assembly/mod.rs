//! The message while it streams: one buffer per block, and the events that tell how it grows.
//!
//! Decoders say what arrived (`text`, `thinking`, `call…`); which `*_start` and `*_end` events follow from
//! that is decided here, so every provider emits the same symmetric set (contract 08 §1.5). Appending is all that a
//! delta costs: the message is built once at the end, and a snapshot only for readers that need one.

mod block;
mod message;

use std::collections::BTreeMap;

use block::{Block, Kind};

use super::price::Price;
use crate::model::{AssistantEvent, AssistantMessage, Usage};

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
    price: Option<Price>,
    content_bytes: usize,
    events: Vec<AssistantEvent>,
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
            usage: nothing_used(),
            price: None,
            content_bytes: 0,
            events: Vec::new(),
        }
    }

    /// The model that is really asked.
    pub(super) fn set_model(&mut self, id: &str) {
        id.clone_into(&mut self.head.model);
    }

    /// What the tokens of this turn cost.
    pub(super) fn set_price(&mut self, price: Option<Price>) {
        self.price = price;
    }

    /// Tells that text began, once.
    pub(super) fn text_begins(&mut self, key: Key) {
        self.begin(key, Kind::Text);
    }

    /// Tells that reasoning began, once.
    pub(super) fn thinking_begins(&mut self, key: Key) {
        self.begin(key, Kind::Thinking);
    }

    /// The proof that reasoning is the provider's own, carried back unchanged.
    pub(super) fn sign(&mut self, key: Key, signature: &str) {
        if let Some(block) = self.blocks.get_mut(&key) {
            signature.clone_into(&mut block.signature);
        }
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

    /// New counters; told only when they differ. Their cost follows from the price.
    pub(super) fn set_usage(&mut self, change: impl FnOnce(&mut Usage)) {
        let before = self.usage.clone();
        change(&mut self.usage);
        self.usage.cost_usd = self.price.as_ref().map(|price| price.of(&self.usage));
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
        self.usage = nothing_used();
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

    /// Tells that a block is whole, once.
    pub(super) fn end(&mut self, key: Key) {
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

/// Counters of a turn that was told none.
fn nothing_used() -> Usage {
    Usage {
        input: Some(0),
        output: Some(0),
        cache_read: Some(0),
        cache_write: Some(0),
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests;
