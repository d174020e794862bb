//! `web::fetch`: one HTTP request for an agent, with caps on size and time (contract 05).
//!
//! Request: see [`Request`]. Answer: `{ok: true, status, …}` for every response, 404 and 500 too, or
//! `{ok: false, error, message}`; the call itself never fails.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::ext::ReasonPhrase;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use super::body::Body;
use super::hops::{Arrived, Terms, Trail};
use super::reply::{Answer, Failure, Reply};
use super::request::{Format, Incoming, Request, ResponseFormat};
use super::{Web, body, headers, hops, markdown, target, text};
use crate::bus::{Cx, Function};
use crate::config;
use crate::error::Result;
use crate::telemetry::name;

/// The most HTML that is converted, in bytes (contract 05 §6).
const HTML_BYTES: usize = 1_048_576;

/// The most of a converted page, unless the caller says, in bytes (contract 05 §6).
const PAGE_BYTES: usize = 262_144;

/// Deepest JSON that goes into a reply: an engine reads no more than 128 levels, some of which are its own.
const JSON_DEPTH: usize = 100;

/// Fetches a URL.
#[derive(Debug)]
pub struct Fetch;

impl Function for Fetch {
    const ID: &'static str = "web::fetch";
    const DESCRIPTION: &'static str = "Fetch a URL over HTTP(S) and return the response as a structured envelope. Use this INSTEAD of `shell::exec` \
        with curl for any HTTP request — it returns {ok, status, headers, body} as JSON, enforces size/timeout \
        caps, and blocks private / cloud-metadata / link-local addresses server-side (SSRF guard; loopback is \
        allowed by default for harness dev workflows). For JSON: pass `json: {...}` (auto-stringifies + sets \
        content-type) and `response_format: \"json\"` (auto-parses response into the `json` field). Method is case-\
        insensitive. On failure returns `{ok:false, error, message}` where `error` is one of: invalid_payload, \
        invalid_url, blocked_host, timeout, too_many_redirects, transport_error. Branch on `error`, not on text.";
    type State = Web;
    type Request = Incoming;
    type Response = Reply;

    fn decode(payload: Value) -> Result<Incoming> {
        Ok(Incoming::read(payload))
    }

    async fn call(cx: &Cx<Web>, incoming: Incoming) -> Result<Reply> {
        let begun = Instant::now();
        let config = cx.config();
        let mut trail = Trail::default();
        let mut method = "";
        let outcome = match &incoming {
            Incoming::Invalid(problems) => Err(Failure::invalid_payload(problems.as_str())),
            Incoming::Valid(request) => {
                method = &request.method;
                within_limits(cx, &config.web, request, &mut trail).await
            }
        };
        tell(cx, method, &trail, &outcome, begun.elapsed());
        Ok(match outcome {
            Ok(answer) => Reply::Answer(Box::new(answer)),
            Err(failure) => Reply::Failure(failure),
        })
    }
}

/// One deadline over all of it: the wait for a place, names, hops, body and conversion (contract 05 weakness 1).
async fn within_limits(
    cx: &Cx<Web>,
    config: &config::Web,
    request: &Request,
    trail: &mut Trail,
) -> Result<Answer, Failure> {
    let limit_ms = request.timeout_ms.unwrap_or(u64::MAX).min(config.max_timeout_ms);
    let terms = Terms {
        config,
        limit: Duration::from_millis(limit_ms),
        own_ports: hops::ports(&cx.bus().listens_on()),
    };
    let work = Box::pin(fetch(cx, &terms, request, trail));
    tokio::select! {
        done = tokio::time::timeout(terms.limit, work) => done.unwrap_or_else(|_| Err(Failure::timeout(limit_ms))),
        () = cx.context().cancelled() => Err(Failure::transport("the call was stopped")),
    }
}

async fn fetch(
    cx: &Cx<Web>,
    terms: &Terms<'_>,
    request: &Request,
    trail: &mut Trail,
) -> Result<Answer, Failure> {
    let place = cx.state().slots.take(terms.config.max_concurrent).await;
    let arrived = hops::follow(&cx.state().clients, terms, request, trail).await?;
    let answer = answer(terms.config, request, arrived).await;
    drop(place);
    answer
}

/// Makes the reply of a response.
async fn answer(config: &config::Web, request: &Request, arrived: Arrived) -> Result<Answer, Failure> {
    let Arrived {
        response,
        url,
        redirect_chain,
    } = arrived;
    let is_page = request.format == Some(Format::Markdown);
    let format = if is_page {
        ResponseFormat::Text
    } else {
        request.response_format
    };
    let status = response.status();
    let status_text = match response.extensions().get::<ReasonPhrase>() {
        Some(reason) => reason.as_bytes().iter().copied().map(char::from).collect(),
        None => status.canonical_reason().unwrap_or_default().to_owned(),
    };
    let headers = headers::incoming(response.headers());
    let content_type = headers.get(CONTENT_TYPE.as_str()).cloned().unwrap_or_default();

    let most = most_bytes(config, request);
    // What is converted shrinks: the cap of the caller is for what is left.
    let cap = if is_page {
        config.max_response_bytes.min(HTML_BYTES)
    } else {
        most
    };
    let unpack = format != ResponseFormat::Base64;
    let body = body::read(response, cap, unpack)
        .await
        .map_err(Failure::transport)?;
    let mut answer = Answer {
        ok: true,
        status: status.as_u16(),
        status_text,
        headers,
        body: String::new(),
        json: None,
        parse_error: None,
        response_format: format,
        bytes_truncated: body.is_truncated,
        redirect_chain,
        final_url: target::shown(&url),
        content_type: None,
        transformed: None,
    };
    if is_page {
        fill_with_page(&mut answer, body, &content_type, most).await;
    } else {
        fill(&mut answer, body, &content_type);
    }
    Ok(answer)
}

