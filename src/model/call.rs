//! Function calls of a model and their results (contract 01 §3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::key::{CallId, FunctionId};
use super::message::ContentBlock;

/// How calls of one function may be scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionMode {
    /// Beside others.
    Parallel,
    /// Alone.
    Sequential,
}

/// Tool descriptor given to providers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentFunction {
    /// Name the model uses.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of the arguments.
    #[serde(default = "empty_object")]
    pub parameters: Value,
    /// Short label for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Scheduling hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_mode: Option<ExecutionMode>,
    /// Kept for older clients; always false for ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare_arguments_supported: Option<bool>,
}

fn empty_object() -> Value {
    Value::Object(Map::new())
}

/// One call of a function on the bus, already unwrapped from `agent_trigger`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionCall {
    /// Id the model gave, unique within the message.
    pub id: CallId,
    /// Target function.
    pub function_id: FunctionId,
    /// Payload for the target, any JSON.
    pub arguments: Value,
}

/// What a call produced, as the model and the UI see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionResult {
    /// Blocks shown to the model.
    pub content: Vec<ContentBlock>,
    /// Structured reply of the target.
    #[serde(default)]
    pub details: Value,
    /// The run ends early only when every result of a batch says true.
    #[serde(default)]
    pub terminate: bool,
}

impl FunctionResult {
    /// Wraps what a function returned.
    pub fn from_value(value: Value) -> Self {
        let Value::Object(mut object) = value else {
            return Self::from_plain(value);
        };
        if !object.get("content").is_some_and(Value::is_array) {
            return Self::from_plain(Value::Object(object));
        }
        let terminate = object.get("terminate").and_then(Value::as_bool).unwrap_or(false);
        let details = match object.remove("details") {
            None | Some(Value::Null) => empty_object(),
            Some(details) => details,
        };
        let content = match object.remove("content") {
            Some(Value::Array(blocks)) => blocks.into_iter().map(ContentBlock::from_value).collect(),
            _ => Vec::new(),
        };
        Self {
            content,
            details,
            terminate,
        }
    }

    fn from_plain(value: Value) -> Self {
        let text = match &value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Self {
            content: vec![ContentBlock::text(text)],
            details: value,
            terminate: false,
        }
    }

    /// An error result whose text is the compact JSON of its details.
    pub fn error(details: Value) -> Self {
        Self {
            content: vec![ContentBlock::text(details.to_string())],
            details,
            terminate: false,
        }
    }

    /// An error result `{error: code, function, message}`.
    pub fn error_code(code: &str, function: &str, message: impl Into<String>) -> Self {
        Self::error(json!({ "error": code, "function": function, "message": message.into() }))
    }

    /// True iff the details carry a string `error` or say `status: "denied"`.
    pub fn is_error(&self) -> bool {
        self.details.get("error").is_some_and(Value::is_string) || is_denied(&self.details)
    }
}

/// Whether `details` describe a denial.
pub fn is_denied(details: &Value) -> bool {
    details.get("status").and_then(Value::as_str) == Some("denied")
}

/// The text form of a result for providers: all text blocks joined by a newline, and for denials a marker with the
/// details in front, so that a model tells "not allowed" from "failed".
pub fn flat_text(content: &[ContentBlock], details: &Value) -> String {
    let body = content
        .iter()
        .filter_map(ContentBlock::as_text)
        .collect::<Vec<_>>()
        .join("\n");
    if is_denied(details) {
        format!("[PERMISSION_DENIED]\n{details}\n\n{body}")
    } else {
        body
    }
}

/// The block form of a result for providers that take structured results: the flat text if there is any, then every
/// image in its original order.
pub fn block_form(content: &[ContentBlock], details: &Value) -> Vec<ContentBlock> {
    let text = flat_text(content, details);
    let images = content
        .iter()
        .filter(|block| matches!(block, ContentBlock::Image { .. }))
        .cloned();
    (!text.is_empty())
        .then(|| ContentBlock::text(text))
        .into_iter()
        .chain(images)
        .collect()
}
