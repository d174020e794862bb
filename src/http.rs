//! Outbound HTTP: clients with limits, and how answers of strangers are read.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use jiff::fmt::rfc2822;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, redirect};
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

/// Where JSON of ours is sent, as somebody else said.
#[derive(Debug, Clone)]
pub struct Target {
    method: Method,
    url: Url,
    headers: HeaderMap,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Whether that is 2xx.
    pub is_success: bool,
    /// All of it.
    pub body: Vec<u8>,
}

impl Target {
    /// To connect, whatever the caller's own limit.
    const CONNECT: Duration = Duration::from_secs(10);

    /// Checks a method, a URL and headers. A `content-type` among them replaces that of JSON.
    ///
    /// # Errors
    /// What is wrong with them; no value of a header is shown.
    pub fn new(method: &str, url: &str, headers: &BTreeMap<String, String>) -> Result<Self, String> {
        let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes())
            .map_err(|_| "no HTTP method".to_owned())?;
        let url = Url::parse(url).map_err(|error| format!("url: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("url: scheme {} is not http or https", url.scheme()));
        }
        let mut checked = HeaderMap::new();
        checked.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in headers {
            let header = HeaderName::try_from(name).map_err(|_| format!("header {name}: no header name"))?;
            let value = HeaderValue::try_from(value).map_err(|_| format!("header {name}: bad value"))?;
            checked.insert(header, value);
        }
        Ok(Self {
            method,
            url,
            headers: checked,
        })
    }

    /// Sends a body and reads the answer, which may have `most_bytes`. `beside` are more headers; one whose value cannot be
    /// one is left out. There is no time limit but that for connecting.
    ///
    /// # Errors
    /// No connection, a broken one, or too long an answer.
    pub async fn exchange(
        &self,
        clients: &Clients,
        body: Vec<u8>,
        beside: &[(&'static str, Option<&str>)],
        most_bytes: usize,
    ) -> Result<Answer, String> {
        let client = clients
            .for_url(&self.url, Self::CONNECT)
            .map_err(|error| error.to_string())?;
        let mut headers = self.headers.clone();
        for (name, value) in beside {
            if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
                headers.insert(*name, value);
            }
        }
        let request = client.request(self.method.clone(), self.url.clone());
        let sent = request.headers(headers).body(body).send().await;
        let mut response = sent.map_err(explain)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(explain)? {
            if body.len() + chunk.len() > most_bytes {
                return Err(format!("the answer exceeds the limit of {most_bytes} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: response.status().as_u16(),
            is_success: response.status().is_success(),
            body,
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
