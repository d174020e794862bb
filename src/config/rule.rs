//! Which values a key accepts, and in which form they are kept.

use std::fmt;

use serde_json::Value;

use super::log_filter::log_filter;
use crate::rules::Floor;

/// Largest integer any key takes: exact in every JSON reader, and far from overflowing a clock.
const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Accepted values. `Display` says it in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// `true` or `false`.
    Bool,
    /// A whole number from `min` on.
    Integer {
        /// Smallest accepted.
        min: u64,
    },
    /// A number, rounded up to a whole one; `zero` says whether 0 is accepted.
    Number {
        /// Whether 0 is accepted.
        zero: bool,
    },
    /// A text that is neither blank nor holds control characters.
    Text,
    /// An address with one of these schemes.
    Url(&'static [&'static str]),
    /// `host:port`; `off` says whether an empty text is accepted.
    Address {
        /// Whether an empty text is accepted.
        off: bool,
    },
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A list of texts.
    Names,
    /// A list of models, each with its provider.
    Models,
    /// A list of permission rules, as in the deny floor.
    Rules,
    /// A secret: `${VAR}` in the file.
    Secret,
    /// A log level or a filter.
    LogFilter,
}

impl Rule {
    /// Whether values are texts, so that a variable's text is taken as it is.
    pub(super) fn is_textual(self) -> bool {
        match self {
            Self::Text
            | Self::Url(_)
            | Self::Address { .. }
            | Self::OneOf(_)
            | Self::Secret
            | Self::LogFilter => true,
            Self::Bool
            | Self::Integer { .. }
            | Self::Number { .. }
            | Self::Names
            | Self::Models
            | Self::Rules => false,
        }
    }

    /// The value in its normal form; none if it is not accepted.
    pub(super) fn check(self, value: &Value) -> Option<Value> {
        let text = value.as_str();
        match self {
            Self::Bool => value.as_bool().map(Value::from),
            Self::Integer { min } => whole(value).filter(|number| *number >= min).map(Value::from),
            Self::Number { zero } => rounded_up(value, zero).map(Value::from),
            Self::Text | Self::Secret => text.filter(|text| is_plain(text)).map(Value::from),
            Self::Url(schemes) => text.and_then(|text| checked_url(text, schemes)).map(Value::from),
            Self::Address { off } => text
                .filter(|text| (off && text.is_empty()) || split_address(text).is_some())
                .map(Value::from),
            Self::OneOf(names) => text.filter(|text| names.contains(text)).map(Value::from),
            Self::Names => list_of(value, is_plain),
            Self::Models => list_of(value, is_model),
            Self::Rules => (value.is_array() && self.flaw(value).is_none()).then(|| value.clone()),
            Self::LogFilter => text
                .filter(|text| log_filter(text).is_ok())
                .map(|text| text.trim().into()),
        }
    }

    /// What is wrong inside a value of the right kind.
    pub(super) fn flaw(self, value: &Value) -> Option<String> {
        match (self, value) {
            (Self::Rules, Value::Array(entries)) => {
                Floor::compile(entries).err().map(|error| error.to_string())
            }
            _ => None,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("true or false"),
            Self::Integer { min } => write!(f, "an integer >= {min}"),
            Self::Number { zero: true } => f.write_str("a number >= 0"),
            Self::Number { zero: false } => f.write_str("a number > 0"),
            Self::Text => f.write_str("a text"),
            Self::Url(schemes) => write!(f, "a URL ({})", schemes.join(", ")),
            Self::Address { off: true } => f.write_str("host:port or \"\""),
            Self::Address { off: false } => f.write_str("host:port"),
            Self::OneOf(names) => write!(f, "one of {}", names.join(", ")),
            Self::Names => f.write_str("a list of texts"),
            Self::Models => f.write_str("a list of provider::model"),
            Self::Rules => f.write_str("a list of rules"),
            Self::Secret => f.write_str("${VAR} or ${VAR:default}"),
            Self::LogFilter => f.write_str("error, warn, info, debug, trace or a filter"),
        }
    }
}

/// Splits `host:port`; IPv6 hosts stand in brackets, which are taken off.
pub(super) fn split_address(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => host,
    };
    let is_host = url::Host::parse(host).is_ok() && !host.contains(|c: char| c.is_whitespace());
    is_host.then_some((bare, port))
}

fn whole(value: &Value) -> Option<u64> {
    let exact = value.as_u64().or_else(|| {
        let float = value
            .as_f64()
            .filter(|float| float.fract() == 0.0 && *float >= 0.0)?;
        format!("{float:.0}").parse().ok()
    });
    exact.filter(|number| *number <= MAX_INTEGER)
}

