//! From JSON of unknown origin to a typed request, with errors that name the member.

use std::any::TypeId;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::text::clip;

/// Deepest nesting accepted; the engine's own frames allow no more.
pub const MAX_DEPTH: usize = 128;

/// Largest payload accepted, in bytes of text and structure; the engine's own frames allow no more.
pub const MAX_PAYLOAD_BYTES: usize = 16 * 1024 * 1024;

/// Longest part of a decoder's complaint that is passed on, in characters.
const MAX_TEXT_CHARS: usize = 128;

/// Added by an engine to the payloads of outside callers (contract 00 §2.4); never reaches a handler.
const CALLER_MEMBER: &str = "_caller_worker_id";

/// Reads a request: size and depth first, then the required strings in order, then the shape.
///
/// A `null` payload counts as `{}`. Unknown members are ignored by the shapes themselves.
pub fn decode<T: DeserializeOwned + 'static>(payload: Value, required: &[&str], unwrap: bool) -> Result<T> {
    let payload = guard(payload)?;
    let object = match payload {
        payload if unwrap => unwrap_body(payload),
        Value::Null => Map::new(),
        Value::Object(object) => object,
        other => {
            if let Some(name) = required.first() {
                return Err(Error::missing_string(name));
            }
            // Only for a function that takes any JSON: another shape would read an array by position.
            if TypeId::of::<T>() == TypeId::of::<Value>() {
                return shape(other);
            }
            return Err(Error::invalid("payload must be a JSON object"));
        }
    };
    for name in required {
        if object
            .get(*name)
            .and_then(Value::as_str)
            .is_none_or(str::is_empty)
        {
            return Err(Error::missing_string(name));
        }
    }
    shape(Value::Object(object))
}

/// Takes out what an engine adds to the payloads of outside callers.
pub fn strip_engine_members(payload: &mut Value) {
    if let Value::Object(members) = payload {
        members.shift_remove(CALLER_MEMBER);
    }
}

fn shape<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let cause = plain(&error.into_inner());
        // Our own checks speak in the contract's words already.
        if path == "." || path == "?" || cause.starts_with("invalid message: ") {
            Error::Invalid(cause)
        } else {
            Error::Invalid(format!("{}: {cause}", clip(&path, MAX_TEXT_CHARS)))
        }
    })
}

/// What a decoder complains about, in words of JSON instead of Rust's, and without more than a glimpse of the value.
pub fn plain(cause: &serde_json::Error) -> String {
    let text = cause.to_string();
    let (found, expected) = match text.rsplit_once(", expected ") {
        Some((found, expected)) => (found, Some(expected)),
        None => (text.as_str(), None),
    };
    // The only complaint that names a type of ours and nothing of the value.
    if found.starts_with("data did not match any variant of untagged enum") {
        return "did not match any variant".to_owned();
    }
    let found = match found {
        "invalid type: map" => "invalid type: object",
        "invalid type: sequence" => "invalid type: array",
        found => found,
    };
    let found = clip(found, MAX_TEXT_CHARS);
    match expected.map(in_json_words) {
        Some(expected) => format!("{found}, expected {}", clip(expected, MAX_TEXT_CHARS)),
        None => found.into_owned(),
    }
}

fn in_json_words(expected: &str) -> &str {
    let one_of_ours = [
        "struct ",
        "internally tagged enum ",
        "adjacently tagged enum ",
        "enum ",
        "tuple ",
    ];
    match expected {
        "a map" => "an object",
        "a sequence" => "an array",
        "string or map" => "a string",
        "unit" => "null",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        name if one_of_ours.iter().any(|kind| name.starts_with(kind)) => "an object",
        words => words,
    }
}

/// The object a payload stands for: its `body` when that is an object, `{}` when it is no object at all.
pub fn unwrap_body(payload: Value) -> Map<String, Value> {
    let Value::Object(mut object) = payload else {
        return Map::new();
    };
    match object.remove("body") {
        Some(Value::Object(body)) => body,
        Some(other) => {
            object.insert("body".into(), other);
            object
        }
        None => object,
    }
}

