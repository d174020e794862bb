//! Readers of the variables that existed before `HARNESS__…` (contract 12 §4).

use serde_json::Value;

/// What the text of an older variable means for its key.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// This value.
    Value(Value),
    /// Nothing; the variable is defined to be silent for such a text.
    NoEffect,
    /// Nothing, and somebody probably meant something: worth a warning.
    Unusable,
}

impl From<Option<Value>> for Reading {
    fn from(value: Option<Value>) -> Self {
        value.map_or(Self::Unusable, Self::Value)
    }
}

/// The text as it is, without blanks around it.
pub(super) fn text(raw: &str) -> Reading {
    match raw.trim() {
        "" => Reading::NoEffect,
        trimmed => Reading::Value(trimmed.into()),
    }
}

/// `OTEL_ENABLED`: only `false` counts.
pub(super) fn only_false(raw: &str) -> Reading {
    if raw == "false" {
        Reading::Value(false.into())
    } else {
        Reading::NoEffect
    }
}

/// `III_DISABLE_TRACE_PAYLOADS`: `1` and `true` switch the key off.
pub(super) fn switches_off(raw: &str) -> Reading {
    if raw == "1" || raw.eq_ignore_ascii_case("true") {
        Reading::Value(false.into())
    } else {
        Reading::NoEffect
    }
}

/// `HARNESS_ANTHROPIC_CACHE`: on unless it says off.
pub(super) fn on_unless_off(raw: &str) -> Reading {
    Reading::Value((!matches!(raw, "0" | "false" | "FALSE" | "False")).into())
}

/// `III_TRACE_PAYLOAD_MAX_BYTES`: a limit, or none for `0` and `unlimited`.
pub(super) fn limit(raw: &str) -> Reading {
    match raw.trim() {
        "0" | "unlimited" => Reading::Value(Value::Null),
        digits => positive_digits(digits),
    }
}

/// Digits only, above zero.
pub(super) fn positive_digits(raw: &str) -> Reading {
    let digits_only = raw.bytes().all(|byte| byte.is_ascii_digit());
    let number = raw
        .parse::<u64>()
        .ok()
        .filter(|&number| digits_only && number > 0);
    number.map(Value::from).into()
}

/// A number of at least 1000, floored.
pub(super) fn floored_from_1000(raw: &str) -> Reading {
    let number = raw
        .trim()
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && *number >= 1000.0);
    number
        .and_then(|number| format!("{:.0}", number.floor()).parse::<u64>().ok())
        .map(Value::from)
        .into()
}

/// Leading digits ("12abc" is 12), above zero (contract 10 §3).
pub(super) fn leading_integer(raw: &str) -> Reading {
    let unsigned = raw.trim_start();
    let unsigned = unsigned.strip_prefix('+').unwrap_or(unsigned);
    let digits: String = unsigned.chars().take_while(char::is_ascii_digit).collect();
    positive_digits(&digits)
}

/// Comma separated names, trimmed, blanks dropped.
pub(super) fn comma_list(raw: &str) -> Reading {
    let names: Vec<&str> = raw
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    Reading::Value(names.into())
}

/// `LMSTUDIO_BASE_URL` and its like: a server's address, completed to its chat endpoint (contract 08 §4).
pub(super) fn base_url(raw: &str) -> Reading {
    const ENDPOINT: &str = "/chat/completions";
    let trimmed = raw.trim();
    if trimmed.is_empty() {
        return Reading::NoEffect;
    }
    let base = trimmed.strip_suffix('/').unwrap_or(trimmed);
    let full = if base.contains(ENDPOINT) {
        base.to_owned()
    } else {
        format!("{base}/v1{ENDPOINT}")
    };
    let is_http = url::Url::parse(&full).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    is_http.then(|| full.into()).into()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers() {
        for (raw, read) in [
            ("12abc", Some(12)),
            (" 7", Some(7)),
            ("0", None),
            ("-3", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(leading_integer(raw), read.map(Value::from).into(), "{raw:?}");
        }
        for (raw, read) in [
            ("32000", Some(32000)),
            ("1e3", None),
            ("+5", None),
            ("0", None),
            ("", None),
        ] {
            assert_eq!(positive_digits(raw), read.map(Value::from).into(), "{raw:?}");
        }
        for (raw, read) in [
            ("1000.9", Some(1000)),
            ("999.9", None),
            ("inf", None),
            ("5000", Some(5000)),
        ] {
            assert_eq!(floored_from_1000(raw), read.map(Value::from).into(), "{raw:?}");
        }
        assert_eq!(limit("unlimited"), Reading::Value(Value::Null));
        assert_eq!(limit("100"), Reading::Value(json!(100)));
        assert_eq!(limit("lots"), Reading::Unusable);
    }

    #[test]
    fn base_urls() {
        for (raw, read) in [
            (" http://h:1/ ", Some("http://h:1/v1/chat/completions")),
            (
                "http://h:1/v1/chat/completions",
                Some("http://h:1/v1/chat/completions"),
            ),
            (
                "https://h/api/chat/completions?k=v",
                Some("https://h/api/chat/completions?k=v"),
            ),
            ("h:1", None),
            ("ftp://h", None),
        ] {
            assert_eq!(base_url(raw), read.map(Value::from).into(), "{raw:?}");
        }
        assert_eq!(base_url("  "), Reading::NoEffect);
    }

    #[test]
    fn switches() {
        assert_eq!(only_false("false"), Reading::Value(json!(false)));
        assert_eq!(only_false("true"), Reading::NoEffect);
        assert_eq!(switches_off("TRUE"), Reading::Value(json!(false)));
        assert_eq!(switches_off("0"), Reading::NoEffect);
        assert_eq!(on_unless_off("False"), Reading::Value(json!(false)));
        assert_eq!(on_unless_off("yes"), Reading::Value(json!(true)));
        assert_eq!(comma_list(" a::b, ,c "), Reading::Value(json!(["a::b", "c"])));
    }
}
