//! Headers that go out, and headers that came in.

use std::collections::BTreeMap;

use reqwest::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use super::request::{Format, Request};

/// The most that the headers of a response may be, names and values together, in bytes (contract 05 weakness 13).
pub(super) const MOST_BYTES: usize = 64 * 1024;

/// Headers that say where a message ends or what the connection does. They are the client's: one of the caller's could make
/// two requests of one.
const OURS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a page for reading is asked for with.
const READABLE: &str = "text/markdown,text/html;q=0.9,application/xhtml+xml;q=0.9,text/plain;q=0.8,*/*;q=0.5";

/// The headers of the first request.
pub(super) fn outgoing(request: &Request, user_agent: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Names and values were looked at when the request was read.
    let given = request.headers.iter();
    let given = given.filter_map(|(name, value)| Some((HeaderName::try_from(name).ok()?, value)));
    for (name, value) in given.filter(|(name, _)| *name != HOST && !OURS.contains(&name.as_str())) {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    let mut unless_given = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.entry(name).or_insert(value);
        }
    };
    unless_given(USER_AGENT, user_agent);
    if request.json.is_some() {
        unless_given(CONTENT_TYPE, "application/json");
    }
    if request.format == Some(Format::Markdown) {
        unless_given(reqwest::header::ACCEPT, READABLE);
        unless_given(reqwest::header::ACCEPT_LANGUAGE, "en-US,en;q=0.9");
    }
    headers
}

/// Takes out what another host must not see (contract 05 §4.1, weakness 4).
pub(super) fn drop_secrets(headers: &mut HeaderMap) {
    retain(headers, |name| !is_secret(name));
}

/// Takes out what only tells of a body.
pub(super) fn drop_content(headers: &mut HeaderMap) {
    retain(headers, |name| !name.starts_with("content-"));
}

fn retain(headers: &mut HeaderMap, keep: impl Fn(&str) -> bool) {
    let gone: Vec<HeaderName> = headers
        .keys()
        .filter(|name| !keep(name.as_str()))
        .cloned()
        .collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Whether the name of a header, in small letters, says that its value is a secret.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 12] = [
        "authorization",
        "auth-",
        "-auth",
        "cookie",
        "credential",
        "token",
        "secret",
        "session",
        "passw",
        "apikey",
        "access-key",
        "signature",
    ];
    let name = name.replace('_', "-");
    PARTS.iter().any(|part| name.contains(part))
        || name.split('-').any(|word| word == "key" || word == "auth")
}

/// The headers of a response: names in small letters, repeated values joined.
pub(super) fn incoming(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = text(value);
        joined
            .entry(name.as_str().to_owned())
            .and_modify(|values| {
                values.push_str(", ");
                values.push_str(&value);
            })
            .or_insert(value);
    }
    joined
}

/// Bytes of names and values.
pub(super) fn size(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}

/// A value as text: UTF-8, or else each byte a character, as HTTP once had it.
pub(super) fn text(value: &HeaderValue) -> String {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().copied().map(char::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};

    use super::super::request::Incoming;
    use super::*;

    fn sent(payload: Value) -> Vec<(String, String)> {
        let Incoming::Valid(request) = Incoming::read(payload) else {
            panic!("invalid")
        };
        let mut sent: Vec<_> = incoming(&outgoing(&request, "ua/1")).into_iter().collect();
        sent.sort();
        sent
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_caller_decides_but_for_what_frames_the_message() {
        assert_eq!(sent(json!({ "url": "u" })), pairs(&[("user-agent", "ua/1")]));
        let mut headers = serde_json::Map::from_iter([
            ("Host".into(), json!("evil")),
            ("User-Agent".into(), json!("me")),
            ("CONTENT-TYPE".into(), json!("application/vnd.x+json")),
            ("X-A".into(), json!("1")),
        ]);
        for name in OURS {
            headers.insert(name.to_uppercase(), json!("chunked"));
        }
        let expected = [
            ("content-type", "application/vnd.x+json"),
            ("user-agent", "me"),
            ("x-a", "1"),
        ];
        assert_eq!(
            sent(json!({ "url": "u", "json": 1, "headers": headers })),
            pairs(&expected)
        );
    }

    #[test]
    fn a_page_for_reading_is_asked_for_as_one() {
        let expected = [
            ("accept", READABLE),
            ("accept-language", "en-US,en;q=0.9"),
            ("user-agent", "ua/1"),
        ];
        assert_eq!(
            sent(json!({ "url": "u", "format": "markdown" })),
            pairs(&expected)
        );
        let given =
            json!({ "url": "u", "format": "markdown", "headers": { "Accept": "a", "accept-language": "b" } });
        let expected = [("accept", "a"), ("accept-language", "b"), ("user-agent", "ua/1")];
        assert_eq!(sent(given), pairs(&expected));
    }

    #[test]
    fn w4_names_that_say_secret() {
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "cookie2",
            "x-api-key",
            "x_api_key",
            "apikey",
            "x-auth-token",
            "x-auth",
            "x-csrf-token",
            "x-client-secret",
            "x-session-id",
            "x-amz-security-token",
            "x-password",
            "ocp-apim-subscription-key",
            "x-aws-credential",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "accept",
            "user-agent",
            "content-type",
            "x-custom",
            "keyword",
            "authority",
            "if-none-match",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn c05_case_27_repeated_headers_are_joined() {
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", "a=1".parse().unwrap());
        headers.append("X-Latin", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        headers.append("set-cookie", "b=2".parse().unwrap());
        let expected = pairs(&[("set-cookie", "a=1, b=2"), ("x-latin", "café")]);
        assert_eq!(incoming(&headers).into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(size(&headers), 10 + 3 + 7 + 4 + 10 + 3);
    }
}
