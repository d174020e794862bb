//! Model catalog records (contract 09 A3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::key::ProviderId;
use super::lenient;

/// State scope of the records (09 A2).
pub const SCOPE: &str = "models";

/// State key of a record. Ids may contain `:` and `/`: never take a key apart.
pub fn key(provider: &str, id: &str) -> String {
    format!("models:{provider}:{id}")
}

/// Writes a whole number without a fraction, as those who registered it did.
#[expect(clippy::ref_option, reason = "the signature is serde's")]
pub(crate) fn whole<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number {
        None => serializer.serialize_none(),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole and within the range where f64 is exact"
        )]
        Some(number) if number.fract() == 0.0 && number.abs() <= EXACT => {
            serializer.serialize_i64(*number as i64)
        }
        Some(number) => serializer.serialize_f64(*number),
    }
}

/// One model as a provider registered it. Unknown members are kept. Registration checks the types; in a record that
/// somebody wrote by hand a member of the wrong type counts as absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Model {
    /// Upstream id, used verbatim in requests.
    pub id: String,
    /// Provider.
    pub provider: ProviderId,
    /// Protocol label.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub api: Option<String>,
    /// Name for people.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub display_name: Option<String>,
    /// Window in tokens.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional",
        serialize_with = "whole"
    )]
    pub context_window: Option<f64>,
    /// Hard output ceiling in tokens.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional",
        serialize_with = "whole"
    )]
    pub max_output_tokens: Option<f64>,
    /// Absent means unknown.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub supports_thinking: Option<bool>,
    /// Absent means unknown.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub supports_xhigh: Option<bool>,
    /// Absent means unknown.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub supports_tools: Option<bool>,
    /// Absent means unknown.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub supports_vision: Option<bool>,
    /// Absent means unknown.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub supports_cache: Option<bool>,
    /// US dollars per million tokens.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub pricing: Option<Pricing>,
    /// Everything else, `transports`, `thinking_budgets` and `default_cache_retention` included.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Prices of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pricing {
    /// For prompts of any length, unless a tier says otherwise.
    #[serde(flatten)]
    pub rates: Rates,
    /// Additive: prices of calls with longer prompts. The tier with the most tokens that a prompt has more than counts, for all
    /// tokens of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiers: Option<Vec<Tier>>,
}

/// Prices of calls whose prompt, cached tokens included, is longer than a number of tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tier {
    /// The number of tokens.
    pub above_tokens: f64,
    /// What their tokens cost.
    #[serde(flatten)]
    pub rates: Rates,
}

/// Prices in US dollars per million tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rates {
    /// Prompt.
    pub input_per_1m: f64,
    /// Output.
    pub output_per_1m: f64,
    /// Cached prompt; the price of the prompt when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read_per_1m: Option<f64>,
    /// Prompt written to the cache; the price of the prompt when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_per_1m: Option<f64>,
}

impl Rates {
    /// Of cached tokens.
    pub fn cache_read(&self) -> f64 {
        self.cache_read_per_1m.unwrap_or(self.input_per_1m)
    }

    /// Of tokens that are written to the cache.
    pub fn cache_write(&self) -> f64 {
        self.cache_write_per_1m.unwrap_or(self.input_per_1m)
    }

    /// All that are named.
    pub fn all(&self) -> impl Iterator<Item = f64> {
        let cached = [self.cache_read_per_1m, self.cache_write_per_1m];
        [self.input_per_1m, self.output_per_1m]
            .into_iter()
            .chain(cached.into_iter().flatten())
    }
}
