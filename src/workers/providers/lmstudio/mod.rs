//! LM Studio, over Chat Completions and its own API for listing and loading models (contract 08 §4, §7, §8, §10).

mod auto_load;
mod load_model;
mod memory;
mod unload_model;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use url::Url;

use super::access::{Access, Door};
use super::chat_completions::{Local, Vendor};
use super::discovery;
use super::failure::Failure;
use super::local;
use super::protocol::{Call, Encoded, ModelFacts, Provider, Settings, Spec};
use crate::bus::WorkerDef;
use crate::config::Config;
use auto_load::Loads;
use load_model::LoadModel;
use unload_model::UnloadModel;

/// Stands for whichever model the server lists first.
const PLACEHOLDER: &str = "lmstudio-local";
/// Until response headers; not a setting (contract 12 §3).
const HEADERS: Duration = Duration::from_secs(30);

static VENDOR: &Vendor = &Vendor {
    spec: Spec {
        id: "lmstudio",
        display_name: "lm studio",
        credential_env_var: "LMSTUDIO_API_KEY",
        needs_credential: false,
        descriptions: [
            "Stream a single assistant turn from a local LM Studio Chat Completions server into the caller-supplied channel.",
            "Legacy: drain a streamed LM Studio chat-completion and return the final AssistantMessage.",
            "Re-discover loaded LM Studio models and register each into the iii models catalog. Idempotent.",
        ],
    },
    worker: "provider-lmstudio",
    about: "A local LM Studio server: streamed turns, its models, and loading them into memory.",
    settings: |config| {
        let own = &config.provider_lmstudio;
        Settings::local(config, &own.default_api_url, own.default_max_tokens, HEADERS)
    },
    quirks: local::QUIRKS,
    known: local::KNOWN,
    offers: |_, entry| can_chat(entry),
    local: Some(Local {
        placeholder_key: Some("lm-studio"),
        models_path: Some("/api/v0/models"),
        probe: None,
    }),
};

/// The worker.
pub fn worker() -> WorkerDef {
    super::worker(VENDOR.worker, VENDOR.about, Arc::new(LmStudio::default()))
        .function::<LoadModel>()
        .function::<UnloadModel>()
        .build()
}

/// All downloaded models that answer, loaded or not; not those that only embed.
fn can_chat(entry: &Value) -> bool {
    entry
        .get("type")
        .is_none_or(|kind| kind.is_null() || kind == "llm" || kind == "vlm")
}

/// The vendor, and the loads under way.
#[derive(Debug, Default)]
struct LmStudio {
    loads: Loads,
}

impl Provider for LmStudio {
    fn spec(&self) -> &'static Spec {
        VENDOR.spec()
    }

    fn settings(&self, config: &Config) -> Settings {
        VENDOR.settings(config)
    }

    fn is_local(&self) -> bool {
        VENDOR.is_local()
    }

    fn endpoint(&self, api_url: &str) -> Option<Url> {
        VENDOR.endpoint(api_url)
    }

    fn headers(&self, access: &Access) -> Result<HeaderMap, Failure> {
        VENDOR.headers(access)
    }

    fn encode(&self, call: &Call, model: &ModelFacts) -> Result<Encoded, Failure> {
        VENDOR.encode(call, model)
    }

    fn models_url(&self, endpoint: &Url) -> Url {
        VENDOR.models_url(endpoint)
    }

    fn models(&self, listing: &Value) -> Option<Vec<Value>> {
        VENDOR.models(listing)
    }

    fn model_id<'a>(
        &'a self,
        call: &'a Call,
        access: &'a Access,
        client: &'a reqwest::Client,
    ) -> BoxFuture<'a, String> {
        async move {
            if call.model != PLACEHOLDER {
                return call.model.clone();
            }
            let url = discovery::models_url(&access.url);
            let listing = discovery::get_json(self, access, client, url).await;
            let first = listing.ok().and_then(|listing| {
                let (id, _) = discovery::entries(&listing)?.next()?;
                Some(id.to_owned())
            });
            first.unwrap_or_else(|| PLACEHOLDER.to_owned())
        }
        .boxed()
    }

    fn explain(&self, failure: Failure) -> Failure {
        auto_load::explain(failure)
    }

    fn repair<'a>(
        &'a self,
        failure: &Failure,
        model: &'a ModelFacts,
        access: &'a Access,
        client: &'a reqwest::Client,
    ) -> Option<BoxFuture<'a, Result<(), Failure>>> {
        if !auto_load::is_load_failure(failure) {
            return None;
        }
        let headers = self.headers(access);
        Some(
            async move {
                let door = Door {
                    access: access.clone(),
                    client: client.clone(),
                    headers: headers?,
                };
                let load = memory::load(door, json!({ "model": model.id }));
                self.loads.join(&access.url, &model.id, load).await
            }
            .boxed(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn c08_section_7_headers_have_thirty_seconds() {
        let mut config = Config::default();
        config.provider.headers_timeout_ms = 1;
        let settings = LmStudio::default().settings(&config);
        assert_eq!(settings.headers_timeout, Duration::from_secs(30));
        assert_eq!(settings.idle_timeout, Duration::from_mins(4));
        assert!(!settings.declares_api_url);
    }
}
