//! Arguments as shown to people: secrets hidden, long texts cut (contract 03 §7). The arguments that run stay untouched.

use serde_json::{Map, Value};

/// Longest text kept whole, in code points.
const MAX_CHARS: usize = 256;

/// Containers nested this deep are not shown; also bounds the recursion.
const MAX_DEPTH: usize = 64;

/// Largest excerpt, bytes of compact JSON.
const MAX_BYTES: usize = 8 * 1024;

const REDACTED: &str = "<redacted>";
const TOO_DEEP: &str = "<max-depth>";
const TRUNCATED: &str = "<truncated>";

/// Marks the place where members of an object are left out.
const REST: &str = "…";

/// Bytes that an open container keeps back for its mark: `"…":"<truncated>",` and its brackets.
const RESERVE: usize = 32;

/// Names of secrets, without separators.
const SECRETS: [&str; 22] = [
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "token",
    "apikey",
    "secret",
    "secretkey",
    "auth",
    "authorization",
    "accesskey",
    "accesstoken",
    "refreshtoken",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "cookie",
    "bearer",
    "jwt",
    "credential",
    "credentials",
    "connectionstring",
];

/// A copy fit for people: values of secret members become `<redacted>`, texts are cut to 256 code points plus `…`,
/// containers at depth 64 become `<max-depth>`, and what does not fit into 8 KiB of JSON becomes `<truncated>`.
pub fn redact(args: &Value) -> Value {
    let mut room = MAX_BYTES;
    copy(args, 0, &mut room).unwrap_or_else(|| TRUNCATED.into())
}

/// The copy of a value, or nothing when there is no room for it.
fn copy(value: &Value, depth: usize, room: &mut usize) -> Option<Value> {
    match value {
        Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => take(room, TOO_DEEP.into()),
        Value::Array(items) => {
            *room = room.checked_sub(RESERVE)?;
            let mut copies = Vec::new();
            for item in items {
                match copy(item, depth + 1, room) {
                    Some(item) if spend(room, 1) => copies.push(item),
                    _ => {
                        copies.push(TRUNCATED.into());
                        break;
                    }
                }
            }
            Some(Value::Array(copies))
        }
        Value::Object(members) => {
            *room = room.checked_sub(RESERVE)?;
            Some(Value::Object(copy_members(members, depth, room)))
        }
        Value::String(text) => take(room, shorten(text).into()),
        Value::Null | Value::Bool(_) | Value::Number(_) => take(room, value.clone()),
    }
}

fn copy_members(members: &Map<String, Value>, depth: usize, room: &mut usize) -> Map<String, Value> {
    let mut copies = Map::new();
    for (name, value) in members {
        // Quotes may need escapes, six bytes each at worst; a name that only might fit is not worth a second look.
        let fits = spend(room, name.len() + escapes(name) + 4);
        let copy = if !fits {
            None
        } else if is_secret(name) {
            take(room, REDACTED.into())
        } else {
            copy(value, depth + 1, room)
        };
        let Some(copy) = copy else {
            copies.insert(REST.into(), TRUNCATED.into());
            break;
        };
        copies.insert(name.clone(), copy);
    }
    copies
}

/// Charges a scalar.
fn take(room: &mut usize, scalar: Value) -> Option<Value> {
    let bytes = match &scalar {
        Value::String(text) => text.len() + escapes(text) + 2,
        other => other.to_string().len(),
    };
    spend(room, bytes).then_some(scalar)
}

fn spend(room: &mut usize, bytes: usize) -> bool {
    match room.checked_sub(bytes) {
        Some(left) => {
            *room = left;
            true
        }
        None => false,
    }
}

/// Bytes that escaping adds to a text in JSON.
fn escapes(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
            0..0x20 => 5,
            _ => 0,
        })
        .sum()
}

fn shorten(text: &str) -> String {
    let mut kept: String = text.chars().take(MAX_CHARS).collect();
    if kept.len() < text.len() {
        kept.push('…');
    }
    kept
}

