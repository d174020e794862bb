//! What is known of OpenAI's models beside their ids (contract 09 weakness 10). As of 2026-11-26, from the model and pricing
//! pages of developers.openai.com and the public price list of `LiteLLM`, where the two agree.

use crate::workers::providers::records::{Family, Known, Price, family};

/// The listing holds ids and nothing else.
pub(super) const KNOWN: Known = Known {
    // Clients key on this label, although Chat Completions is spoken (09 weakness 11).
    families: FAMILIES,
    prices: PRICES,
    ..Known::flat("openai-responses", 128_000)
};

/// Window, output, thinking, vision.
const FAMILIES: &[Family] = &[
    family("gpt-5-chat", 128_000, 16_384, false, true),
    family("gpt-5.1-chat", 128_000, 16_384, false, true),
    family("gpt-5.2-chat", 128_000, 16_384, false, true),
    family("gpt-5.3-chat", 128_000, 16_384, false, true),
    family("gpt-5.4-mini", 400_000, 128_000, true, true),
    family("gpt-5.4-nano", 400_000, 128_000, true, true),
    family("gpt-5.4", 1_050_000, 128_000, true, true),
    family("gpt-5.5", 1_050_000, 128_000, true, true),
    family("gpt-5.6", 1_050_000, 128_000, true, true),
    family("gpt-5", 400_000, 128_000, true, true),
    family("gpt-4.1", 1_047_576, 32_768, false, true),
    family("gpt-4o-2024-05-13", 128_000, 4_096, false, true),
    family("gpt-4o", 128_000, 16_384, false, true),
    family("chatgpt-4o", 128_000, 16_384, false, true),
    family("gpt-4.5", 128_000, 16_384, false, true),
    family("gpt-4-turbo", 128_000, 4_096, false, true),
    family("gpt-4-0125", 128_000, 4_096, false, false),
    family("gpt-4-1106", 128_000, 4_096, false, false),
    family("gpt-4-32k", 32_768, 8_192, false, false),
    family("gpt-4", 8_192, 8_192, false, false),
    family("gpt-3.5-turbo", 16_385, 4_096, false, false),
    family("o4-mini", 200_000, 100_000, true, true),
    family("o3-mini", 200_000, 100_000, true, false),
    family("o3", 200_000, 100_000, true, true),
    family("o1-mini", 128_000, 65_536, true, false),
    family("o1-preview", 128_000, 32_768, true, false),
    family("o1", 200_000, 100_000, true, true),
];

/// Only prices that are certain: a wrong one is worse for a budget than none. Prompts above 272,000 tokens cost more with
/// gpt-5.4 and gpt-5.5, which a record has no member for. gpt-5.6 is left out: it charges for cache writes, which no answer
/// counts.
const PRICES: &[Price] = &[
    ("gpt-5.5", 5.0, 30.0, Some(0.5)),
    ("gpt-5.4", 2.5, 15.0, Some(0.25)),
    ("gpt-5.4-mini", 0.75, 4.5, Some(0.075)),
    ("gpt-5.4-nano", 0.2, 1.25, Some(0.02)),
    ("gpt-5.3-chat-latest", 1.75, 14.0, Some(0.175)),
    ("gpt-5.2", 1.75, 14.0, Some(0.175)),
    ("gpt-5.2-chat-latest", 1.75, 14.0, Some(0.175)),
    ("gpt-5.1", 1.25, 10.0, Some(0.125)),
    ("gpt-5.1-chat-latest", 1.25, 10.0, Some(0.125)),
    ("gpt-5", 1.25, 10.0, Some(0.125)),
    ("gpt-5-mini", 0.25, 2.0, Some(0.025)),
    ("gpt-5-nano", 0.05, 0.4, Some(0.005)),
    ("gpt-4.1", 2.0, 8.0, Some(0.5)),
    ("gpt-4.1-mini", 0.4, 1.6, Some(0.1)),
    ("gpt-4.1-nano", 0.1, 0.4, Some(0.025)),
    ("gpt-4o-2024-05-13", 5.0, 15.0, None),
    ("gpt-4o", 2.5, 10.0, Some(1.25)),
    ("gpt-4o-mini", 0.15, 0.6, Some(0.075)),
    ("gpt-3.5-turbo", 0.5, 1.5, None),
    ("o3", 2.0, 8.0, Some(0.5)),
    ("o3-mini", 1.1, 4.4, Some(0.55)),
    ("o4-mini", 1.1, 4.4, Some(0.275)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};

    fn facts(id: &str) -> [Value; 3] {
        let mut record = KNOWN.record("openai", id, &json!({ "id": id }));
        ["context_window", "max_output_tokens", "pricing"].map(|member| record[member].take())
    }

    #[test]
    fn ids_that_begin_alike_are_told_apart() {
        for (id, context, output) in [
            ("gpt-5.4-2026-03-05", 1_050_000, 128_000),
            ("gpt-5.4-mini-2026-03-17", 400_000, 128_000),
            ("gpt-5-2025-08-07", 400_000, 128_000),
            ("gpt-5.2-chat-latest", 128_000, 16_384),
            ("gpt-4", 8_192, 8_192),
            ("gpt-4-0613", 8_192, 8_192),
            ("gpt-4-0125-preview", 128_000, 4_096),
            ("gpt-4o-2024-05-13", 128_000, 4_096),
            ("gpt-9", 128_000, 8_192),
        ] {
            assert_eq!(facts(id)[..2], [json!(context), json!(output)], "{id}");
        }
    }

    #[test]
    fn a_release_with_a_price_of_its_own_does_not_get_that_of_its_name() {
        let old = json!({"input_per_1m": 5.0, "output_per_1m": 15.0});
        let new = json!({"input_per_1m": 2.5, "output_per_1m": 10.0, "cache_read_per_1m": 1.25});
        assert_eq!(facts("gpt-4o-2024-05-13")[2], old);
        assert_eq!(facts("gpt-4o-2024-08-06")[2], new);
        for unpriced in ["gpt-5.6", "gpt-5-pro", "gpt-4o-latest"] {
            assert_eq!(facts(unpriced)[2], Value::Null, "{unpriced}");
        }
    }
}
