//! OpenAI, over Chat Completions (contract 08 §4, §6, §10).

mod effort;
mod families;

use super::chat_completions::{Quirks, Reasoning, Vendor};
use super::protocol::{Settings, Spec};
use crate::bus::WorkerDef;

/// Its own form of the protocol.
pub(super) const QUIRKS: Quirks = Quirks {
    reasoning: Reasoning::Never,
    sends_is_error: false,
    needs_user_row: false,
    effort: Some(effort::parameter),
    max_id_chars: Some(40),
};

static VENDOR: Vendor = Vendor {
    spec: Spec {
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
    },
    worker: "provider-openai",
    about: "OpenAI Chat Completions: streamed turns and the list of chat models.",
    settings: |config| {
        let own = &config.provider_openai;
        Settings {
            default_effort: own.default_reasoning_effort.clone(),
            ..Settings::cloud(config, &own.default_api_url, own.default_max_tokens)
        }
    },
    quirks: QUIRKS,
    known: families::KNOWN,
    offers: |id, _| is_chat_model(id),
    local: None,
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
    VENDOR.worker()
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
    use super::super::protocol::Provider;
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
        let records = (&VENDOR).models(&json!({ "data": data })).unwrap();
        let kept: Vec<_> = records
            .iter()
            .map(|record| record["id"].as_str().unwrap())
            .collect();
        assert_eq!(kept, ["gpt-5", "o3", "chatgpt-4o-latest"]);
    }

    #[test]
    fn odd_entries_are_skipped_and_odd_listings_refused() {
        let listing = json!({"data": [{"id": ""}, {"id": 7}, {}, null, {"id": "gpt-5"}]});
        assert_eq!((&VENDOR).models(&listing).unwrap().len(), 1);
        assert_eq!((&VENDOR).models(&json!({"data": []})), Some(vec![]));
        for odd in [json!([]), json!({}), json!({"data": {}}), json!(null)] {
            assert_eq!((&VENDOR).models(&odd), None);
        }
    }
}
