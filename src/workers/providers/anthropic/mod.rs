//! Anthropic, over the Messages API (contract 08 §4, §5, §10).

mod families;
mod thinking;

use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::Url;

use super::access::{Access, Secret};
use super::discovery;
use super::failure::Failure;
use super::messages::Quirks;
use super::protocol::{Call, Encoded, ModelFacts, Provider, Settings, Spec};
use crate::bus::WorkerDef;
use crate::config::Config;

const SPEC: Spec = Spec {
    id: "anthropic",
    display_name: "anthropic",
    credential_env_var: "ANTHROPIC_API_KEY",
    needs_credential: true,
    descriptions: [
        "Stream a single assistant turn from Anthropic into the caller-supplied channel. Each AssistantMessageEvent is \
         sent as a JSON text message; the terminal event is Done or Error followed by close.",
        "Legacy: drain a streamed Anthropic completion and return the final AssistantMessage.",
        "Re-pull the Anthropic model list (GET /v1/models) and register each into the iii models catalog. Idempotent.",
    ],
};

const QUIRKS: Quirks = Quirks {
    provider: SPEC.id,
    thinking: thinking::wanted,
};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const VERSION: (HeaderName, HeaderValue) = (
    HeaderName::from_static("anthropic-version"),
    HeaderValue::from_static("2023-06-01"),
);

/// Models per page of the listing; the most upstream allows. Its default is 20.
const PAGE: &str = "1000";

/// The worker.
pub fn worker() -> WorkerDef {
    super::worker(
        "provider-anthropic",
        "Anthropic Messages API: streamed turns and the list of models.",
        Arc::new(Anthropic),
    )
    .build()
}

#[derive(Debug)]
struct Anthropic;

impl Provider for Anthropic {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn settings(&self, config: &Config) -> Settings {
        let own = &config.provider_anthropic;
        Settings::cloud(config, &own.default_api_url, own.default_max_tokens)
    }

    /// A key and a token go under different names.
    fn headers(&self, access: &Access) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::from_iter([VERSION]);
        match &access.secret {
            Some(secret @ Secret::ApiKey(_)) => headers.insert(API_KEY, secret.bare()?),
            Some(secret @ Secret::Oauth(_)) => headers.insert(AUTHORIZATION, secret.bearer()?),
            None => None,
        };
        Ok(headers)
    }

    fn encode(&self, call: &Call, model: &ModelFacts) -> Result<Encoded, Failure> {
        QUIRKS.encode(call, model)
    }

    fn counts_cached_as_input(&self) -> bool {
        false
    }

    fn marks_cache(&self, config: &Config) -> bool {
        config.provider_anthropic.prompt_cache
    }

    fn models_url(&self, endpoint: &Url) -> Url {
        let mut url = discovery::models_url(endpoint);
        url.query_pairs_mut().append_pair("limit", PAGE);
        url
    }

    fn next_page(&self, page: &Url, listing: &Value) -> Option<Url> {
        let has_more = listing.get("has_more")?.as_bool()?;
        let last = listing.get("last_id")?.as_str().filter(|_| has_more)?;
        let mut next = page.clone();
        let kept: Vec<_> = page
            .query_pairs()
            .into_owned()
            .filter(|(name, _)| name != "after_id")
            .collect();
        next.query_pairs_mut()
            .clear()
            .extend_pairs(kept)
            .append_pair("after_id", last);
        Some(next)
    }

    fn models(&self, listing: &Value) -> Option<Vec<Value>> {
        let records =
            discovery::entries(listing)?.map(|(id, entry)| families::KNOWN.record(SPEC.id, id, entry));
        Some(records.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn the_listing_is_read_to_its_last_page() {
        let endpoint = Url::parse("http://h/v1/messages").unwrap();
        let first = Anthropic.models_url(&endpoint);
        assert_eq!(first.as_str(), "http://h/v1/models?limit=1000");
        let second = Anthropic
            .next_page(&first, &json!({"has_more": true, "last_id": "b c"}))
            .unwrap();
        assert_eq!(second.as_str(), "http://h/v1/models?limit=1000&after_id=b+c");
        let third = Anthropic
            .next_page(&second, &json!({"has_more": true, "last_id": "d"}))
            .unwrap();
        assert_eq!(third.as_str(), "http://h/v1/models?limit=1000&after_id=d");
        for last in [
            json!({}),
            json!({"has_more": false, "last_id": "b"}),
            json!({"has_more": true}),
            json!({"has_more": true, "last_id": null}),
        ] {
            assert_eq!(Anthropic.next_page(&second, &last), None, "{last}");
        }
    }

    #[test]
    fn odd_entries_are_skipped_and_odd_listings_refused() {
        let listing =
            json!({"data": [{"id": ""}, {"id": 7}, {}, null, {"id": "claude-x", "display_name": "X"}]});
        let records = Anthropic.models(&listing).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(
            (&records[0]["id"], &records[0]["display_name"]),
            (&json!("claude-x"), &json!("X"))
        );
        assert_eq!(Anthropic.models(&json!({"models": []})), None);
    }
}
