//! OpenAI, over Chat Completions (contract 08 §4, §6, §10).

mod effort;
mod families;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::access::Access;
use super::chat_completions::{Quirks, bearer};
use super::discovery;
use super::failure::Failure;
use super::protocol::{Call, Encoded, ModelFacts, Provider, Settings, Spec};
use crate::bus::WorkerDef;
use crate::config::Config;

const SPEC: Spec = Spec {
    id: "openai",
    display_name: "openai",
    credential_env_var: "OPENAI_API_KEY",
    needs_credential: true,
    descriptions: [
        "Stream a single assistant turn from OpenAI Chat Completions into the caller-supplied channel.",
        "Legacy: drain a streamed OpenAI chat-completion and return the final AssistantMessage.",
        "Re-pull the OpenAI model list (GET /v1/models) and register the chat-capable subset into the iii models \
         catalog. Idempotent.",
    ],
};

const QUIRKS: Quirks = Quirks {
    sends_reasoning: false,
    sends_is_error: false,
    needs_user_row: false,
    effort: Some(effort::parameter),
};

/// Parts of ids that do something else than chat; lower case.
const NOT_CHAT: &[&str] = &[
    "embedding",
    "whisper",
    "tts",
    "audio",
    "dall-e",
    "image",
    "moderation",
    "realtime",
    "transcribe",
    "search",
    "babbage",
    "davinci",
    "ada",
    "curie",
];

/// The worker.
pub fn worker() -> WorkerDef {
    super::worker(
        "provider-openai",
        "OpenAI Chat Completions: streamed turns and the list of chat models.",
        Arc::new(OpenAi),
    )
}

#[derive(Debug)]
struct OpenAi;

impl Provider for OpenAi {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn settings(&self, config: &Config) -> Settings {
        let own = &config.provider_openai;
        Settings {
            api_url: own.default_api_url.clone(),
            declares_api_url: true,
            max_tokens: own.default_max_tokens,
            headers_timeout: Duration::from_millis(config.provider.headers_timeout_ms),
            idle_timeout: Duration::from_millis(config.provider.idle_timeout_ms),
            default_effort: own.default_reasoning_effort.clone(),
        }
    }

    fn headers(&self, access: &Access) -> Result<HeaderMap, Failure> {
        bearer(access)
    }

    fn encode(&self, call: &Call, model: &ModelFacts) -> Result<Encoded, Failure> {
        QUIRKS.encode(call, model)
    }

    fn models(&self, listing: &Value) -> Option<Vec<Value>> {
        let chat = discovery::entries(listing)?.filter(|(id, _)| is_chat_model(id));
        Some(
            chat.map(|(id, entry)| families::record(SPEC.id, id, entry))
                .collect(),
        )
    }
}

fn is_chat_model(id: &str) -> bool {
    let mut chars = id.chars();
    let is_o_series = chars.next() == Some('o') && chars.next().is_some_and(|c| c.is_ascii_digit());
    let known = is_o_series || id.starts_with("gpt-") || id.starts_with("chatgpt");
    let id = id.to_lowercase();
    known && !NOT_CHAT.iter().any(|part| id.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn c08_case_37_only_chat_models_are_kept() {
        let ids = [
            "gpt-5",
            "o3",
            "text-embedding-3-small",
            "whisper-1",
            "gpt-4o-audio-preview",
            "chatgpt-4o-latest",
            "omni-moderation-latest",
            "gpt-image-1",
            "gpt-4o-search-preview",
            "GPT-4",
        ];
        let data: Vec<_> = ids.iter().map(|id| json!({ "id": id })).collect();
        let records = OpenAi.models(&json!({ "data": data })).unwrap();
        let kept: Vec<_> = records
            .iter()
            .map(|record| record["id"].as_str().unwrap())
            .collect();
        assert_eq!(kept, ["gpt-5", "o3", "chatgpt-4o-latest"]);
    }

    #[test]
    fn odd_entries_are_skipped_and_odd_listings_refused() {
        let listing = json!({"data": [{"id": ""}, {"id": 7}, {}, null, {"id": "gpt-5"}]});
        assert_eq!(OpenAi.models(&listing).unwrap().len(), 1);
        assert_eq!(OpenAi.models(&json!({"data": []})), Some(vec![]));
        for odd in [json!([]), json!({}), json!({"data": {}}), json!(null)] {
            assert_eq!(OpenAi.models(&odd), None);
        }
    }
}
