//! `context-compaction::compact_now` as the turn orchestrator uses it (contract 02 §5.2, 10 §6).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::contract;
use crate::model::SessionId;

contract!(
    /// `context-compaction::compact_now`.
    CompactNow = "context-compaction::compact_now", CompactNowRequest => CompactNowResponse);

/// Request of `context-compaction::compact_now`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompactNowRequest {
    /// The session.
    pub session_id: SessionId,
    /// Estimate that does not fit.
    pub projected_tokens: u64,
    /// Entry of the last user message, `""` when unknown.
    pub last_user_message_id: String,
    /// The model and its window.
    pub model: CompactModel,
}

/// A model with its limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompactModel {
    /// Upstream id.
    pub id: String,
    /// Provider.
    #[serde(rename = "providerID")]
    pub provider_id: String,
    /// Window in tokens.
    pub limit: Limits,
}

/// Token limits of a model; 0 = unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Whole window.
    pub context: u64,
    /// Input part.
    pub input: u64,
    /// Output ceiling.
    pub output: u64,
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
}
