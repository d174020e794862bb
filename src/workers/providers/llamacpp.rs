//! llama.cpp's own server, `llama-server`, over Chat Completions (contract 08 §4, §9, §10). One model per process, so there is
//! nothing to load; its id, or the placeholder `llamacpp-local`, goes out as it is.

use std::time::Duration;

use serde_json::Value;

use super::chat_completions::{Local, Probe, Vendor};
use super::local;
use super::protocol::{Settings, Spec};
use crate::bus::WorkerDef;

static VENDOR: Vendor = Vendor {
    spec: Spec {
        id: "llamacpp",
        display_name: "llama.cpp",
        credential_env_var: "LLAMACPP_API_KEY",
        needs_credential: false,
        descriptions: [
            "Stream a single assistant turn from a local llama-server Chat Completions server into the caller-supplied \
             channel.",
            "Legacy: drain a streamed llama-server chat-completion and return the final AssistantMessage.",
            "Re-discover the loaded llama-server model and register it into the iii models catalog. Idempotent.",
        ],
    },
    worker: "provider-llamacpp",
    about: "A local llama-server: streamed turns and the model it has loaded.",
    settings: |config| {
        let own = &config.provider_llamacpp;
        let headers = Duration::from_millis(own.headers_timeout_ms);
        Settings::local(config, &own.default_api_url, own.default_max_tokens, headers)
    },
    quirks: local::QUIRKS,
    known: local::KNOWN,
    offers: |_, _| true,
    local: Some(Local {
        placeholder_key: None,
        models_path: None,
        probe: Some(Probe {
            path: "/props",
            add: add_properties,
        }),
    }),
};

/// The worker.
pub fn worker() -> WorkerDef {
    VENDOR.worker()
}

/// What the server says of itself: the window it was started with, per slot, and whether it has a projector for images.
fn add_properties(properties: &Value, record: &mut Value) {
    let windows = ["/n_ctx", "/default_generation_settings/n_ctx"];
    let mut sizes = windows.iter().filter_map(|at| properties.pointer(at)?.as_u64());
    if let Some(window) = sizes.find(|tokens| *tokens > 0) {
        record["context_window"] = window.into();
    }
    if let Some(sees) = properties.pointer("/modalities/vision").and_then(Value::as_bool) {
        record["supports_vision"] = sees.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn c08_case_40_the_window_is_the_one_the_server_was_started_with() {
        for (properties, window, vision) in [
            (
                json!({"n_ctx": 16_384, "default_generation_settings": {"n_ctx": 1}}),
                16_384,
                false,
            ),
            (
                json!({"n_ctx": 0, "default_generation_settings": {"n_ctx": 4096}}),
                4_096,
                false,
            ),
            (
                json!({"default_generation_settings": {"n_ctx": 4096}, "modalities": {"vision": true}}),
                4_096,
                true,
            ),
            (json!({"n_ctx": "many", "modalities": 5}), 32_768, false),
            (json!(null), 32_768, false),
        ] {
            let mut record = json!({"context_window": 32_768, "supports_vision": false});
            add_properties(&properties, &mut record);
            assert_eq!(
                record,
                json!({"context_window": window, "supports_vision": vision}),
                "{properties}"
            );
        }
    }
}
