//! What `web::fetch` takes (contract 05 §1). A request that is wrong is answered, never refused: all that is wrong with it
//! is told at once.

use std::collections::BTreeMap;

use reqwest::header::{HeaderName, HeaderValue};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::bus::decode;
use crate::model::text::clip;

/// Accepted methods, as they are sent.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Longest part of a name in a message, in characters.
const NAME_CHARS: usize = 64;

/// Most problems that one message tells.
const PROBLEMS: usize = 20;

/// A request as it came: of the right shape, or with what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// Can be tried.
    Valid(Box<Request>),
    /// `<field path>: <problem>`, joined with `; `.
    Invalid(String),
}

/// A request of the right shape.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Request {
    /// Absolute http or https URL.
    #[schemars(length(min = 1))]
    pub url: String,
    /// GET (the default), HEAD, POST, PUT, PATCH, DELETE or OPTIONS, in any letter case.
    #[schemars(default)]
    pub method: String,
    /// Request headers. `host` and those that frame the message are set by the client.
    #[schemars(default)]
    pub headers: BTreeMap<String, String>,
    /// Raw body; not sent with GET and HEAD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Any JSON value, also null, to be sent as the body; wins over `body`, and sets `content-type` unless that is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// Limit of the whole call in ms; at most and by default `web.max_timeout_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub timeout_ms: Option<u64>,
    /// Bytes of the body that are kept; at most and by default `web.max_response_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_bytes: Option<u64>,
    /// Whether redirects are followed; default true.
    #[schemars(default = "yes")]
    pub follow_redirects: bool,
    /// What `body` is, and whether there is a `json` beside it; default `text`.
    #[schemars(default)]
    pub response_format: ResponseFormat,
    /// `markdown`: the page for reading, HTML converted to Markdown. Other values are ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
}

fn yes() -> bool {
    true
}

/// What the body of the reply is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResponseFormat {
    /// Text.
    #[default]
    Text,
    /// The bytes as they came, in base64.
    Base64,
    /// Text, and the JSON it is.
    Json,
}

/// How a page is made readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// HTML becomes Markdown.
    Markdown,
}

impl Incoming {
    /// Reads a payload.
    pub fn read(payload: Value) -> Self {
        if payload.is_null() {
            return Self::not_an_object();
        }
        // Size and depth are looked at here; a wrong shape is ours to tell.
        match decode::<Value>(payload, &[], false) {
            Ok(Value::Object(members)) => Members::new(members).request(),
            Ok(_) => Self::not_an_object(),
            Err(error) => Self::Invalid(format!("<root>: {error}")),
        }
    }

    fn not_an_object() -> Self {
        Self::Invalid("<root>: must be an object".into())
    }
}

/// The members of a payload, taken out one by one.
struct Members {
    left: Map<String, Value>,
    problems: Vec<String>,
}

impl Members {
    fn new(members: Map<String, Value>) -> Self {
        Self {
            left: members,
            problems: Vec::new(),
        }
    }

    fn request(mut self) -> Incoming {
        if !self.left.contains_key("url") {
            self.problem("url", "is required");
        }
        let url = self.take("url", "must be a text that is not empty", |value| {
            text(value).filter(|text| !text.is_empty())
        });
        let method = self.take(
            "method",
            &format!("must be one of {}", METHODS.join(", ")),
            |value| {
                let method = text(value)?.to_ascii_uppercase();
                METHODS.contains(&method.as_str()).then_some(method)
            },
        );
        let headers = self.headers();
        let body = self.take("body", "must be a text", text);
        let json = self.left.remove("json");
        let timeout_ms = self.take("timeout_ms", "must be an integer above 0", |value| {
            positive(&value)
        });
        let max_bytes = self.take("max_bytes", "must be an integer above 0", |value| {
            positive(&value)
        });
        let follow_redirects = self.take("follow_redirects", "must be true or false", |value| {
            value.as_bool()
        });
        let response_format = self.take("response_format", "must be text, base64 or json", read);
        let format = self.left.remove("format").and_then(read);
        if !self.problems.is_empty() {
            return Incoming::Invalid(self.problems.join("; "));
        }
        Incoming::Valid(Box::new(Request {
            url: url.unwrap_or_default(),
            method: method.unwrap_or_else(|| "GET".into()),
            headers,
            body,
            json,
            timeout_ms,
            max_bytes,
            follow_redirects: follow_redirects.unwrap_or(true),
            response_format: response_format.unwrap_or_default(),
            format,
        }))
    }

    fn problem(&mut self, path: &str, problem: &str) {
        if self.problems.len() < PROBLEMS {
            self.problems.push(format!("{path}: {problem}"));
        }
    }

    fn take<T>(&mut self, name: &str, problem: &str, read: impl FnOnce(Value) -> Option<T>) -> Option<T> {
        let found = read(self.left.remove(name)?);
        if found.is_none() {
            self.problem(name, problem);
        }
        found
    }

