//! The keys that every provider's section has.

use super::table::Config;

/// What a provider declares when nobody stored anything (contract 08 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderDefaults<'a> {
    /// Address of its chat endpoint.
    pub api_url: &'a str,
    /// Output limit.
    pub max_tokens: u64,
}

/// How many requests a provider gets; none: as many as there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProviderLimits {
    /// At a time.
    pub max_concurrent: Option<u64>,
    /// In any minute.
    pub requests_per_minute: Option<u64>,
}

impl ProviderLimits {
    /// Whether a request may have to wait.
    pub fn is_any(&self) -> bool {
        self.max_concurrent.is_some() || self.requests_per_minute.is_some()
    }
}

impl Config {
    /// The limits of section `provider_<id>`; none for an id without a section.
    pub fn provider_limits(&self, id: &str) -> ProviderLimits {
        macro_rules! of {
            ($section:ident) => {
                ProviderLimits {
                    max_concurrent: self.$section.max_concurrent,
                    requests_per_minute: self.$section.requests_per_minute,
                }
            };
        }
        match id {
            "anthropic" => of!(provider_anthropic),
            "openai" => of!(provider_openai),
            "kimi" => of!(provider_kimi),
            "lmstudio" => of!(provider_lmstudio),
            "llamacpp" => of!(provider_llamacpp),
            _ => ProviderLimits::default(),
        }
    }

    /// The keys of section `provider_<id>`; none for an id without a section.
    pub fn provider_defaults(&self, id: &str) -> Option<ProviderDefaults<'_>> {
        let (api_url, max_tokens) = match id {
            "anthropic" => (
                &self.provider_anthropic.default_api_url,
                self.provider_anthropic.default_max_tokens,
            ),
            "openai" => (
                &self.provider_openai.default_api_url,
                self.provider_openai.default_max_tokens,
            ),
            "kimi" => (
                &self.provider_kimi.default_api_url,
                self.provider_kimi.default_max_tokens,
            ),
            "lmstudio" => (
                &self.provider_lmstudio.default_api_url,
                self.provider_lmstudio.default_max_tokens,
            ),
            "llamacpp" => (
                &self.provider_llamacpp.default_api_url,
                self.provider_llamacpp.default_max_tokens,
            ),
            _ => return None,
        };
        Some(ProviderDefaults { api_url, max_tokens })
    }
}
