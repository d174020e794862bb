//! The two keys that every provider's section has.

use super::table::Config;

/// What a provider declares when nobody stored anything (contract 08 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderDefaults<'a> {
    /// Address of its chat endpoint.
    pub api_url: &'a str,
    /// Output limit.
    pub max_tokens: u64,
}

impl Config {
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