    /// Headers that can be sent (contract 05 weakness 2). No value is shown: it may be a key.
    fn headers(&mut self) -> BTreeMap<String, String> {
        let object = self.take("headers", "must be an object", |value| match value {
            Value::Object(members) => Some(members),
            _ => None,
        });
        let mut headers = BTreeMap::new();
        for (name, value) in object.unwrap_or_default() {
            let path = format!("headers.{}", clip(&name.escape_debug().to_string(), NAME_CHARS));
            match text(value) {
                None => self.problem(&path, "must be a text"),
                Some(_) if HeaderName::try_from(&name).is_err() => {
                    self.problem(&path, "is no valid header name");
                }
                Some(value) if HeaderValue::try_from(&value).is_err() => {
                    self.problem(&path, "has a character that no header may have");
                }
                Some(value) => {
                    headers.insert(name.to_ascii_lowercase(), value);
                }
            }
        }
        headers
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

/// A whole number above 0, also as `1.0` or beyond what can be counted to.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive and whole, and what is too large is meant to end at the largest"
)]
fn positive(value: &Value) -> Option<u64> {
    let whole = match value.as_u64() {
        Some(whole) => whole,
        None => value
            .as_f64()
            .filter(|number| *number >= 1.0 && number.fract() == 0.0)? as u64,
    };
    (whole > 0).then_some(whole)
}

impl Serialize for Incoming {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Valid(request) => request.serialize(serializer),
            Self::Invalid(_) => serializer.serialize_unit(),
        }
    }
}

impl<'de> Deserialize<'de> for Incoming {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::read)
    }
}

impl JsonSchema for Incoming {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Request::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Request::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn problem(payload: Value) -> String {
        match Incoming::read(payload) {
            Incoming::Invalid(message) => message,
            Incoming::Valid(request) => panic!("{request:?}"),
        }
    }

    #[test]
    fn c05_case_01_no_url_and_no_object() {
        assert_eq!(problem(json!({})), "url: is required");
        for payload in [json!(null), json!("x"), json!(1), json!([{}]), json!(true)] {
            assert_eq!(problem(payload), "<root>: must be an object");
        }
    }

    #[test]
    fn c05_case_02_every_problem_is_told() {
        let payload = json!({
            "url": "", "method": "BREW", "headers": { "a": 1, "a b": "x", "c": "x\ny", "d\r\n": "x" }, "body": 12345,
            "timeout_ms": 0, "max_bytes": 1.5, "follow_redirects": "yes", "response_format": "xml",
        });
        let expected = [
            "url: must be a text that is not empty",
            "method: must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
            "headers.a: must be a text",
            "headers.a b: is no valid header name",
            "headers.c: has a character that no header may have",
            "headers.d\\r\\n: is no valid header name",
            "body: must be a text",
            "timeout_ms: must be an integer above 0",
            "max_bytes: must be an integer above 0",
            "follow_redirects: must be true or false",
            "response_format: must be text, base64 or json",
        ];
        assert_eq!(problem(payload), expected.join("; "));
        for value in [json!(0), json!(-1), json!(1.5), json!("5"), json!(null)] {
            assert_eq!(
                problem(json!({ "url": "http://h/", "timeout_ms": value })),
                "timeout_ms: must be an integer above 0"
            );
        }
    }

    #[test]
    fn what_is_left_out_has_its_default_and_what_is_unknown_is_ignored() {
        let payload =
            json!({ "url": "http://h/", "method": "post", "json": null, "format": "html", "extra": [1] });
        let expected = Request {
            url: "http://h/".into(),
            method: "POST".into(),
            headers: BTreeMap::new(),
            body: None,
            json: Some(Value::Null),
            timeout_ms: None,
            max_bytes: None,
            follow_redirects: true,
            response_format: ResponseFormat::Text,
            format: None,
        };
        assert_eq!(Incoming::read(payload), Incoming::Valid(Box::new(expected)));
    }

    #[test]
    fn whole_numbers_in_every_spelling() {
        for (value, expected) in [
            (json!(1), Some(1)),
            (json!(7.0), Some(7)),
            (json!(1e300), Some(u64::MAX)),
            (json!(u64::MAX), Some(u64::MAX)),
            (json!(0.5), None),
            (json!(-1), None),
            (json!(0), None),
        ] {
            assert_eq!(positive(&value), expected);
        }
    }

    #[test]
    fn a_message_stays_short() {
        let headers: Map<String, Value> = (0..1000)
            .map(|n| (format!("{n} {}", "x".repeat(500)), json!("v")))
            .collect();
        let message = problem(json!({ "url": "u", "headers": headers }));
        assert_eq!(message.matches("is no valid header name").count(), PROBLEMS);
        assert!(message.len() < 3_000);
    }

    proptest! {
        /// Whatever header is accepted can be sent; whatever is not is told.
        #[test]
        fn headers_are_sent_or_told(name in ".{0,12}", value in ".{0,12}") {
            let payload = json!({ "url": "http://h/", "headers": { name.as_str(): value.as_str() } });
            let fits = HeaderName::try_from(&name).is_ok() && HeaderValue::try_from(&value).is_ok();
            let incoming = Incoming::read(payload);
            prop_assert_eq!(matches!(&incoming, Incoming::Valid(_)), fits, "{:?}", incoming);
            prop_assert!(!(fits && (name.contains(['\r', '\n', ' ']) || value.contains(['\r', '\n']))));
        }
    }
}
