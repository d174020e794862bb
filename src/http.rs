//! Outbound HTTP: clients with limits, and how answers of strangers are read.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use jiff::fmt::rfc2822;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, redirect};
use url::{Host, Url};

use crate::error::{Error, Result};

/// Clients for one connect timeout. A client owns a connection pool, so it is kept as long as the setting holds.
#[derive(Debug, Default)]
pub struct Clients(Mutex<Option<Built>>);

#[derive(Debug, Clone)]
struct Built {
    connect_timeout: Duration,
    /// Honours the usual proxy variables.
    proxied: Client,
    /// For this machine's own servers, which no proxy can reach.
    direct: Client,
}

impl Clients {
    /// The client for a server. It follows no redirects: a credential must not travel to another place.
    ///
    /// # Errors
    /// The TLS library could not be set up.
    pub fn for_url(&self, url: &Url, connect_timeout: Duration) -> Result<Client> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let built = match slot.take() {
            Some(built) if built.connect_timeout == connect_timeout => built,
            _ => Built::new(connect_timeout)?,
        };
        let client = if is_loopback(url) {
            built.direct.clone()
        } else {
            built.proxied.clone()
        };
        *slot = Some(built);
        Ok(client)
    }
}

impl Built {
    fn new(connect_timeout: Duration) -> Result<Self> {
        let builder = || {
            Client::builder()
                .connect_timeout(connect_timeout)
                .redirect(redirect::Policy::none())
                .user_agent(concat!("harness/", env!("CARGO_PKG_VERSION")))
        };
        let failed = |error: reqwest::Error| Error::Unavailable(format!("HTTP client: {error}"));
        Ok(Self {
            connect_timeout,
            proxied: builder().build().map_err(failed)?,
            direct: builder().no_proxy().build().map_err(failed)?,
        })
    }
}

/// Whether a URL points to this machine: `localhost`, `*.localhost`, `127.0.0.0/8`, `::1` (contract 08 §4).
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

/// Reads at most `cap_bytes` of a body, and no longer than `limit`; what has arrived by then is the answer.
pub async fn body_up_to(response: reqwest::Response, cap_bytes: usize, limit: Duration) -> Vec<u8> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    let read = async {
        while let Some(Ok(chunk)) = chunks.next().await {
            let room = cap_bytes - body.len();
            body.extend(chunk.iter().take(room));
            if body.len() == cap_bytes {
                break;
            }
        }
    };
    // Whether it ended or ran out of time, `body` holds what there is.
    drop(tokio::time::timeout(limit, read).await);
    body
}

/// What `retry-after` asks for, in seconds or as a date; a date in the past is zero.
pub fn retry_after(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = rfc2822::parse(text).ok()?.timestamp().as_millisecond();
    Some(Duration::from_millis(
        u64::try_from(at.saturating_sub(now_ms)).unwrap_or(0),
    ))
}

/// An error of the client with its causes, without the URL, which may carry a key.
pub fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())])
    }

    #[test]
    fn w4_retry_after_in_seconds_and_as_a_date() {
        let now_ms = 784_111_777_000; // Sun, 06 Nov 1994 08:49:37 GMT
        let cases = [
            ("7", Some(7_000)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3_000)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(retry_after(&headers(text), now_ms), expected, "{text}");
        }
    }

    #[test]
    fn loopback_hosts() {
        for (url, expected) in [
            ("http://localhost:1/", true),
            ("http://a.localhost/", true),
            ("http://127.9.9.9/", true),
            ("http://[::1]:8/", true),
            ("http://localhost.example/", false),
            ("http://128.0.0.1/", false),
            ("https://api.openai.com/", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn one_client_per_setting() {
        let clients = Clients::default();
        let url = Url::parse("http://127.0.0.1/").unwrap();
        for ms in [1, 1, 2] {
            clients.for_url(&url, Duration::from_millis(ms)).unwrap();
        }
        let built = clients.0.lock().unwrap();
        assert_eq!(built.as_ref().unwrap().connect_timeout, Duration::from_millis(2));
    }
}
