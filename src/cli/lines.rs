//! Calls and texts of others as lines for people. No I/O.

use serde_json::Value;

use super::visible::visible;
use crate::model::AwaitingCall;
use crate::model::text::clip;

/// Longest argument or result text in a line about a call, in characters.
pub(super) const MAX_DETAIL: usize = 120;

/// A call in one line.
pub(super) fn call(function: &str, args: &Value) -> String {
    format!(
        "{} {}",
        visible(function),
        clip(&visible(&args.to_string()), MAX_DETAIL)
    )
}

/// The whole of a call that somebody decides about: in one line if it fits, else its arguments over several.
pub(super) fn whole_call(function: &str, args: &Value) -> String {
    let (function, short) = (visible(function), args.to_string());
    if short.chars().count() <= MAX_DETAIL {
        return format!("{function} {}", visible(&short));
    }
    // What the arguments themselves break lines with is escaped in JSON already.
    let lines = format!("{args:#}");
    let lines: Vec<_> = lines.lines().map(visible).collect();
    format!("{function}\n  {}", lines.join("\n  "))
}

/// A text in one line.
pub(super) fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    clip(&words.join(" "), MAX_DETAIL).into_owned()
}

/// Why somebody is asked about a call, as a line below it; nothing when nobody says so.
pub(super) fn why(call: &AwaitingCall) -> String {
    let reason = call
        .reason
        .as_deref()
        .map(str::trim)
        .filter(|reason| !reason.is_empty());
    reason.map_or_else(String::new, |reason| format!("\n  why: {}", visible(reason)))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    #[test]
    fn all_of_a_call_is_shown_to_who_decides() {
        let long = "x".repeat(200);
        assert_eq!(whole_call("a::b", &json!({"n": 1})), r#"a::b {"n":1}"#);
        assert_eq!(
            whole_call("a::b", &json!({"harmless": long, "force": [true]})),
            format!("a::b\n  {{\n    \"harmless\": \"{long}\",\n    \"force\": [\n      true\n    ]\n  }}")
        );
    }

    #[test]
    fn a_call_cannot_pretend_to_be_more_than_one_line() {
        let (function, args) = (
            "a::b\n? c::d",
            json!({"x": "1\n2\u{2028}\u{202e}3\u{200b}\u{e000}"}),
        );
        let expected = r#"a::b\u{a}? c::d {"x":"1\n2\u{2028}\u{202e}3\u{200b}\u{e000}"}"#;
        assert_eq!(call(function, &args), expected);
        assert_eq!(whole_call(function, &args), expected);
        let long = json!("\u{202e}".repeat(121));
        assert_eq!(
            whole_call("a::b", &long),
            format!("a::b\n  \"{}\"", r"\u{202e}".repeat(121))
        );
    }

    #[test]
    fn why_somebody_is_asked_is_one_more_line() {
        let asked = |reason: Option<&str>| AwaitingCall {
            function_call_id: "c".into(),
            function_id: "a::b".into(),
            args: json!({}),
            call_hash: None,
            reason: reason.map(str::to_owned),
        };
        assert_eq!(why(&asked(None)), "");
        assert_eq!(why(&asked(Some(" \n"))), "");
        assert_eq!(
            why(&asked(Some("no rules: line 3\n? c::d\u{202e}"))),
            "\n  why: no rules: line 3\\u{a}? c::d\\u{202e}"
        );
    }
}