fn rounded_up(value: &Value, zero: bool) -> Option<u64> {
    let float = value
        .as_f64()
        .filter(|float| *float > 0.0 || (zero && *float == 0.0))?;
    format!("{:.0}", float.ceil())
        .parse()
        .ok()
        .filter(|number| *number <= MAX_INTEGER)
}

fn is_plain(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains(char::is_control)
}

fn checked_url(text: &str, schemes: &[&str]) -> Option<String> {
    let parsed = url::Url::parse(text.trim()).ok()?;
    (schemes.contains(&parsed.scheme()) && parsed.has_host()).then(|| text.trim().to_owned())
}

fn list_of(value: &Value, accepts: impl Fn(&str) -> bool) -> Option<Value> {
    let items = value.as_array()?;
    let all = items.iter().all(|item| item.as_str().is_some_and(&accepts));
    all.then(|| value.clone())
}

fn is_model(text: &str) -> bool {
    let parts = text.split_once("::");
    parts.is_some_and(|(provider, model)| is_plain(provider) && is_plain(model))
}

/// A value as a finding shows it: compact, cut.
pub(super) fn shown(value: &Value) -> String {
    const MOST_CHARS: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= MOST_CHARS {
        return text;
    }
    text.chars().take(MOST_CHARS).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use crate::config::spec::{address, integer, models, names, number, one_of, rules, text, url};

    #[test]
    fn values_are_checked_and_brought_into_one_form() {
        for (spec, value, expected) in [
            (integer(1), json!(3.0), Ok(json!(3))),
            (integer(1), json!(0), Err("must be an integer >= 1, found 0")),
            (
                integer(0),
                json!("many"),
                Err("must be an integer >= 0, found \"many\""),
            ),
            (integer(0), json!(-1), Err("must be an integer >= 0, found -1")),
            (integer(0), json!(1.5), Err("must be an integer >= 0, found 1.5")),
            (
                integer(0),
                json!(9_007_199_254_740_992_u64),
                Err("must be an integer >= 0, found 9007199254740992"),
            ),
            (number(false), json!(0.2), Ok(json!(1))),
            (number(false), json!(0), Err("must be a number > 0, found 0")),
            (number(true), json!(0), Ok(json!(0))),
            (text(), json!(" "), Err("must be a text, found \" \"")),
            (text(), json!("a\nb"), Err("must be a text, found \"a\\nb\"")),
            (text().optional(), json!(null), Ok(json!(null))),
            (text(), json!(null), Err("must be a text, found null")),
            (url(&["ws"]), json!(" ws://h:1 "), Ok(json!("ws://h:1"))),
            (
                url(&["ws"]),
                json!("http://h"),
                Err("must be a URL (ws), found \"http://h\""),
            ),
            (address(false), json!("[::1]:0"), Ok(json!("[::1]:0"))),
            (
                address(false),
                json!("localhost"),
                Err("must be host:port, found \"localhost\""),
            ),
            (
                address(false),
                json!("h:99999"),
                Err("must be host:port, found \"h:99999\""),
            ),
            (
                address(false),
                json!(":1"),
                Err("must be host:port, found \":1\""),
            ),
            (address(true), json!(""), Ok(json!(""))),
            (
                one_of(&["a", "b"]),
                json!("c"),
                Err("must be one of a, b, found \"c\""),
            ),
            (
                names(),
                json!(["x", 1]),
                Err("must be a list of texts, found [\"x\",1]"),
            ),
            (models(), json!(["p::a/b:c"]), Ok(json!(["p::a/b:c"]))),
            (
                models(),
                json!(["p::m", "p/m"]),
                Err("must be a list of provider::model, found [\"p::m\",\"p/m\"]"),
            ),
            (
                rules(),
                json!(["x", {"function": "y"}]),
                Ok(json!(["x", {"function": "y"}])),
            ),
            (
                rules(),
                json!([{"f": 1}]),
                Err("must be a list of rules: rule 1: function: must be a text"),
            ),
            (
                rules(),
                json!(["x", {"function": "y", "args": {"z": {"matches": "["}}}]),
                Err("must be a list of rules: rule 2 (`y`): args.z.matches: a class is not closed"),
            ),
            (rules(), json!("x"), Err("must be a list of rules, found \"x\"")),
        ] {
            assert_eq!(
                spec.check(&value),
                expected.map_err(str::to_owned),
                "{spec:?} {value}"
            );
        }
    }
}
