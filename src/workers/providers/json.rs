//! JSON of servers that cut text between the two halves of a character.

use serde_json::Value;

/// Length of an escape `\uXXXX`.
const ESCAPE: usize = 6;

/// Reads JSON. Half a surrogate pair, which no string may hold, becomes the replacement character; without that a whole
/// chunk of the answer would be lost. `None` when it is no JSON even so.
pub(super) fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text)
        .or_else(|_| serde_json::from_str(&without_lone_surrogates(text)))
        .ok()
}

fn without_lone_surrogates(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((head, escape)) = rest.find('\\').map(|at| rest.split_at(at)) {
        out.push_str(head);
        let next = escape.get(ESCAPE..).unwrap_or_default();
        let (replacement, length) = match (unit(escape), unit(next)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (None, 2 * ESCAPE),
            (Some(0xD800..=0xDFFF), _) => (Some("\\ufffd"), ESCAPE),
            (Some(_), _) => (None, ESCAPE),
            (None, _) => (None, 1 + escape.chars().nth(1).map_or(0, char::len_utf8)),
        };
        let (taken, after) = escape.split_at_checked(length).unwrap_or((escape, ""));
        out.push_str(replacement.unwrap_or(taken));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The UTF-16 unit of an escape at the start of a text.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn v10_half_a_character_is_replaced_and_the_rest_kept() {
        for (text, expected) in [
            (r#""a\ud83d""#, "a\u{fffd}"),
            (r#""\ude00b""#, "\u{fffd}b"),
            (r#""\ud83d\ude00\ud83dé\n""#, "😀\u{fffd}é\n"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\\ud83d \ud83d""#, "\\ud83d \u{fffd}"),
            (r#""😀\ud83d😀""#, "😀\u{fffd}😀"),
        ] {
            assert_eq!(parse(text), Some(json!(expected)), "{text}");
        }
        for broken in [r#""\ud8"#, r#""\"#, r#""\é"#, "{"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
