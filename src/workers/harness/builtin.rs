//! The five providers of this program, declared from the start (contract 09 B3): nobody ever sees the registry without
//! them, and their schema is written once.

use crate::config::Config;
use crate::model::api::provider::{Declaration, Defaults};

/// A provider of this program.
#[derive(Debug)]
pub(super) struct Builtin {
    /// Id.
    pub(super) id: &'static str,
    display_name: &'static str,
    credential_env_var: &'static str,
    /// Whether the default address is part of the declaration. That of the local ones depends on the environment and is
    /// the provider's own business (contract 08 §4).
    declares_url: bool,
}

/// In the order in which they are listed.
pub(super) const BUILTIN: [Builtin; 5] = [
    Builtin {
        id: "anthropic",
        display_name: "anthropic",
        credential_env_var: "ANTHROPIC_API_KEY",
        declares_url: true,
    },
    Builtin {
        id: "openai",
        display_name: "openai",
        credential_env_var: "OPENAI_API_KEY",
        declares_url: true,
    },
    Builtin {
        id: "kimi",
        display_name: "kimi (moonshot)",
        credential_env_var: "MOONSHOT_API_KEY",
        declares_url: true,
    },
    Builtin {
        id: "lmstudio",
        display_name: "lm studio",
        credential_env_var: "LMSTUDIO_API_KEY",
        declares_url: false,
    },
    Builtin {
        id: "llamacpp",
        display_name: "llama.cpp",
        credential_env_var: "LLAMACPP_API_KEY",
        declares_url: false,
    },
];

impl Builtin {
    /// The declaration under the settings in force.
    pub(super) fn declaration(&self, config: &Config) -> Declaration {
        let defaults = config.provider_defaults(self.id).map(|defaults| Defaults {
            api_url: self.declares_url.then(|| defaults.api_url.to_owned()),
            max_tokens: u32::try_from(defaults.max_tokens).ok().map(f64::from),
        });
        Declaration {
            id: self.id.into(),
            display_name: Some(self.display_name.into()),
            credential_env_var: Some(self.credential_env_var.into()),
            config_schema: None,
            defaults,
            supports_model_listing: true,
        }
    }
}
