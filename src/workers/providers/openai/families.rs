//! What is known of OpenAI's models beside their ids (contract 09 weakness 10). As of 2026-11-26, from the model and pricing
//! pages of developers.openai.com and the public price list of `LiteLLM`, where the two agree.

use crate::workers::providers::costs::{Long, Price, costs};
use crate::workers::providers::records::{Family, Known, family};

/// The listing holds ids and nothing else.
pub(super) const KNOWN: Known = Known {
    // Clients key on this label, although Chat Completions is spoken (09 weakness 11).
    families: FAMILIES,
    prices: PRICES,
    ..Known::flat("openai-responses", 128_000)
};

/// Window, output, thinking, vision.
const FAMILIES: &[Family] = &[
    family("gpt-6", 1_050_000, 128_000, true, true),
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

/// The models with a window of 1,050,000 tokens cost more for prompts above 272,000 of them, all of the call does.
const LONG: Long = Long {
    above: 272_000,
    input: 2.0,
    output: 1.5,
};

/// Only prices that are certain: a wrong one is worse for a budget than none. gpt-5.6 and gpt-5.6-sol are left out: theirs is
/// that of a promotion, which may have ended.
const PRICES: &[Price] = &[
    (
        "gpt-6.2-astra",
        costs(8.0, 40.0).cached(0.4).written(10.0).long(LONG),
    ),
    (
        "gpt-6.2-sol",
        costs(2.0, 10.0).cached(0.1).written(2.5).long(LONG),
    ),
    (
        "gpt-6.1-sol",
        costs(2.0, 10.0).cached(0.1).written(2.5).long(LONG),
    ),
    (
        "gpt-6-astra",
        costs(10.0, 50.0).cached(1.0).written(12.5).long(LONG),
    ),
    ("gpt-6-sol", costs(2.0, 10.0).cached(0.2).written(2.5).long(LONG)),
    (
        "gpt-6-luna",
        costs(0.1, 0.5).cached(0.01).written(0.125).long(LONG),
    ),
    (
        "gpt-5.6-terra",
        costs(2.0, 12.0).cached(0.2).written(2.5).long(LONG),
    ),
    (
        "gpt-5.6-luna",
        costs(0.2, 1.2).cached(0.02).written(0.25).long(LONG),
    ),
    ("gpt-5.5", costs(5.0, 30.0).cached(0.5).long(LONG)),
    ("gpt-5.4", costs(2.5, 15.0).cached(0.25).long(LONG)),
    ("gpt-5.4-mini", costs(0.75, 4.5).cached(0.075)),
    ("gpt-5.4-nano", costs(0.2, 1.25).cached(0.02)),
    ("gpt-5.3-chat-latest", costs(1.75, 14.0).cached(0.175)),
    ("gpt-5.2", costs(1.75, 14.0).cached(0.175)),
    ("gpt-5.2-chat-latest", costs(1.75, 14.0).cached(0.175)),
    ("gpt-5.1", costs(1.25, 10.0).cached(0.125)),
    ("gpt-5.1-chat-latest", costs(1.25, 10.0).cached(0.125)),
    ("gpt-5", costs(1.25, 10.0).cached(0.125)),
    ("gpt-5-mini", costs(0.25, 2.0).cached(0.025)),
    ("gpt-5-nano", costs(0.05, 0.4).cached(0.005)),
    ("gpt-4.1", costs(2.0, 8.0).cached(0.5)),
    ("gpt-4.1-mini", costs(0.4, 1.6).cached(0.1)),
    ("gpt-4.1-nano", costs(0.1, 0.4).cached(0.025)),
    ("gpt-4o-2024-05-13", costs(5.0, 15.0)),
    ("gpt-4o", costs(2.5, 10.0).cached(1.25)),
    ("gpt-4o-mini", costs(0.15, 0.6).cached(0.075)),
    ("gpt-3.5-turbo", costs(0.5, 1.5)),
    ("o3", costs(2.0, 8.0).cached(0.5)),
    ("o3-mini", costs(1.1, 4.4).cached(0.55)),
    ("o4-mini", costs(1.1, 4.4).cached(0.275)),
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
            ("gpt-6.2-sol", 1_050_000, 128_000),
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
        for unpriced in ["gpt-5.6", "gpt-6.2-luna", "gpt-5-pro", "gpt-4o-latest"] {
            assert_eq!(facts(unpriced)[2], Value::Null, "{unpriced}");
        }
    }
    #[test]
    fn b9_long_prompts_have_prices_of_their_own() {
        for (id, expected) in [
            (
                "gpt-5.4-2026-03-05",
                json!({"input_per_1m": 2.5, "output_per_1m": 15.0, "cache_read_per_1m": 0.25, "tiers": [
                    {"above_tokens": 272_000, "input_per_1m": 5.0, "output_per_1m": 22.5, "cache_read_per_1m": 0.5}]}),
            ),
            (
                "gpt-5.5",
                json!({"input_per_1m": 5.0, "output_per_1m": 30.0, "cache_read_per_1m": 0.5, "tiers": [
                    {"above_tokens": 272_000, "input_per_1m": 10.0, "output_per_1m": 45.0, "cache_read_per_1m": 1.0}]}),
            ),
            (
                "gpt-6.2-sol",
                json!({"input_per_1m": 2.0, "output_per_1m": 10.0, "cache_read_per_1m": 0.1, "cache_write_per_1m": 2.5,
                    "tiers": [{"above_tokens": 272_000, "input_per_1m": 4.0, "output_per_1m": 15.0,
                        "cache_read_per_1m": 0.2, "cache_write_per_1m": 5.0}]}),
            ),
        ] {
            assert_eq!(facts(id)[2], expected, "{id}");
        }
        for (id, costs) in PRICES {
            let window = facts(id)[0].as_u64().unwrap();
            assert_eq!(
                costs.pricing().get("tiers").is_some(),
                window == 1_050_000,
                "{id}"
            );
        }
    }
}
