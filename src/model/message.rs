//! Transcript messages and their content blocks (contract 01 §1, §2).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::key::{CallId, FunctionId};
use super::usage::Usage;

/// One piece of a message.
///
/// A block of an unknown or malformed kind is kept as it came in [`ContentBlock::Other`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentBlock {
    /// Plain text.
    Text {
        /// The text.
        text: String,
    },
    /// A picture.
    Image {
        /// Media type, such as `image/png`.
        mime: String,
        /// Base64 without a data-URL prefix.
        data: String,
    },
    /// A call the model asks for. In this program `function_id` is `agent_trigger` when the model got it right.
    FunctionCall {
        /// Id given by the provider.
        id: CallId,
        /// Name the model used.
        function_id: FunctionId,
        /// Arguments; `null` when the provider could not read them.
        #[serde(default)]
        arguments: Value,
    },
    /// An embedded result; transcripts use [`FunctionResultMessage`].
    FunctionResult {
        /// Id of the answered call.
        function_call_id: CallId,
        /// Blocks of the result.
        content: Vec<ContentBlock>,
        /// Whether the call failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
    },
    /// Reasoning of the model.
    Thinking {
        /// The text.
        text: String,
        /// Opaque provider data, carried back unchanged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    /// Anything else, unchanged.
    #[serde(untagged)]
    Other(Value),
}

impl ContentBlock {
    /// A text block.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    /// The text of a text block.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text { text } = self {
            Some(text)
        } else {
            None
        }
    }

    /// Reads a block; what does not fit a known kind is kept as [`ContentBlock::Other`].
    pub fn from_value(value: Value) -> Self {
        serde_json::from_value(value.clone()).unwrap_or(Self::Other(value))
    }
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It was done.
    End,
    /// It hit the output limit.
    Length,
    /// It wants functions called.
    FunctionCall,
    /// The user stopped it.
    Aborted,
    /// It failed; see `error_message`.
    Error,
}

/// What kind of failure a provider reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The credential is missing or refused.
    AuthExpired,
    /// Too many requests.
    RateLimited,
    /// The request does not fit the model's window.
    ContextOverflow,
    /// Worth trying again.
    Transient,
    /// Not worth trying again.
    Permanent,
}

/// How much a model should think before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThinkingLevel {
    /// Not at all.
    Off,
    /// Lowest budget.
    Minimal,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Highest the model supports.
    #[serde(alias = "max")]
    Xhigh,
}

/// Declares the role of a message shape: one fixed word, so that a message says what it is wherever it stands.
macro_rules! role {
    ($name:ident = $word:literal) => {
        #[doc = concat!("The role `", $word, "`.")]
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            #[doc = concat!("`", $word, "`")]
            #[default]
            #[serde(rename = $word)]
            Role,
        }
    };
}

role!(UserRole = "user");
role!(AssistantRole = "assistant");
role!(FunctionResultRole = "function_result");
role!(CustomRole = "custom");

/// What the user said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UserMessage {
    /// Always `user`.
    pub role: UserRole,
    /// Blocks.
    pub content: Vec<ContentBlock>,
    /// Unix milliseconds.
    pub timestamp: i64,
}

/// What the model said. Optional members are emitted as explicit `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AssistantMessage {
    /// Always `assistant`.
    #[serde(default)]
    pub role: AssistantRole,
    /// Blocks; may be empty.
    pub content: Vec<ContentBlock>,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// Cause, when `stop_reason` is `error` or `aborted`.
    #[serde(default)]
    pub error_message: Option<String>,
    /// Kind of the cause.
    #[serde(default)]
    pub error_kind: Option<ErrorKind>,
    /// Token counts.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Model id; empty when made by the program.
    #[serde(default)]
    pub model: String,
    /// Provider id; empty when made by the program.
    #[serde(default)]
    pub provider: String,
    /// Unix milliseconds.
    #[serde(default)]
    pub timestamp: i64,
    /// Members we do not know, kept.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl AssistantMessage {
    /// The empty assistant of contract 01 §2.
    pub fn empty(provider: &str, model: &str, timestamp: i64) -> Self {
        Self {
            role: AssistantRole::Role,
            content: Vec::new(),
            stop_reason: StopReason::End,
            error_message: None,
            error_kind: None,
            usage: None,
            model: model.to_owned(),
            provider: provider.to_owned(),
            timestamp,
            extra: Map::new(),
        }
    }

    /// A message made by the program when no provider turn took place.
    pub fn synthetic(stop_reason: StopReason, text: Option<&str>, timestamp: i64) -> Self {
        let mut message = Self::empty("", "", timestamp);
        message.content = text.map(ContentBlock::text).into_iter().collect();
        message.stop_reason = stop_reason;
        let default = match stop_reason {
            StopReason::Error => "error",
            StopReason::Aborted => "aborted",
            StopReason::End | StopReason::Length | StopReason::FunctionCall => return message,
        };
        message.error_message = Some(text.unwrap_or(default).to_owned());
        message.error_kind = Some(ErrorKind::Transient);
        message
    }

    /// The function calls the model asked for, in content order.
    pub fn calls(&self) -> impl Iterator<Item = (&CallId, &FunctionId, &Value)> {
        self.content.iter().filter_map(|block| match block {
            ContentBlock::FunctionCall {
                id,
                function_id,
                arguments,
            } => Some((id, function_id, arguments)),
            ContentBlock::Text { .. }
            | ContentBlock::Image { .. }
            | ContentBlock::FunctionResult { .. }
            | ContentBlock::Thinking { .. }
            | ContentBlock::Other(_) => None,
        })
    }
}

/// The answer to one call, in transcript form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionResultMessage {
    /// Always `function_result`.
    pub role: FunctionResultRole,
    /// Id of the call block.
    pub function_call_id: CallId,
    /// The unwrapped target, not `agent_trigger`.
    pub function_id: FunctionId,
    /// Blocks.
    pub content: Vec<ContentBlock>,
    /// Structured reply.
    #[serde(default)]
    pub details: Value,
    /// Whether the call failed.
    #[serde(default)]
    pub is_error: bool,
    /// Unix milliseconds.
    #[serde(default)]
    pub timestamp: i64,
}

/// Anything else that lives in a transcript; never sent to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CustomMessage {
    /// Always `custom`.
    pub role: CustomRole,
    /// Free name.
    pub custom_type: String,
    /// Blocks.
    #[serde(default)]
    pub content: Value,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// Anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// Unix milliseconds.
    #[serde(default)]
    pub timestamp: i64,
}

/// A message with a type, for reading and for what the program writes itself; told apart by `role`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AgentMessage {
    /// From the user.
    User(UserMessage),
    /// From the model.
    Assistant(AssistantMessage),
    /// From a called function.
    FunctionResult(FunctionResultMessage),
    /// From elsewhere.
    Custom(CustomMessage),
}
