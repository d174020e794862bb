//! One block of a message under way.

use serde_json::{Map, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Thinking,
    Call,
}

/// A block under way. Of `id` and `name` only calls make use, of `signature` only reasoning.
#[derive(Debug)]
pub(in super::super) struct Block {
    pub(super) kind: Kind,
    /// Text, reasoning, or the JSON text of a call's arguments, so far.
    pub(in super::super) text: String,
    pub(in super::super) id: String,
    pub(in super::super) name: String,
    pub(in super::super) signature: String,
    pub(super) started: bool,
    pub(super) ended: bool,
}

impl Block {
    pub(super) fn new(kind: Kind) -> Self {
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
    pub(in super::super) fn is_complete(&self) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(&self.text).is_ok()
    }

    /// Nothing stands for `{}`; text that is no JSON for `null`.
    pub(super) fn arguments(&self) -> Value {
        match self.text.trim() {
            "" | "null" => Value::Object(Map::new()),
            text => serde_json::from_str(text).unwrap_or(Value::Null),
        }
    }
}
