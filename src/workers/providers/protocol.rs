//! What a provider is: facts, and pure functions between our shapes and the vendor's. All I/O is the driver's.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::header::HeaderMap;
use serde_json::Value;
use url::Url;

use super::access::Access;
use super::assembly::Assembly;
use super::failure::Failure;
use super::price::Price;
use super::sse::Frame;
use crate::config::Config;
use crate::model::api::provider::{CompleteRequest, StreamRequest};
use crate::model::{AgentFunction, RawMessage, StopReason, ThinkingLevel};

/// Facts of a provider that never change.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Id, as in `provider::<id>::stream`.
    pub id: &'static str,
    /// Name for people.
    pub display_name: &'static str,
    /// Environment variable with the fallback credential.
    pub credential_env_var: &'static str,
    /// Whether a turn without a credential fails at once.
    pub needs_credential: bool,
    /// Descriptions of `stream`, `complete` and `refresh_models`, in this order.
    pub descriptions: [&'static str; 3],
}

/// Settings of a provider now in force.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Endpoint when the registry names none.
    pub api_url: String,
    /// Whether that endpoint is declared as default to the registry; local servers declare none.
    pub declares_api_url: bool,
    /// Output limit of models the catalog does not know, tokens.
    pub max_tokens: u64,
    /// Limit until response headers.
    pub headers_timeout: Duration,
    /// Longest silence between body chunks.
    pub idle_timeout: Duration,
    /// Effort for runs that name no level.
    pub default_effort: Option<String>,
}

impl Settings {
    /// Those of a hosted service.
    pub fn cloud(config: &Config, api_url: &str, max_tokens: u64) -> Self {
        Self {
            api_url: api_url.to_owned(),
            declares_api_url: true,
            max_tokens,
            headers_timeout: Duration::from_millis(config.provider.headers_timeout_ms),
            idle_timeout: Duration::from_millis(config.provider.idle_timeout_ms),
            default_effort: None,
        }
    }

    /// Those of a server of one's own, which may take long to read a prompt.
    pub fn local(config: &Config, api_url: &str, max_tokens: u64, headers_timeout: Duration) -> Self {
        Self {
            declares_api_url: false,
            headers_timeout,
            idle_timeout: Duration::from_millis(config.provider.local_idle_timeout_ms),
            ..Self::cloud(config, api_url, max_tokens)
        }
    }
}

/// A turn as it was asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    /// Upstream model id.
    pub(super) model: String,
    /// System prompt; may be empty.
    pub(super) system_prompt: String,
    /// The conversation, oldest first.
    pub(super) messages: Vec<RawMessage>,
    /// Tools offered.
    pub(super) tools: Vec<AgentFunction>,
    /// Absent: not named.
    pub(super) thinking_level: Option<ThinkingLevel>,
    /// Output budget of this call, tokens.
    pub(super) max_output_tokens: Option<u64>,
    /// Catalog record, when the caller has it.
    pub(super) model_meta: Option<serde_json::Map<String, Value>>,
}

impl From<StreamRequest> for Call {
    fn from(request: StreamRequest) -> Self {
        Self {
            model: request.model,
            system_prompt: request.system_prompt.unwrap_or_default(),
            messages: request.messages,
            tools: request.tools,
            thinking_level: request.thinking_level,
            max_output_tokens: request.max_output_tokens,
            model_meta: request.model_meta,
        }
    }
}

impl From<CompleteRequest> for Call {
    fn from(request: CompleteRequest) -> Self {
        Self {
            model: request.model,
            system_prompt: request.system_prompt.unwrap_or_default(),
            messages: request.messages,
            tools: request.tools,
            ..Self::default()
        }
    }
}

/// What is known of the model of a turn, and the limits that follow.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ModelFacts {
    /// Upstream id that is sent.
    pub(super) id: String,
    /// Output limit of this turn, tokens.
    pub(super) max_tokens: u64,
    /// Prompt and output together, tokens, from the catalog; absent = unknown.
    pub(super) window: Option<u64>,
    /// From the catalog; absent = unknown.
    pub(super) supports_thinking: Option<bool>,
    /// From the catalog; absent = unknown.
    pub(super) supports_vision: Option<bool>,
    /// From the catalog; absent = unknown.
    pub(super) supports_xhigh: Option<bool>,
    /// The most this model can put out, tokens, from the catalog; absent = unknown.
    pub(super) ceiling: Option<u64>,
    /// Thinking tokens of the levels minimal, low, medium and high, from the catalog.
    pub(super) thinking_budgets: [Option<u64>; 4],
    /// Whether it refuses a budget for its reasoning, from the catalog; absent = unknown.
    pub(super) takes_no_budget: Option<bool>,
    /// Whether cache markers are sent.
    pub(super) marks_cache: bool,
    /// What its tokens cost, from the catalog.
    pub(super) price: Option<Price>,
    /// Effort for runs that name no level.
    pub(super) default_effort: Option<String>,
}

