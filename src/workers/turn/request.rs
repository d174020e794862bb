//! What a run was asked to do (contract 02 §1), stored beside its record.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::api::run::{AgentMode, StartRequest};
use crate::model::{AgentFunction, ThinkingLevel, lenient};

/// State scope of the requests, key = session id.
pub(super) const REQUESTS: &str = "run_request";

/// What a run was asked to do. Read leniently: a wrong or missing member is its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RunRequest {
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) provider: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) model: String,
    #[serde(default, deserialize_with = "lenient::optional")]
    pub(super) mode: Option<AgentMode>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) system_prompt: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) function_schemas: Vec<Value>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) thinking_level: Option<ThinkingLevel>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) budget_id: Option<String>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) estimated_cost_usd: Option<f64>,
}

impl RunRequest {
    /// The same with each of these models (`provider::model`) that is another one than its own.
    pub(super) fn fallbacks(&self, models: &[String]) -> Vec<Self> {
        let named = models.iter().filter_map(|name| name.split_once("::"));
        let others = named.filter(|(provider, model)| {
            !model.is_empty() && (*model != self.model || !provider.eq_ignore_ascii_case(&self.provider))
        });
        let others = others.map(|(provider, model)| Self {
            provider: provider.to_owned(),
            model: model.to_owned(),
            ..self.clone()
        });
        others.collect()
    }

    /// From what `run::start` was given.
    pub(super) fn from_start(request: &StartRequest) -> Self {
        Self {
            provider: request.provider.clone(),
            model: request.model.clone(),
            mode: request.mode,
            system_prompt: request.system_prompt.clone(),
            function_schemas: Vec::new(),
            thinking_level: request.thinking_level,
            budget_id: request.budget_id.clone(),
            estimated_cost_usd: request.estimated_cost_usd,
        }
    }

    /// Reads a stored row; a missing or foreign one is all defaults.
    pub(super) fn read(stored: Option<Value>) -> Self {
        stored
            .and_then(|value| serde_json::from_value(value).ok())
            .unwrap_or_default()
    }

    /// The tools, checked.
    ///
    /// # Errors
    /// One of them is not a tool descriptor.
    pub(super) fn tools(&self) -> Result<Vec<AgentFunction>> {
        self.function_schemas
            .iter()
            .map(|schema| serde_json::from_value(schema.clone()))
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| Error::invalid(format!("function_schemas: {error}")))
    }
}
