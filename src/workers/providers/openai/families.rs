//! Catalog records of OpenAI models: what the listing says, then what is known of the family, then flat defaults
//! (contract 08 §10, 09 A3 and weakness 10). The table only enriches ids that were listed.

use serde_json::{Map, Value, json};

const CONTEXT_TOKENS: u64 = 128_000;
const OUTPUT_TOKENS: u64 = 8_192;

/// A family: id prefix, window and output limit in tokens, thinking, vision. Published limits of platform.openai.com.
struct Family {
    prefix: &'static str,
    context: u64,
    output: u64,
    thinking: bool,
    vision: bool,
}

const fn family(prefix: &'static str, context: u64, output: u64, thinking: bool, vision: bool) -> Family {
    Family {
        prefix,
        context,
        output,
        thinking,
        vision,
    }
}

/// The first prefix that fits counts.
const FAMILIES: &[Family] = &[
    family("gpt-5-chat", 128_000, 16_384, false, true),
    family("gpt-5", 400_000, 128_000, true, true),
    family("gpt-4.1", 1_047_576, 32_768, false, true),
    family("gpt-4o", 128_000, 16_384, false, true),
    family("chatgpt-4o", 128_000, 16_384, false, true),
    family("gpt-4-turbo", 128_000, 4_096, false, true),
    family("gpt-4-32k", 32_768, 8_192, false, false),
    family("gpt-4-0", 8_192, 8_192, false, false),
    family("gpt-3.5-turbo", 16_385, 4_096, false, false),
    family("o4-mini", 200_000, 100_000, true, true),
    family("o3-mini", 200_000, 100_000, true, false),
    family("o3", 200_000, 100_000, true, true),
    family("o1-mini", 128_000, 65_536, true, false),
    family("o1-preview", 128_000, 32_768, true, false),
    family("o1", 200_000, 100_000, true, true),
];

/// Prices by exact id (a date at its end aside), US dollars per million tokens: input, output, cached input. Only ids
/// whose price is certain: a wrong price is worse for a budget than none.
const PRICES: &[(&str, f64, f64, f64)] = &[
    ("gpt-5", 1.25, 10.0, 0.125),
    ("gpt-5-mini", 0.25, 2.0, 0.025),
    ("gpt-5-nano", 0.05, 0.4, 0.005),
    ("gpt-4.1", 2.0, 8.0, 0.5),
    ("gpt-4.1-mini", 0.4, 1.6, 0.1),
    ("gpt-4.1-nano", 0.1, 0.4, 0.025),
    ("gpt-4o", 2.5, 10.0, 1.25),
    ("gpt-4o-mini", 0.15, 0.6, 0.075),
    ("o3", 2.0, 8.0, 0.5),
    ("o3-mini", 1.1, 4.4, 0.55),
    ("o4-mini", 1.1, 4.4, 0.275),
];

/// The record of one listed model.
pub(super) fn record(provider: &str, id: &str, entry: &Value) -> Value {
    let family = FAMILIES.iter().find(|family| id.starts_with(family.prefix));
    let listed = |keys: &[&str]| {
        let numbers = keys.iter().filter_map(|key| entry.get(*key)?.as_u64());
        numbers.into_iter().find(|tokens| *tokens > 0)
    };
    let name = ["display_name", "name"]
        .iter()
        .find_map(|key| entry.get(*key)?.as_str());
    let context = listed(&["context_window", "context_length", "max_model_len"])
        .or_else(|| family.map(|family| family.context))
        .unwrap_or(CONTEXT_TOKENS);
    let output = listed(&["max_output_tokens", "max_completion_tokens"])
        .or_else(|| family.map(|family| family.output))
        .unwrap_or(OUTPUT_TOKENS);
    let mut record = json!({
        "id": id,
        "provider": provider,
        // Clients key on this label, although Chat Completions is spoken (09 weakness 11).
        "api": "openai-responses",
        "display_name": name.filter(|name| !name.is_empty()).unwrap_or(id),
        "context_window": context,
        "max_output_tokens": output,
        "supports_tools": true,
        "transports": ["sse"],
    });
    if let Value::Object(members) = &mut record {
        add_known(members, id, family);
    }
    record
}

fn add_known(record: &mut Map<String, Value>, id: &str, family: Option<&Family>) {
    if let Some(family) = family {
        record.insert("supports_thinking".into(), family.thinking.into());
        record.insert("supports_vision".into(), family.vision.into());
    }
    let price = PRICES.iter().find(|(known, ..)| *known == undated(id));
    if let Some((_, input, output, cached)) = price {
        let pricing = json!({"input_per_1m": input, "output_per_1m": output, "cache_read_per_1m": cached});
        record.insert("pricing".into(), pricing);
    }
}

/// `gpt-4o-2024-08-06` → `gpt-4o`.
fn undated(id: &str) -> &str {
    let is_date = |tail: &str| {
        let form: String = tail
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        form == "-0000-00-00"
    };
    let cut = id.len().saturating_sub("-0000-00-00".len());
    match id.split_at_checked(cut) {
        Some((name, tail)) if is_date(tail) => name,
        _ => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn an_unknown_model_gets_the_flat_record() {
        assert_eq!(
            record("openai", "gpt-9", &json!({"id": "gpt-9"})),
            json!({
                "id": "gpt-9",
                "provider": "openai",
                "api": "openai-responses",
                "display_name": "gpt-9",
                "context_window": 128_000,
                "max_output_tokens": 8192,
                "supports_tools": true,
                "transports": ["sse"]
            })
        );
    }

    #[test]
    fn the_listing_beats_the_family_and_the_family_the_default() {
        let listed = json!({"id": "gpt-4o-2024-08-06", "name": "Four O", "context_length": 64_000});
        assert_eq!(
            record("openai", "gpt-4o-2024-08-06", &listed),
            json!({
                "id": "gpt-4o-2024-08-06",
                "provider": "openai",
                "api": "openai-responses",
                "display_name": "Four O",
                "context_window": 64_000,
                "max_output_tokens": 16_384,
                "supports_tools": true,
                "transports": ["sse"],
                "supports_thinking": false,
                "supports_vision": true,
                "pricing": {"input_per_1m": 2.5, "output_per_1m": 10.0, "cache_read_per_1m": 1.25}
            })
        );
    }

    #[test]
    fn only_a_date_is_cut_off() {
        for (id, expected) in [
            ("o3-2025-04-16", "o3"),
            ("gpt-5", "gpt-5"),
            ("gpt-5-pro-2025-10-06", "gpt-5-pro"),
            ("é-2025-04-16", "é"),
            ("éééééé", "éééééé"),
        ] {
            assert_eq!(undated(id), expected);
        }
    }
}