/// A request ready to be sent, and how its answer is read.
pub(super) struct Encoded {
    /// Headers that only this request needs.
    pub(super) headers: HeaderMap,
    /// JSON body.
    pub(super) body: Bytes,
    /// A reader of one answer; each attempt needs its own.
    pub(super) decoder: Box<dyn Fn() -> Box<dyn Decode> + Send + Sync>,
}

/// Reads one answer, frame by frame.
pub(super) trait Decode: Send {
    /// Takes a frame in. Never fails on odd data: that is skipped.
    fn frame(&mut self, frame: &Frame, out: &mut Assembly) -> Step;

    /// Whether the model said that it is done; what follows are counters, and a broken connection does no harm.
    fn is_finished(&self) -> bool;

    /// The body is over: why the model stopped, or why that is no whole answer.
    fn end(&mut self, out: &Assembly) -> Result<StopReason, Failure>;
}

/// What to do after a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Read on.
    More,
    /// That was the end.
    End,
    /// The server reported a failure; reading stops.
    Failed(Failure),
}

/// An address that requests can go to.
pub(super) fn http_url(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim()).ok();
    url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// A vendor. To add one: a file with an implementation, its `worker()` in the list of all workers.
pub(super) trait Provider: Send + Sync + 'static {
    /// Facts.
    fn spec(&self) -> &'static Spec;

    /// Settings.
    fn settings(&self, config: &Config) -> Settings;

    /// The endpoint a stored or declared address means; `None` when it is unusable and the default serves.
    fn endpoint(&self, api_url: &str) -> Option<Url> {
        http_url(api_url)
    }

    /// Headers beside `content-type`.
    ///
    /// # Errors
    /// The credential cannot be sent.
    fn headers(&self, access: &Access) -> Result<HeaderMap, Failure>;

    /// Our request in the vendor's form.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    fn encode(&self, call: &Call, model: &ModelFacts) -> Result<Encoded, Failure>;

    /// Whether `usage.input` holds the cached tokens too, as in Chat Completions.
    fn counts_cached_as_input(&self) -> bool {
        true
    }

    /// Whether requests mark what upstream should cache.
    fn marks_cache(&self, _: &Config) -> bool {
        false
    }

    /// The model that is really asked for; LM Studio replaces its placeholder.
    fn model_id<'a>(
        &'a self,
        call: &'a Call,
        _: &'a Access,
        _: &'a reqwest::Client,
    ) -> BoxFuture<'a, String> {
        Box::pin(futures::future::ready(call.model.clone()))
    }

    /// Whether it is a server of one's own: another form of addresses, shorter listings, shorter error texts (contract 08 §4,
    /// §7, §11).
    fn is_local(&self) -> bool {
        false
    }

    /// Adds to a failure what helps people; called once, for the one that is told.
    fn explain(&self, failure: Failure) -> Failure {
        failure
    }

    /// Tries to undo a failure, such as a model that is not loaded, once per turn; `None`: not of that kind.
    fn repair<'a>(
        &'a self,
        _: &Failure,
        _: &'a ModelFacts,
        _: &'a Access,
        _: &'a reqwest::Client,
    ) -> Option<BoxFuture<'a, Result<(), Failure>>> {
        None
    }

    /// Where the models are listed.
    fn models_url(&self, endpoint: &Url) -> Url {
        super::discovery::models_url(endpoint)
    }

    /// Where the listing goes on; `None` after its last page.
    fn next_page(&self, _: &Url, _: &Value) -> Option<Url> {
        None
    }

    /// The catalog records of a page of the listing; `None` when it is no listing.
    fn models(&self, listing: &Value) -> Option<Vec<Value>>;

    /// Fills in what the server tells elsewhere than in its listing.
    fn refine<'a>(
        &'a self,
        records: Vec<Value>,
        _: &'a Access,
        _: &'a reqwest::Client,
    ) -> BoxFuture<'a, Vec<Value>> {
        Box::pin(futures::future::ready(records))
    }
}
