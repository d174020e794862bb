//! Model catalog records (contract 09 A3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::key::ProviderId;

/// One model as a provider registered it. Unknown members are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Model {
    /// Upstream id, used verbatim in requests.
    pub id: String,
    /// Provider.
    pub provider: ProviderId,
    /// Protocol label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Window in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<f64>,
    /// Hard output ceiling in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<f64>,
    /// Absent means unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supports_thinking: Option<bool>,
    /// Absent means unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supports_xhigh: Option<bool>,
    /// Absent means unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supports_tools: Option<bool>,
    /// Absent means unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supports_vision: Option<bool>,
    /// Absent means unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supports_cache: Option<bool>,
    /// US dollars per million tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Pricing>,
    /// Everything else, `transports`, `thinking_budgets` and `default_cache_retention` included.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Prices in US dollars per million tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pricing {
    /// Prompt.
    pub input_per_1m: f64,
    /// Output.
    pub output_per_1m: f64,
    /// Cached prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read_per_1m: Option<f64>,
    /// Prompt written to the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_per_1m: Option<f64>,
}
