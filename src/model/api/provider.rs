//! Providers and their registry as the other workers use them (contract 08, 09 part B).

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::contract;
use crate::model::{AgentFunction, ProviderId, RawMessage, ThinkingLevel, catalog, lenient};

contract!(
    /// `harness::provider::register` (09 B3).
    Register = "harness::provider::register", Declaration => Ack);
contract!(
    /// `harness::provider::list` (09 B3).
    List = "harness::provider::list", Empty => ListResponse);
contract!(
    /// `harness::provider::resolve` (09 B3).
    Resolve = "harness::provider::resolve", ResolveRequest => Resolved);

contract!(
    /// `provider::<id>::stream` (08 §2); called under the id of the routed provider.
    Stream = "provider::openai::stream", StreamRequest => StreamResponse);

/// A request or response without members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Empty {}

/// `{ok: true}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ack {
    /// Always true.
    pub ok: bool,
}

/// Reference to one end of a data channel (08 §1.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelRef {
    /// The channel.
    pub channel_id: String,
    /// Capability to open an end of it.
    pub access_key: String,
    /// Which end this is.
    pub direction: Direction,
}

/// End of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Reading end.
    Read,
    /// Writing end.
    Write,
}

/// Request of `provider::<id>::stream` (08 §2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StreamRequest {
    /// Where the events go.
    pub writer_ref: ChannelRef,
    /// Upstream model id.
    pub model: String,
    /// The conversation, oldest first. Items that are no objects are left out: one odd message never fails a turn.
    #[serde(deserialize_with = "messages")]
    pub messages: Vec<RawMessage>,
    /// System prompt.
    #[serde(default)]
    pub system_prompt: Option<String>,
    /// Tools offered.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub tools: Vec<AgentFunction>,
    /// Absent means off.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub thinking_level: Option<ThinkingLevel>,
    /// Output budget of this call, tokens.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub max_output_tokens: Option<u64>,
    /// Catalog record, saves the provider a lookup.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub model_meta: Option<Map<String, Value>>,
    /// Same for all steps of one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution_key: Option<Value>,
}

fn messages<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RawMessage>, D::Error> {
    let items = Vec::<Value>::deserialize(deserializer)?;
    Ok(items.into_iter().filter_map(RawMessage::stored).collect())
}

fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<AgentFunction>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Request of `provider::<id>::complete` (08 §3): optional members of a wrong type count as absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompleteRequest {
    /// Upstream model id.
    pub model: String,
    /// System prompt.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub system_prompt: Option<String>,
    /// The conversation, oldest first.
    #[serde(default, deserialize_with = "messages_or_empty")]
    pub messages: Vec<RawMessage>,
    /// Tools offered.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub tools: Vec<AgentFunction>,
}

fn messages_or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RawMessage>, D::Error> {
    let items: Vec<Value> = lenient::or_default(deserializer)?;
    Ok(items.into_iter().filter_map(RawMessage::stored).collect())
}

/// Response of `provider::<id>::refresh_models` (08 §10).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefreshResponse {
    /// Ids now in the catalog, in upstream order.
    pub registered: Vec<String>,
}

/// Response of `provider::<id>::stream`; success or failure of the turn is in the channel only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamResponse {
    /// True once the channel is closed.
    #[serde(default)]
    pub ok: bool,
    /// Never set by ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// A provider that declares itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Declaration {
    /// `[a-z0-9_-]{1,64}`.
    pub id: ProviderId,
    /// Name for people; the id when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Environment variable with a fallback credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_env_var: Option<String>,
    /// JSON Schema of its slice of the configuration entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<Map<String, Value>>,
    /// Defaults of its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// Whether it has `refresh_models`.
    #[serde(default)]
    pub supports_model_listing: bool,
}

/// Declared defaults of a provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Defaults {
    /// Endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
    /// Output limit, tokens.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "catalog::whole"
    )]
    pub max_tokens: Option<f64>,
}

/// Response of `harness::provider::list`, in declaration order; never holds secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListResponse {
    /// Declared providers.
    pub providers: Vec<ProviderRow>,
}

/// One declared provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderRow {
    /// Id.
    pub id: ProviderId,
    /// Name for people.
    pub display_name: String,
    /// Whether it has `refresh_models`.
    pub supports_model_listing: bool,
    /// Additive: whether there is a credential, stored or in the environment (09 weakness 13).
    #[serde(default)]
    pub configured: bool,
}

/// Request of `harness::provider::resolve`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResolveRequest {
    /// Provider.
    pub provider: ProviderId,
}

/// Response of `harness::provider::resolve`. Holds a secret: never log it.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resolved {
    /// Whether there is a credential.
    pub configured: bool,
    /// `stored`, `environment` or null.
    pub source: Option<String>,
    /// The credential.
    pub credential: Option<Credential>,
    /// Endpoint: stored, else declared default.
    pub api_url: Option<String>,
    /// Output limit: stored, else declared default.
    #[serde(serialize_with = "catalog::whole")]
    pub max_tokens: Option<f64>,
    /// Additive: true when `max_tokens` is the operator's own choice (the token clamp of 08 §4 needs to know).
    #[serde(default)]
    pub max_tokens_stored: bool,
}

impl std::fmt::Debug for Resolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolved")
            .field("source", &self.source)
            .field("api_url", &self.api_url)
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}

/// A credential.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Credential {
    /// A key.
    ApiKey {
        /// The secret.
        key: String,
    },
    /// A token; honoured by header builders, never produced by our registry.
    Oauth {
        /// The secret.
        access_token: String,
    },
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(redacted)")
    }
}
