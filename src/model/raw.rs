//! A transcript message as JSON, shared and never rebuilt (contract 06 §1.2).

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::message::AgentMessage;
use super::text::clip;

/// A message as it is stored and passed on: the JSON object itself, shared, never rebuilt.
///
/// [`RawMessage::new`] checks it (contract 06 §4.3 (c)): an object with a known `role` and an array `content`; a string
/// `content` becomes one text block.
#[derive(Debug, Clone, PartialEq)]
pub struct RawMessage(Arc<Map<String, Value>>);

impl RawMessage {
    /// Checks a message.
    ///
    /// # Errors
    /// The reason, fit to follow `invalid message: `.
    pub fn new(value: Value) -> Result<Self, String> {
        let Value::Object(mut object) = value else {
            return Err("not an object".into());
        };
        match object.get("role").and_then(Value::as_str) {
            Some("user" | "assistant" | "function_result" | "custom") => {}
            Some(role) => return Err(format!("unknown role `{}`", clip(role, 32))),
            None => return Err("`role` is missing".into()),
        }
        match object.get_mut("content") {
            Some(Value::Array(_)) => {}
            Some(content @ Value::String(_)) => {
                let text = content.take();
                *content = serde_json::json!([{ "type": "text", "text": text }]);
            }
            Some(_) => return Err("`content` is neither an array nor a string".into()),
            None => return Err("`content` is missing".into()),
        }
        Ok(Self(Arc::new(object)))
    }

    /// A message that is already in the store: taken as it is when it is an object at all.
    pub fn stored(value: Value) -> Option<Self> {
        if let Value::Object(object) = value {
            Some(Self(Arc::new(object)))
        } else {
            None
        }
    }

    /// The object.
    pub fn object(&self) -> &Map<String, Value> {
        &self.0
    }

    /// `user`, `assistant`, `function_result` or `custom`; empty for foreign stored data.
    pub fn role(&self) -> &str {
        self.0.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// A member as text.
    pub fn text_member(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }

    /// The texts of all text blocks.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let blocks = self
            .0
            .get("content")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        blocks.iter().filter_map(|block| {
            (block.get("type")?.as_str()? == "text")
                .then(|| block.get("text")?.as_str())
                .flatten()
        })
    }

    /// The typed form, when the message fits one.
    pub fn typed(&self) -> Option<AgentMessage> {
        AgentMessage::deserialize(Value::Object(self.0.as_ref().clone())).ok()
    }

    /// Sets `timestamp` when it is missing.
    #[must_use]
    pub fn with_timestamp(mut self, now_ms: i64) -> Self {
        if !self.0.contains_key("timestamp") {
            Arc::make_mut(&mut self.0).insert("timestamp".into(), now_ms.into());
        }
        self
    }

    /// The object as a JSON value.
    pub fn to_value(&self) -> Value {
        Value::Object(self.0.as_ref().clone())
    }
}

impl From<&AgentMessage> for RawMessage {
    fn from(message: &AgentMessage) -> Self {
        match serde_json::to_value(message) {
            Ok(Value::Object(object)) => Self(Arc::new(object)),
            // A derived serialiser of a struct with string keys yields an object; kept total instead of a panic.
            Ok(_) | Err(_) => Self(Arc::new(Map::new())),
        }
    }
}

impl Serialize for RawMessage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::new(value).map_err(|why| serde::de::Error::custom(format!("invalid message: {why}")))
    }
}

impl JsonSchema for RawMessage {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AgentMessage".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        AgentMessage::json_schema(generator)
    }
}
