//! Tokens and money of one model call (contract 01 §2).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Token counts of one model call; a missing count means 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Prompt tokens as the provider counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    /// Generated tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// Prompt tokens served from the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<u64>,
    /// Prompt tokens written to the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
    /// Cost in US dollars, when a price is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// All tokens of the call counted once (contract 08 §1.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}
