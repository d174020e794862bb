//! What `web::fetch` answers (contract 05 §3).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::request::ResponseFormat;
use crate::model::lenient;

/// The answer of a call. There is always one: whatever goes wrong is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Reply {
    /// A response was received, whatever its status.
    Answer(Box<Answer>),
    /// There was none.
    Failure(Failure),
}

/// A response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// `true`.
    pub ok: bool,
    /// HTTP status, such as 404.
    pub status: u16,
    /// Reason phrase, as the server put it.
    pub status_text: String,
    /// Names in small letters; values of a repeated header are joined with `, `.
    pub headers: BTreeMap<String, String>,
    /// Text, or base64 of the bytes.
    pub body: String,
    /// The body as JSON: with `response_format: "json"`, when it is complete and is JSON. May be null.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::present"
    )]
    pub json: Option<Value>,
    /// Why a complete body is no JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parse_error: Option<String>,
    /// The format in force.
    pub response_format: ResponseFormat,
    /// Whether there was more than `max_bytes`.
    pub bytes_truncated: bool,
    /// URLs that redirected, in order; absent when none did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect_chain: Vec<String>,
    /// The URL that answered.
    pub final_url: String,
    /// With `format`: the media type of the response, without parameters; empty when it named none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// With `format`: whether the body was converted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transformed: Option<bool>,
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// `false`.
    pub ok: bool,
    /// What to branch on.
    pub error: ErrorCode,
    /// For people and models.
    pub message: String,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request has not the shape it must have.
    InvalidPayload,
    /// The URL cannot be fetched, or a redirect leads to one that cannot.
    InvalidUrl,
    /// The host has an address that may not be reached, or none.
    BlockedHost,
    /// The time was up.
    Timeout,
    /// More redirects than allowed.
    TooManyRedirects,
    /// No connection, a broken one, or an answer that is no proper HTTP.
    TransportError,
    /// Reserved: what is too large is cut instead.
    TooLarge,
}

impl ErrorCode {
    /// As on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidPayload => "invalid_payload",
            Self::InvalidUrl => "invalid_url",
            Self::BlockedHost => "blocked_host",
            Self::Timeout => "timeout",
            Self::TooManyRedirects => "too_many_redirects",
            Self::TransportError => "transport_error",
            Self::TooLarge => "too_large",
        }
    }
}

impl Failure {
    fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            ok: false,
            error,
            message: message.into(),
        }
    }

    pub(super) fn invalid_payload(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidPayload, message)
    }

    pub(super) fn invalid_url(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidUrl, message)
    }

    pub(super) fn blocked(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BlockedHost, message)
    }

    pub(super) fn timeout(limit_ms: u64) -> Self {
        Self::new(
            ErrorCode::Timeout,
            format!("no complete answer within {limit_ms} ms"),
        )
    }

    pub(super) fn too_many_redirects(most: usize) -> Self {
        Self::new(
            ErrorCode::TooManyRedirects,
            format!("more than {most} redirects were not followed (web.max_redirects)"),
        )
    }

    pub(super) fn transport(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::TransportError, message)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_those_on_the_wire() {
        for code in [
            ErrorCode::InvalidPayload,
            ErrorCode::InvalidUrl,
            ErrorCode::BlockedHost,
            ErrorCode::Timeout,
            ErrorCode::TooManyRedirects,
            ErrorCode::TransportError,
            ErrorCode::TooLarge,
        ] {
            assert_eq!(json!(code), json!(code.name()));
        }
    }

    #[test]
    fn replies_are_read_as_they_are_written() {
        let answer = json!({
            "ok": true, "status": 200, "status_text": "OK", "headers": {}, "body": "null", "json": null,
            "response_format": "json", "bytes_truncated": false, "final_url": "http://h/",
        });
        let failure = json!({ "ok": false, "error": "timeout", "message": "m" });
        for value in [answer, failure] {
            let reply: Reply = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(json!(reply), value);
        }
    }
}
