//! The five providers of this program, declared from the start (contract 09 B3): nobody ever sees the registry without
//! them, and their schema is written once.

use crate::config::Config;
use crate::model::api::provider::{Declaration, Defaults};

/// A provider of this program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Builtin {
    /// Id.
    pub(super) id: &'static str,
    display_name: &'static str,
    credential_env_var: &'static str,
    /// Default address and default output limit. The local ones declare no address: theirs depends on the environment
    /// and is the provider's own business (contract 08 §4).
    defaults: fn(&Config) -> (Option<&str>, u64),
}

/// In the order in which they are listed.
pub(super) const BUILTIN: [Builtin; 5] = [
    Builtin {
        id: "anthropic",
        display_name: "anthropic",
        credential_env_var: "ANTHROPIC_API_KEY",
        defaults: |config| {
            let section = &config.provider_anthropic;
            (Some(&section.default_api_url), section.default_max_tokens)
        },
    },
    Builtin {
        id: "openai",
        display_name: "openai",
        credential_env_var: "OPENAI_API_KEY",
        defaults: |config| {
            let section = &config.provider_openai;
            (Some(&section.default_api_url), section.default_max_tokens)
        },
    },
    Builtin {
        id: "kimi",
        display_name: "kimi (moonshot)",
        credential_env_var: "MOONSHOT_API_KEY",
        defaults: |config| {
            let section = &config.provider_kimi;
            (Some(&section.default_api_url), section.default_max_tokens)
        },
    },
    Builtin {
        id: "lmstudio",
        display_name: "lm studio",
        credential_env_var: "LMSTUDIO_API_KEY",
        defaults: |config| (None, config.provider_lmstudio.default_max_tokens),
    },
    Builtin {
        id: "llamacpp",
        display_name: "llama.cpp",
        credential_env_var: "LLAMACPP_API_KEY",
        defaults: |config| (None, config.provider_llamacpp.default_max_tokens),
    },
];

impl Builtin {
    /// The declaration under the settings in force.
    pub(super) fn declaration(&self, config: &Config) -> Declaration {
        let (api_url, max_tokens) = (self.defaults)(config);
        Declaration {
            id: self.id.into(),
            display_name: Some(self.display_name.into()),
            credential_env_var: Some(self.credential_env_var.into()),
            config_schema: None,
            defaults: Some(Defaults {
                api_url: api_url.map(str::to_owned),
                max_tokens: u32::try_from(max_tokens).ok().map(f64::from),
            }),
            supports_model_listing: true,
        }
    }
}
