//! What a span may say about a payload: its ids, and its content without secrets (contract 01 §8.8).

use serde_json::{Map, Value};

/// What stands in the place of a secret.
pub(super) const REDACTED: &str = "[REDACTED]";

/// Deeper values are cut off; the parsers in use stop at 128 themselves.
const MAX_DEPTH: usize = 128;

/// Marks a payload that was cut.
const CUT: &str = "…[truncated]";

/// A key that contains one of these holds a secret.
const SECRET_PARTS: &[&str] = &[
    "api_key",
    "apikey",
    "api-key",
    "password",
    "secret",
    "credential",
    "authorization",
    "auth_token",
    "access_token",
    "refresh_token",
    "bearer",
    "private_key",
    "client_secret",
];

/// Longest id that is taken over.
const MAX_ID_CHARS: usize = 128;

/// Whether the value under this key must not be shown.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key == "token"
        || key.ends_with("_token")
        || key.ends_with("-token")
        || SECRET_PARTS.iter().any(|part| key.contains(part))
}

/// A copy in which everything under a secret's key is `[REDACTED]`, at any depth.
pub fn redact(value: &Value) -> Value {
    redact_at(value, 0)
}

fn redact_at(value: &Value, depth: usize) -> Value {
    match value {
        Value::Object(_) | Value::Array(_) if depth >= MAX_DEPTH => CUT.into(),
        Value::Object(entries) => {
            let redacted = entries.iter().map(|(key, value)| {
                let shown = if is_secret_key(key) {
                    REDACTED.into()
                } else {
                    redact_at(value, depth + 1)
                };
                (key.clone(), shown)
            });
            Value::Object(redacted.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(|item| redact_at(item, depth + 1)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// The redacted payload as JSON text, cut to `max_bytes` at a character's start; the flag says whether it was cut.
pub fn payload_text(value: &Value, max_bytes: Option<usize>) -> (String, bool) {
    let mut text = redact(value).to_string();
    let Some(max_bytes) = max_bytes.filter(|max_bytes| text.len() > *max_bytes) else {
        return (text, false);
    };
    text.truncate(text.floor_char_boundary(max_bytes));
    text.push_str(CUT);
    (text, true)
}

/// `session_id` and `message_id` of a payload: of its `body` if that is an object, else of itself; if it has neither, of
/// the `payload` in the same place. An id is 1 to 128 printable ASCII characters; anything else counts as absent.
pub fn ids_of(payload: &Value) -> (Option<String>, Option<String>) {
    let holder = payload
        .get("body")
        .filter(|body| body.is_object())
        .unwrap_or(payload);
    match (id(holder, "session_id"), id(holder, "message_id")) {
        (None, None) => match holder.get("payload") {
            Some(nested) => (id(nested, "session_id"), id(nested, "message_id")),
            None => (None, None),
        },
        found => found,
    }
}

fn id(holder: &Value, name: &str) -> Option<String> {
    let id = holder.get(name)?.as_str()?;
    let is_valid =
        (1..=MAX_ID_CHARS).contains(&id.len()) && id.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    is_valid.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    #[test]
    fn c01_case_21_telemetry_ids() {
        let long = "m".repeat(200);
        for (payload, session, message) in [
            (
                json!({"body": {"function_id": "x", "payload": {"session_id": "s3", "message_id": "m3"}}}),
                Some("s3"),
                Some("m3"),
            ),
            (
                json!({"body": {"session_id": "", "message_id": long}}),
                None,
                None,
            ),
            (json!({"session_id": "a\r\nb"}), None, None),
            (
                json!({"session_id": "s", "payload": {"message_id": "m"}}),
                Some("s"),
                None,
            ),
            (json!({"body": "text", "message_id": "m"}), None, Some("m")),
            (json!({"body": {}, "session_id": "outside"}), None, None),
            (json!("text"), None, None),
        ] {
            let found = ids_of(&payload);
            assert_eq!(
                found,
                (session.map(str::to_owned), message.map(str::to_owned)),
                "{payload}"
            );
        }
    }

    #[test]
    fn c01_case_23_redaction() {
        let payload = json!({"auth": {"api_key": "k"}, "max_tokens": 5, "user_token": "t"});
        let expected =
            json!({"auth": {"api_key": "[REDACTED]"}, "max_tokens": 5, "user_token": "[REDACTED]"});
        assert_eq!(redact(&payload), expected);
    }

    #[test]
    fn redaction_covers_subtrees_lists_and_spellings() {
        let payload = json!([{"Authorization": {"a": [1]}}, {"TOKEN": 1}, {"tokens": 1}, {"x-Token": 1}, {"myApiKey": 1}]);
        let expected = json!([
            {"Authorization": "[REDACTED]"},
            {"TOKEN": "[REDACTED]"},
            {"tokens": 1},
            {"x-Token": "[REDACTED]"},
            {"myApiKey": "[REDACTED]"},
        ]);
        assert_eq!(redact(&payload), expected);
    }

    #[test]
    fn a_very_deep_value_is_cut_not_followed() {
        let deep = (0..2_000).fold(json!("end"), |inner, _| json!([inner]));
        let text = redact(&deep).to_string();
        assert_eq!(text, format!("{}\"{CUT}\"{}", "[".repeat(128), "]".repeat(128)));
    }

    #[test]
    fn a_payload_is_cut_between_characters() {
        assert_eq!(payload_text(&json!("äb"), None), ("\"äb\"".into(), false));
        assert_eq!(payload_text(&json!("äb"), Some(5)), ("\"äb\"".into(), false));
        assert_eq!(
            payload_text(&json!("äb"), Some(2)),
            ("\"…[truncated]".into(), true)
        );
    }
}