/// Whether a member's name is that of a secret, or ends in one after a separator: `-`, `_`, `.`, a space, or the step from
/// a small letter to a capital one.
fn is_secret(name: &str) -> bool {
    let words = words(name);
    (0..words.len()).any(|start| {
        let tail: String = words.iter().skip(start).map(String::as_str).collect();
        SECRETS.contains(&tail.as_str())
    })
}

/// The last words of a name in small letters; no secret's name has more than four.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_small = false;
    for c in name.chars() {
        let separator = matches!(c, '-' | '_' | '.' | ' ');
        if separator || (after_small && c.is_uppercase()) {
            words.push(String::new());
        }
        after_small = c.is_lowercase() || c.is_numeric();
        if let (false, Some(word)) = (separator, words.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn c03_case_41_code_points_are_counted() {
        let text = |count| "😀".repeat(count);
        assert_eq!(redact(&json!(text(200))), json!(text(200)));
        assert_eq!(redact(&json!(text(256))), json!(text(256)));
        assert_eq!(redact(&json!(text(300))), json!(format!("{}…", text(256))));
    }

    #[test]
    fn secrets_go_and_lookalikes_stay() {
        for name in [
            "password",
            "PASSWORD",
            "token",
            "api_key",
            "apikey",
            "secret",
            "auth",
            "Authorization",
            "access_key",
            "access_token",
            "refresh_token",
            "private_key",
            "db_password",
            "GITHUB_TOKEN",
            "accessToken",
            "x-api-key",
            "X-Api-Key",
            "cookie",
            "Set-Cookie",
            "passwd",
            "bearer",
            "credentials",
            "clientSecret",
            "pass-word",
            "api-key",
            "APIKey",
            "_token",
            "user.password",
            "-token-",
            "myAccessKey",
        ] {
            assert_eq!(
                redact(&json!({ name: {"a": [1]} })),
                json!({ name: "<redacted>" }),
                "{name}"
            );
        }
        for name in [
            "tokenizer",
            "authority",
            "secretary",
            "passwordless",
            "max_tokens",
            "author",
            "tokens",
            "key",
            "keyboard",
            "password_hint",
            "monkey",
            "cookies_enabled",
            "",
        ] {
            let args = json!({ name: {"a": [1, null, true, "x"]} });
            assert_eq!(redact(&args), args, "{name}");
        }
    }

    #[test]
    fn p_depth_is_limited_and_survives_any_nesting() {
        let nested = |levels| {
            let mut value = json!("leaf");
            for _ in 0..levels {
                value = json!([value]);
            }
            value
        };
        assert_eq!(redact(&nested(64)), nested(64));
        let cut = redact(&nested(65)).to_string();
        assert_eq!(
            cut,
            format!("{}\"<max-depth>\"{}", "[".repeat(64), "]".repeat(64))
        );
        let mut deep = json!(null);
        for _ in 0..200_000 {
            deep = Value::Array(vec![deep]);
        }
        assert_eq!(redact(&deep).to_string(), cut);
        // Dropping it recurses, which is the concern of who made it.
        std::mem::forget(deep);
    }

    #[test]
    fn the_excerpt_is_capped_and_says_so() {
        let many: Map<String, Value> = (0..1_000)
            .map(|n| (format!("k{n}"), json!("é\u{1}".repeat(100))))
            .collect();
        for args in [
            Value::Object(many),
            json!(vec![json!({"a\"": ["x\\\n"]}); 2_000]),
            json!({ "k".repeat(10_000): 1 }),
            json!({ "a": 1, "\u{1}".repeat(3_000): 1 }),
            json!(vec![0; 5_000]),
        ] {
            let excerpt = redact(&args).to_string();
            assert!(excerpt.len() <= MAX_BYTES, "{}", excerpt.len());
            assert!(excerpt.contains(TRUNCATED));
        }
        let fits = json!(vec!["x".repeat(250); 30]);
        assert_eq!(redact(&fits), fits);
    }
}
