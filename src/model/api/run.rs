//! `run::start` as the browser bridge uses it (contract 02 §3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contract;
use crate::model::{RawMessage, SessionId, ThinkingLevel, lenient};

contract!(
    /// `run::start`.
    Start = "run::start", StartRequest => StartResponse);
contract!(
    /// `run::start` for a caller that passes the answer on exactly as it came (04 §1).
    Kickoff = "run::start", StartRequest => Value);

/// How the agent should work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentMode {
    /// Investigate, then propose.
    Plan,
    /// Answer.
    Ask,
    /// Act.
    Agent,
}

/// Request of `run::start`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StartRequest {
    /// The session; no `/`, no control characters, at most 256 bytes.
    pub session_id: SessionId,
    /// Provider, or `""` to route by model name.
    pub provider: String,
    /// Upstream model id.
    pub model: String,
    /// New messages; the last one is always appended, earlier ones when they are not there yet.
    #[serde(default)]
    pub messages: Vec<RawMessage>,
    /// For tracing only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Mode paragraph of the system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<AgentMode>,
    /// Cap on assistant turns; below 1 behaves like 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<serde_json::Number>,
    /// Non-empty replaces the built prompt.
    #[serde(default)]
    pub system_prompt: String,
    /// How much the model should think.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub thinking_level: Option<ThinkingLevel>,
    /// Budget the run is charged to.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub budget_id: Option<String>,
    /// Estimate for the budget check, US dollars.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub estimated_cost_usd: Option<f64>,
}

/// Response of `run::start`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StartResponse {
    /// The session.
    pub session_id: SessionId,
    /// False when the session is busy; nothing was written then.
    #[serde(default = "started")]
    pub started: bool,
    /// `session_busy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Members of other implementations.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, Value>,
}

fn started() -> bool {
    true
}
