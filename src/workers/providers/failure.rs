//! Why a turn failed, and text about it that is safe to show.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::json;
use super::overflow::kind_of_text;
use crate::model::ErrorKind;
use crate::telemetry::redact;

/// Longest `error_message`, in characters (contract 08 §9).
const MAX_MESSAGE_CHARS: usize = 1024;
/// The same for the body of a server of one's own.
const MAX_LOCAL_BODY_CHARS: usize = 256;

/// A failed attempt or turn. The message is as the outside gave it until [`presentable`] has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) message: String,
    /// All that was told, where the message is a part of it.
    pub(super) whole: Option<String>,
    pub(super) retry: Retry,
}

/// Whether another attempt may help, while nothing was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// It would fail again, or cost too much time.
    Never,
    /// After at least this long.
    After(Duration),
}

/// Of an `error` event that says nothing.
const NO_TEXT: &str = "the server reported an error without a text";

/// An answer without a single event of ours.
const NOT_SSE: &str = "non-SSE body";

impl Failure {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            whole: None,
            retry: Retry::Never,
        }
    }

    pub(super) fn transient(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Transient, message)
    }

    /// The same, worth another attempt.
    #[must_use]
    pub(super) fn retryable(mut self) -> Self {
        self.retry = Retry::After(Duration::ZERO);
        self
    }

    /// The same with more text.
    #[must_use]
    pub(super) fn noted(&self, note: &str) -> Self {
        Self {
            message: format!("{}{note}", self.message),
            ..self.clone()
        }
    }

    /// The body ended before the model did (contract 08 §6.4). `events`: how many could be read; `output`: tokens so far.
    pub(super) fn unfinished(events: u64, output: Option<u64>) -> Self {
        if events == 0 {
            return Self::transient(NOT_SSE);
        }
        let tokens = output.filter(|tokens| *tokens > 0);
        let tokens = tokens.map_or_else(String::new, |n| format!(" after {n} output tokens"));
        Self::transient(format!("stream closed mid-response{tokens}"))
    }

    /// All that is known of it, for those who look for a text.
    pub(super) fn told(&self) -> &str {
        self.whole.as_deref().unwrap_or(&self.message)
    }

    /// Whether the answer was no event stream at all.
    pub(super) fn is_not_sse(&self) -> bool {
        self.message == NOT_SSE
    }

    /// An `error` frame inside a stream; `None` when the frame holds none. The text alone decides the kind.
    pub(super) fn from_frame(frame: &Value) -> Option<Self> {
        let error = frame.get("error")?;
        let message = match error {
            Value::String(text) if !text.is_empty() => text.clone(),
            Value::Object(members) if !members.is_empty() => {
                member_text(error).map_or_else(|| redact(error).to_string(), str::to_owned)
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => return None,
        };
        // The code often says what the message does not.
        let whole = error.to_string();
        let kind = kind_of_text(&whole).unwrap_or(ErrorKind::Transient);
        Some(Self {
            whole: Some(whole),
            ..Self::new(kind, message)
        })
    }

    /// The data of an event that is named `error`: the error itself, or an object that holds it; JSON or not.
    pub(super) fn from_error_event(data: &str) -> Self {
        let json = json::parse(data);
        let known = json
            .as_ref()
            .and_then(|json| Self::from_frame(json).or_else(|| Self::from_frame(&json!({ "error": json }))));
        known.unwrap_or_else(|| {
            let kind = kind_of_text(data).unwrap_or(ErrorKind::Transient);
            Self::new(kind, if data.is_empty() { NO_TEXT } else { data })
        })
    }
}

/// The text of an error body: `error.message` and its relatives when it is JSON, else the body itself.
pub(super) fn message_of_body(body: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let Some(json) = parsed else {
        return body.to_owned();
    };
    let text = match json.get("error") {
        Some(Value::String(text)) => Some(text.as_str()),
        Some(error @ Value::Object(_)) => member_text(error),
        _ => member_text(&json),
    };
    // Without a text the whole is shown, but for what its members' names say is secret.
    text.map_or_else(|| redact(&json).to_string(), str::to_owned)
}