/// Refuses what is too large or too deep, without recursion.
fn guard(payload: Value) -> Result<Value> {
    let mut bytes = 0_usize;
    let mut open: Vec<(&Value, usize)> = vec![(&payload, 1)];
    let mut verdict = Ok(());
    while let Some((value, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            verdict = Err(Error::Invalid(format!(
                "payload is nested deeper than {MAX_DEPTH} levels"
            )));
            break;
        }
        bytes += match value {
            Value::String(text) => text.len() + 2,
            Value::Array(items) => {
                open.extend(items.iter().map(|item| (item, depth + 1)));
                items.len() + 2
            }
            Value::Object(members) => {
                open.extend(members.values().map(|member| (member, depth + 1)));
                members.keys().map(|key| key.len() + 4).sum::<usize>() + 2
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => 4,
        };
        if bytes > MAX_PAYLOAD_BYTES {
            verdict = Err(Error::coded(
                "payload_too_large",
                format!("payload is larger than {MAX_PAYLOAD_BYTES} bytes"),
            ));
            break;
        }
    }
    match verdict {
        Ok(()) => Ok(payload),
        Err(error) => {
            dismantle(payload);
            Err(error)
        }
    }
}

/// Frees a value level by level: the derived drop recurses and would overflow the stack on a very deep one.
pub fn dismantle(value: Value) {
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(members) => open.extend(members.into_iter().map(|(_, member)| member)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn c01_case_19_unwrap_body() {
        assert_eq!(unwrap_body(Value::Null), Map::new());
        assert_eq!(
            Value::Object(unwrap_body(json!({"body": {"a": 1}, "b": 2}))),
            json!({"a": 1})
        );
        assert_eq!(
            Value::Object(unwrap_body(json!({"body": "s", "b": 2}))),
            json!({"b": 2, "body": "s"})
        );
    }

    #[test]
    fn c01_case_20_required_string() {
        for payload in [json!({"k": ""}), json!({"k": 1}), json!({}), Value::Null] {
            let error = decode::<Value>(payload, &["k"], false).unwrap_err();
            assert_eq!(error.to_string(), "missing required string field: k");
        }
    }

    #[test]
    fn very_deep_and_very_large_payloads_are_refused() {
        let mut deep = Value::Null;
        for _ in 0..200_000 {
            deep = Value::Array(vec![deep]);
        }
        let error = decode::<Value>(deep, &[], false).unwrap_err();
        assert_eq!(error.to_string(), "payload is nested deeper than 128 levels");
        let large = json!({ "text": "x".repeat(MAX_PAYLOAD_BYTES) });
        assert_eq!(
            decode::<Value>(large, &[], false).unwrap_err().wire_code(),
            "payload_too_large"
        );
    }

    #[test]
    fn complaints_are_short_and_speak_of_json() {
        #[derive(Debug, serde::Deserialize)]
        struct Inner {
            #[serde(rename = "n")]
            _n: u64,
        }
        #[derive(Debug, serde::Deserialize)]
        struct Outer {
            #[serde(rename = "inner")]
            _inner: Inner,
            #[serde(default, rename = "list")]
            _list: Vec<u8>,
        }
        let long = "x".repeat(1 << 20);
        let clipped = "x".repeat(MAX_TEXT_CHARS - r#"invalid type: string ""#.len());
        for (payload, expected) in [
            (
                json!({"inner": null}),
                "inner: invalid type: null, expected an object".to_owned(),
            ),
            (
                json!({"inner": [1, 2]}),
                "inner: invalid length 2, expected fewer elements in array".to_owned(),
            ),
            (json!({"inner": {}}), "inner: missing field `n`".to_owned()),
            (
                json!({"inner": {"n": {}}}),
                "inner.n: invalid type: object, expected a whole number of 0 or more".to_owned(),
            ),
            (
                json!({"inner": {"n": long}}),
                format!(r#"inner.n: invalid type: string "{clipped}…, expected a whole number of 0 or more"#),
            ),
            (
                json!({"inner": {"n": 1}, "list": {}}),
                "list: invalid type: object, expected an array".to_owned(),
            ),
        ] {
            let error = decode::<Outer>(payload, &[], false).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn the_engine_member_never_reaches_a_handler() {
        let mut seen = json!({"_caller_worker_id": "w", "a": 1});
        strip_engine_members(&mut seen);
        assert_eq!(seen, json!({"a": 1}));
    }
}