/// Bytes of the body that the caller gets.
fn most_bytes(config: &config::Web, request: &Request) -> usize {
    let default = match request.format {
        Some(Format::Markdown) => PAGE_BYTES,
        None => usize::MAX,
    };
    let asked = request
        .max_bytes
        .map(|asked| usize::try_from(asked).unwrap_or(usize::MAX));
    asked.unwrap_or(default).min(config.max_response_bytes)
}

/// Puts the body in as it was asked for.
fn fill(answer: &mut Answer, body: Body, content_type: &str) {
    if answer.response_format == ResponseFormat::Base64 {
        answer.body = BASE64.encode(body.bytes);
        return;
    }
    answer.body = text::decode(body.bytes, content_type, body.is_truncated);
    if answer.response_format == ResponseFormat::Json && !body.is_truncated {
        match parse(&answer.body) {
            Ok(json) => answer.json = Some(json),
            Err(error) => answer.parse_error = Some(error),
        }
    }
}

fn parse(text: &str) -> Result<Value, String> {
    let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if depth(&json) > JSON_DEPTH {
        return Err(format!("nested deeper than {JSON_DEPTH} levels"));
    }
    Ok(json)
}

/// Levels of arrays and objects; the parser bounds them.
fn depth(json: &Value) -> usize {
    match json {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Puts the body in for reading: HTML as Markdown, everything else as text.
async fn fill_with_page(answer: &mut Answer, body: Body, content_type: &str, most: usize) {
    let media_type = text::media_type(content_type);
    answer.body = text::decode(body.bytes, content_type, body.is_truncated);
    let mut transformed = false;
    if matches!(media_type.as_str(), "text/html" | "application/xhtml+xml") {
        let html = answer.body.clone();
        // A converter that takes long, or fails at a page nobody thought of, takes nothing else with it.
        let converted = tokio::task::spawn_blocking(move || markdown::of(&html)).await;
        if let Ok(Some(page)) = converted {
            answer.body = page;
            transformed = true;
        }
    }
    answer.bytes_truncated |= text::cut(&mut answer.body, most);
    answer.content_type = Some(media_type);
    answer.transformed = Some(transformed);
}

/// One log line per call, and a count. The URL may hold a key: only its host is told.
fn tell(cx: &Cx<Web>, method: &str, trail: &Trail, outcome: &Result<Answer, Failure>, took: Duration) {
    let (kind, status, truncated) = match outcome {
        Ok(answer) => (class(answer.status), Some(answer.status), answer.bytes_truncated),
        Err(failure) => (failure.error.name(), None, false),
    };
    cx.ports()
        .metrics
        .counter(name::WEB_FETCHES_TOTAL, &[("outcome", kind)])
        .increment(1);
    let (host, redirects, ms) = (&trail.host, trail.redirects, hops::limit_ms(took));
    tracing::info!(
        host,
        method,
        outcome = kind,
        status,
        truncated,
        redirects,
        ms,
        "fetched"
    );
}

fn class(status: u16) -> &'static str {
    match status / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    #[test]
    fn c05_case_24_what_is_json_and_what_is_not() {
        assert_eq!(parse("null"), Ok(Value::Null));
        assert_eq!(parse("{\"a\":[1]}"), Ok(json!({ "a": [1] })));
        assert!(parse("nope").is_err() && parse("").is_err() && parse("1 2").is_err());
    }

    #[test]
    fn json_that_no_engine_could_read_is_told() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&nested(JSON_DEPTH)).is_ok());
        assert_eq!(
            parse(&nested(JSON_DEPTH + 1)),
            Err("nested deeper than 100 levels".into())
        );
        assert!(parse(&nested(100_000)).is_err());
    }

    #[test]
    fn c05_case_16_a_caller_can_only_go_lower() {
        let config = config::Web::default();
        let of = |payload: Value| match Incoming::read(payload) {
            Incoming::Valid(request) => most_bytes(&config, &request),
            Incoming::Invalid(problems) => panic!("{problems}"),
        };
        assert_eq!(of(json!({ "url": "u" })), 5_242_880);
        assert_eq!(of(json!({ "url": "u", "max_bytes": 999_999_999 })), 5_242_880);
        assert_eq!(of(json!({ "url": "u", "max_bytes": 7 })), 7);
        assert_eq!(of(json!({ "url": "u", "format": "markdown" })), 262_144);
        assert_eq!(
            of(json!({ "url": "u", "format": "markdown", "max_bytes": 300_000 })),
            300_000
        );
    }
}
