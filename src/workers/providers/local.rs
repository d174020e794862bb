//! Servers of one's own: how their addresses are read, and who gets a key (contract 08 §4, §8).

use url::Url;

use super::access::{Access, Secret};
use super::chat_completions::{Quirks, Reasoning};
use super::records::Known;
use crate::http;

/// Their form of Chat Completions: chat templates want a user, and reasoning back.
pub(super) const QUIRKS: Quirks = Quirks {
    reasoning: Reasoning::WhereKnown,
    sends_is_error: true,
    needs_user_row: true,
    effort: None,
    max_id_chars: None,
};

/// Models nothing else is known of.
pub(super) const KNOWN: Known = Known {
    vision: Some(false),
    ..Known::flat("openai-completions", 32_768)
};

const CHAT: &str = "/chat/completions";

/// The chat endpoint that an address means, whatever part of it was given.
pub(super) fn chat_endpoint(mut url: Url) -> Url {
    let path = url.path().trim_end_matches('/');
    let path = if path.ends_with(CHAT) {
        path.to_owned()
    } else {
        format!("{path}/v1{CHAT}")
    };
    url.set_path(&path);
    url
}

/// A path at the server's root: the chat endpoint without `/v1/chat/completions` or `/api/v0/chat/completions`.
pub(super) fn at_root(endpoint: &Url, path: &str) -> Url {
    let mut url = endpoint.clone();
    let chat = endpoint.path().trim_end_matches('/');
    let base = chat.strip_suffix(CHAT).unwrap_or(chat);
    let root = match base.rsplit_once('/') {
        Some((before, version)) if is_version(version) => before.strip_suffix("/api").unwrap_or(before),
        _ => base,
    };
    url.set_path(&format!("{root}{path}"));
    url
}

/// `v1`, `v0` and so on.
fn is_version(part: &str) -> bool {
    part.strip_prefix('v')
        .is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
}

/// The access with the placeholder in the place of a missing key, for a server of this machine only.
pub(super) fn with_key(access: &Access, id: &str, placeholder: Option<&str>) -> Access {
    let mut access = access.clone();
    if access.secret.is_some() {
        return access;
    }
    if http::is_loopback(&access.url) {
        access.secret = placeholder.map(|key| Secret::ApiKey(key.to_owned().into()));
    } else {
        let code = format!("{id}_auth_omitted_nonloopback");
        tracing::warn!(
            code,
            host = access.url.host_str(),
            "no key for a server that is not of this machine"
        );
    }
    access
}

/// Prompts that leave the machine are worth a line, without what an address may hide.
pub(super) fn warn_of_remote(id: &str, address: &str) {
    let Ok(url) = Url::parse(address) else { return };
    if !http::is_loopback(&url) {
        let code = format!("{id}_api_url_remote");
        tracing::warn!(
            code,
            origin = url.origin().ascii_serialization(),
            "the default address is not of this machine"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use secrecy::ExposeSecret;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn any_part_of_an_address_means_its_chat_endpoint() {
        for (given, expected) in [
            ("http://h:1", "http://h:1/v1/chat/completions"),
            ("http://h:1/", "http://h:1/v1/chat/completions"),
            (
                "http://h:1/v1/chat/completions///",
                "http://h:1/v1/chat/completions",
            ),
            ("http://h/proxy?key=1", "http://h/proxy/v1/chat/completions?key=1"),
            (
                "http://h/api/v0/chat/completions?key=a/b/",
                "http://h/api/v0/chat/completions?key=a/b/",
            ),
        ] {
            assert_eq!(chat_endpoint(url(given)).as_str(), expected);
        }
    }

    #[test]
    fn the_root_is_without_version() {
        for (endpoint, expected) in [
            ("http://h:1/v1/chat/completions", "http://h:1/props"),
            ("http://h:1/api/v0/chat/completions", "http://h:1/props"),
            ("http://h:1/x/v1/chat/completions", "http://h:1/x/props"),
            ("http://h:1/chat/completions/", "http://h:1/props"),
            ("http://h:1/vx/chat/completions?k=1", "http://h:1/vx/props?k=1"),
        ] {
            assert_eq!(at_root(&url(endpoint), "/props").as_str(), expected, "{endpoint}");
        }
    }

    #[test]
    fn c08_weakness_12_a_placeholder_never_leaves_the_machine() {
        let key = |host: &str, secret: Option<&str>| {
            let access = Access {
                url: url(&format!("http://{host}/v1/chat/completions")),
                secret: secret.map(|key| Secret::ApiKey(key.to_owned().into())),
                max_tokens: None,
            };
            let secret = with_key(&access, "lmstudio", Some("lm-studio")).secret;
            secret.map(|secret| secret.text().expose_secret().to_owned())
        };
        for host in ["localhost", "a.localhost", "127.0.0.1:9", "127.9.9.9", "[::1]:1"] {
            assert_eq!(key(host, None).as_deref(), Some("lm-studio"), "{host}");
        }
        for host in ["192.168.0.2", "localhost.evil.example", "[::2]"] {
            assert_eq!(key(host, None), None, "{host}");
            assert_eq!(key(host, Some("own")).as_deref(), Some("own"));
        }
    }
}
