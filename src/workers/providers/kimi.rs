//! Kimi by Moonshot AI, over Chat Completions (contract 08 §4, §6.6, §10). The endpoint in China is a stored `api_url`.

use super::chat_completions::{Quirks, Reasoning, Vendor};
use super::costs::{Price, costs};
use super::protocol::{Settings, Spec};
use super::records::{Family, Known, family};
use crate::bus::WorkerDef;

static VENDOR: Vendor = Vendor {
    spec: Spec {
        id: "kimi",
        display_name: "kimi (moonshot)",
        credential_env_var: "MOONSHOT_API_KEY",
        needs_credential: true,
        descriptions: [
            "Stream a single assistant turn from Kimi (Moonshot) Chat Completions into the caller-supplied channel.",
            "Legacy: drain a streamed Kimi chat-completion and return the final AssistantMessage.",
            "Re-pull the Kimi (Moonshot) model list (GET /v1/models) and register each into the iii models catalog. \
             Idempotent.",
        ],
    },
    worker: "provider-kimi",
    about: "Kimi Chat Completions: streamed turns and the list of models.",
    settings: |config| {
        let own = &config.provider_kimi;
        Settings::cloud(config, &own.default_api_url, own.default_max_tokens)
    },
    quirks: Quirks {
        reasoning: Reasoning::WithEveryCall,
        sends_is_error: true,
        needs_user_row: false,
        effort: None,
        max_id_chars: None,
    },
    known: Known {
        families: FAMILIES,
        prices: PRICES,
        ..Known::flat("openai-completions", 256_000)
    },
    offers: |_, _| true,
    local: None,
};

/// Window, output, thinking, vision, where the listing does not say it. As of 2026-11-26, from the model pages of
/// platform.kimi.ai and the public price list of `LiteLLM`. Moonshot refuses a request whose prompt and output limit together are
/// above the window, so that of the small models is a quarter of it.
const FAMILIES: &[Family] = &[
    family("kimi-k3", 1_048_576, 262_144, true, true),
    family("kimi-k2.", 262_144, 262_144, true, true),
    family("kimi-k2-thinking", 262_144, 262_144, true, false),
    family("moonshot-v1-8k-vision", 8_192, 2_048, false, true),
    family("moonshot-v1-32k-vision", 32_768, 8_192, false, true),
    family("moonshot-v1-128k-vision", 131_072, 8_192, false, true),
    family("moonshot-v1-8k", 8_192, 2_048, false, false),
    family("moonshot-v1-32k", 32_768, 8_192, false, false),
    family("moonshot-v1-128k", 131_072, 8_192, false, false),
];

/// Only prices that are certain, as of the same day.
const PRICES: &[Price] = &[
    ("kimi-k3", costs(3.0, 15.0).cached(0.3)),
    ("kimi-k2.6", costs(0.95, 4.0).cached(0.16)),
    ("kimi-k2.5", costs(0.6, 3.0).cached(0.1)),
];

/// The worker.
pub fn worker() -> WorkerDef {
    VENDOR.worker()
}
