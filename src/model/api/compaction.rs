//! `context-compaction::*` as the turn orchestrator and the worker itself use it (contract 02 §5.2, 10 §1, §6).

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::contract;
use crate::model::turn::BudgetWait;
use crate::model::{EntryId, SessionId, lenient, tokens};

contract!(
    /// `context-compaction::compact_now`.
    CompactNow = "context-compaction::compact_now", CompactNowRequest => CompactNowResponse);

/// Request of `context-compaction::compact_now`. Members of a wrong type count as absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompactNowRequest {
    /// The session.
    pub session_id: SessionId,
    /// Estimate that does not fit; for people who read traces.
    #[serde(default, deserialize_with = "tokens_or_zero")]
    pub projected_tokens: u64,
    /// Entry of the user message that must not be summarised, `""` when there is none.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub last_user_message_id: String,
    /// The model and its window.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub model: CompactModel,
    /// Who pays for the summary; when absent the budget of the session's last run, else that of the settings.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub budget_id: Option<String>,
}

/// A model with its limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CompactModel {
    /// Upstream id.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub id: String,
    /// Provider; `""` to route by model name.
    #[serde(default, rename = "providerID", deserialize_with = "lenient::or_default")]
    pub provider_id: String,
    /// Window in tokens.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub limit: Limits,
}

/// Token limits of a model; 0 = unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Whole window.
    #[serde(default, deserialize_with = "tokens_or_zero")]
    pub context: u64,
    /// Input part.
    #[serde(default, deserialize_with = "tokens_or_zero")]
    pub input: u64,
    /// Output ceiling.
    #[serde(default, deserialize_with = "tokens_or_zero")]
    pub output: u64,
}

fn tokens_or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(tokens::whole(&value).unwrap_or(0))
}

/// Response of `context-compaction::compact_now`; only what the orchestrator reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompactNowResponse {
    /// `ok`, `overflow`, `busy`, `empty`, or a word of a later release.
    #[serde(default)]
    pub status: String,
    /// Explanation of an overflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Set when a budget did not let the summary be made.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub budget_wait: Option<BudgetWait>,
}

/// What came of a compaction (10 §1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum CompactResult {
    /// A Compaction entry was appended.
    Ok {
        /// First entry that stays verbatim; null when all is summarised.
        tail_start_id: Option<EntryId>,
        /// Estimated tokens of what is summarised now.
        tokens_before: u64,
        /// Whether the model is told to go on.
        auto_continued: bool,
        /// The summary.
        summary_text: String,
    },
    /// Another compaction of the session is under way, or this one takes longer than the caller waits.
    Busy,
    /// The summary could not be made; the session is as it was.
    Overflow {
        /// Why.
        message: String,
        /// Set when the reason is a budget, which may let it be made later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        budget_wait: Option<BudgetWait>,
    },
    /// There is nothing to summarise, or the model had nothing to say.
    Empty,
}
