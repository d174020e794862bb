//! `reasoning_effort` of OpenAI models (contract 08 §6.5).

use crate::model::ThinkingLevel;

/// All efforts, weakest first.
const ORDER: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh"];

/// What to send for a model: nothing when it takes no effort, or when neither the run nor the configuration names one.
pub(super) fn parameter(
    model: &str,
    supports_thinking: Option<bool>,
    level: Option<ThinkingLevel>,
    default: Option<&str>,
) -> Option<&'static str> {
    if supports_thinking == Some(false) {
        return None;
    }
    let supported = supported(&model.to_lowercase());
    let wanted = match level {
        Some(level) => word(level),
        None => match default?.trim() {
            "off" => "none",
            "max" => "xhigh",
            other => other,
        },
    };
    nearest(wanted, supported)
}

fn word(level: ThinkingLevel) -> &'static str {
    match level {
        ThinkingLevel::Off => "none",
        ThinkingLevel::Minimal => "minimal",
        ThinkingLevel::Low => "low",
        ThinkingLevel::Medium => "medium",
        ThinkingLevel::High => "high",
        ThinkingLevel::Xhigh => "xhigh",
    }
}

/// Efforts of a family, weakest first; empty for models that take none.
fn supported(id: &str) -> &'static [&'static str] {
    let is_gpt_5 = id.starts_with("gpt-5");
    let is_o_series = id.starts_with("o3") || id.starts_with("o4");
    if !(is_gpt_5 || is_o_series) || id.contains("chat") {
        return &[];
    }
    if id.contains("pro") {
        return &["high"];
    }
    if is_o_series {
        return &["low", "medium", "high"];
    }
    match minor_version(id) {
        Some(minor) if minor >= 2 => &["none", "low", "medium", "high", "xhigh"],
        Some(_) => &["none", "low", "medium", "high"],
        None => &["minimal", "low", "medium", "high"],
    }
}

/// `N` of `gpt-5.N…`.
fn minor_version(id: &str) -> Option<u32> {
    let rest = id.strip_prefix("gpt-5.")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The wanted effort, else the nearest one below, else above; for an unknown word the middle.
fn nearest(wanted: &str, supported: &'static [&'static str]) -> Option<&'static str> {
    let rank = |word: &str| ORDER.iter().position(|known| *known == word);
    let Some(wanted) = rank(wanted) else {
        let medium = supported.iter().find(|word| **word == "medium");
        return medium.or_else(|| supported.last()).copied();
    };
    let below = supported.iter().rev().find(|word| rank(word) <= Some(wanted));
    below.or_else(|| supported.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ThinkingLevel::{High, Low, Medium, Minimal, Off, Xhigh};
    use pretty_assertions::assert_eq;

    #[test]
    fn efforts_by_family_and_level() {
        let cases = [
            ("gpt-4o", Some(High), None),
            ("gpt-5", None, None),
            ("gpt-5", Some(Off), Some("minimal")),
            ("gpt-5", Some(Minimal), Some("minimal")),
            ("gpt-5-mini", Some(Xhigh), Some("high")),
            ("GPT-5", Some(Medium), Some("medium")),
            ("gpt-5-chat-latest", Some(High), None),
            ("gpt-5-pro", Some(Low), Some("high")),
            ("gpt-5.1", Some(Off), Some("none")),
            ("gpt-5.1", Some(Minimal), Some("none")),
            ("gpt-5.1-codex", Some(Xhigh), Some("high")),
            ("gpt-5.2", Some(Xhigh), Some("xhigh")),
            ("gpt-5.12", Some(Xhigh), Some("xhigh")),
            ("o1", Some(High), None),
            ("o1-pro", Some(High), None),
            ("o3", Some(Off), Some("low")),
            ("o4-mini", Some(Xhigh), Some("high")),
        ];
        for (model, level, expected) in cases {
            assert_eq!(parameter(model, None, level, None), expected, "{model} {level:?}");
        }
    }

    #[test]
    fn the_catalog_can_say_no_and_the_configuration_names_a_default() {
        assert_eq!(parameter("gpt-5", Some(false), Some(High), None), None);
        assert_eq!(parameter("gpt-4o", Some(true), Some(High), None), None);
        assert_eq!(parameter("gpt-5", None, None, Some("low")), Some("low"));
        assert_eq!(parameter("gpt-5", None, None, Some("max")), Some("high"));
        assert_eq!(parameter("gpt-5", None, None, Some("hard")), Some("medium"));
        assert_eq!(parameter("gpt-5-pro", None, None, Some("hard")), Some("high"));
        assert_eq!(parameter("gpt-5", None, Some(High), Some("low")), Some("high"));
    }
}