fn member_text(object: &Value) -> Option<&str> {
    ["message", "error_message", "detail"]
        .into_iter()
        .filter_map(|key| object.get(key)?.as_str())
        .find(|text| !text.is_empty())
}

/// The beginning of what a server of one's own answered: such bodies can be whole pages (contract 08 §7).
pub(super) fn excerpt(body: &str, secret: Option<&SecretString>) -> String {
    presentable(body, secret)
        .chars()
        .take(MAX_LOCAL_BODY_CHARS)
        .collect()
}

/// Makes outside text fit for a message or a log: no control characters but tab and line ends, no credential, not long.
pub(super) fn presentable(text: &str, secret: Option<&SecretString>) -> String {
    let printable: String = text
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r'))
        .collect();
    let masked = match secret.map(ExposeSecret::expose_secret) {
        Some(secret) if !secret.is_empty() => printable.replace(secret, "[REDACTED]"),
        _ => printable,
    };
    // Cut last: a cut through the credential would hide it from the mask.
    masked.trim().chars().take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn text_of_error_bodies() {
        for (body, expected) in [
            (r#"{"error":{"message":"bad field","code":1}}"#, "bad field"),
            (r#"{"error":"plain"}"#, "plain"),
            (r#"{"message":"top"}"#, "top"),
            (r#"{"detail":"fastapi"}"#, "fastapi"),
            (r#"{"error":{"message":"","detail":"second"}}"#, "second"),
            (r#"{"odd":1}"#, r#"{"odd":1}"#),
            ("<html>502</html>", "<html>502</html>"),
        ] {
            assert_eq!(message_of_body(body), expected);
        }
    }

    #[test]
    fn frames_with_and_without_an_error() {
        let seen = |frame: Value| Failure::from_frame(&frame).map(|failure| (failure.kind, failure.message));
        assert_eq!(
            seen(json!({"error": {"message": "template failed"}})),
            Some((ErrorKind::Transient, "template failed".into()))
        );
        assert_eq!(
            seen(json!({"error": {"code": "context_length_exceeded", "message": "too big"}})),
            Some((ErrorKind::ContextOverflow, "too big".into()))
        );
        for harmless in [
            json!({}),
            json!({"error": null}),
            json!({"error": {}}),
            json!({"error": ""}),
        ] {
            assert_eq!(Failure::from_frame(&harmless), None);
        }
    }

    #[test]
    fn an_error_event_is_told_whatever_it_holds() {
        for (data, kind, message) in [
            (
                r#"{"code":500,"message":"slot gone"}"#,
                ErrorKind::Transient,
                "slot gone",
            ),
            (r#"{"error":{"message":"inner"}}"#, ErrorKind::Transient, "inner"),
            (r#"{"error":"plain"}"#, ErrorKind::Transient, "plain"),
            (r#""a text""#, ErrorKind::Transient, "a text"),
            (
                "Too many tokens: 9",
                ErrorKind::ContextOverflow,
                "Too many tokens: 9",
            ),
            ("", ErrorKind::Transient, NO_TEXT),
        ] {
            let failure = Failure::from_error_event(data);
            assert_eq!(
                (failure.kind, failure.message.as_str()),
                (kind, message),
                "{data}"
            );
        }
    }

    #[test]
    fn x1_outside_text_is_cleaned_masked_and_cut() {
        let secret = SecretString::from("sk-secret-1".to_owned());
        let text = format!(
            "\u{1b}[31mkey sk-sec\u{0}ret-1 and sk-secret-1{}",
            "é".repeat(2000)
        );
        let shown = presentable(&text, Some(&secret));
        assert!(
            shown.starts_with("[31mkey [REDACTED] and [REDACTED]éé"),
            "{shown}"
        );
        assert_eq!(shown.chars().count(), 1024);
        let at_the_edge = format!("{}sk-secret-1", "x".repeat(1020));
        assert!(!presentable(&at_the_edge, Some(&secret)).contains("sk-"));
    }
}
