//! What is known of Claude models beside their listing (contract 08 §5.7, 09 weakness 10). As published on platform.claude.com in
//! November 2026.

use crate::workers::providers::costs::{Costs, Long, Price, costs};
use crate::workers::providers::records::{Family, Known, family};

pub(super) const KNOWN: Known = Known {
    families: FAMILIES,
    prices: PRICES,
    aliases: &["-latest", "-0"],
    ..Known::flat("anthropic-messages", 200_000)
};

const FAMILIES: &[Family] = &[
    adaptive("claude-fable-5-1", None),
    adaptive("claude-mythos-5-1", None),
    adaptive("claude-fable-5", Some(true)),
    adaptive("claude-mythos-5", Some(true)),
    adaptive("claude-opus-5-5", None),
    adaptive("claude-opus-5", Some(true)),
    adaptive("claude-opus-4-8", Some(true)),
    adaptive("claude-opus-4-7", Some(true)),
    budgeted("claude-opus-4-6", 1_000_000, 128_000),
    budgeted("claude-opus-4-5", 200_000, 64_000),
    budgeted("claude-opus-4-1", 200_000, 32_000),
    adaptive("claude-sonnet-5-5", None),
    adaptive("claude-sonnet-5", Some(true)),
    budgeted("claude-sonnet-4-6", 1_000_000, 128_000),
    budgeted("claude-sonnet-4", 200_000, 64_000),
    adaptive("claude-haiku-5-5", None),
    budgeted("claude-haiku-4-5", 200_000, 64_000),
];

/// Thinks as much as it finds right and refuses a budget; takes the highest effort or not.
const fn adaptive(prefix: &'static str, xhigh: Option<bool>) -> Family {
    family(prefix, 1_000_000, 128_000, true, true).of_messages(true, xhigh)
}

/// Thinks within a budget of tokens.
const fn budgeted(prefix: &'static str, context: u64, output: u64) -> Family {
    family(prefix, context, output, true, true).of_messages(false, Some(false))
}

/// Only prices that are certain: a wrong one is worse for a budget than none.
const PRICES: &[Price] = &[
    ("claude-fable-5-1", price([10.0, 50.0, 12.5, 0.25])),
    ("claude-mythos-5-1", price([10.0, 50.0, 12.5, 0.25])),
    ("claude-fable-5", price([10.0, 50.0, 12.5, 1.0])),
    ("claude-mythos-5", price([10.0, 50.0, 12.5, 1.0])),
    ("claude-opus-5-5", price([4.0, 20.0, 5.0, 0.2])),
    ("claude-opus-5", OPUS),
    ("claude-opus-4-8", OPUS),
    ("claude-opus-4-7", OPUS),
    ("claude-opus-4-6", OPUS),
    ("claude-opus-4-5", OPUS),
    ("claude-opus-4-1", price([15.0, 75.0, 18.75, 1.5])),
    ("claude-sonnet-5-5", price([2.0, 10.0, 2.5, 0.1])),
    ("claude-sonnet-5", price([2.0, 10.0, 2.5, 0.2])),
    ("claude-sonnet-4-6", SONNET),
    ("claude-sonnet-4-5", SONNET),
    ("claude-sonnet-4", SONNET),
    (
        "claude-haiku-5-5",
        price([0.1, 0.5, 0.125, 0.01]).long(Long {
            above: 100_000,
            input: 5.0,
            output: 5.0,
        }),
    ),
    ("claude-haiku-4-5", price([1.0, 5.0, 1.25, 0.1])),
];

const OPUS: Costs = price([5.0, 25.0, 6.25, 0.5]);
const SONNET: Costs = price([3.0, 15.0, 3.75, 0.3]);

/// US dollars per million tokens: input, output, cache written (for five minutes), cache read.
const fn price([input, output, written, read]: [f64; 4]) -> Costs {
    costs(input, output).cached(read).written(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};

    fn record(id: &str, entry: &Value) -> Value {
        KNOWN.record("anthropic", id, entry)
    }

    #[test]
    fn an_unknown_model_gets_the_flat_record() {
        assert_eq!(
            record("claude-9", &json!({"id": "claude-9"})),
            json!({
                "id": "claude-9",
                "provider": "anthropic",
                "api": "anthropic-messages",
                "display_name": "claude-9",
                "context_window": 200_000,
                "max_output_tokens": 8192,
                "supports_tools": true,
                "transports": ["sse"]
            })
        );
    }

    #[test]
    fn a_known_model_is_enriched() {
        let listed = json!({"id": "claude-haiku-4-5-20251001", "display_name": "Claude Haiku 4.5", "max_tokens": null});
        assert_eq!(
            record("claude-haiku-4-5-20251001", &listed),
            json!({
                "id": "claude-haiku-4-5-20251001",
                "provider": "anthropic",
                "api": "anthropic-messages",
                "display_name": "Claude Haiku 4.5",
                "context_window": 200_000,
                "max_output_tokens": 64_000,
                "supports_tools": true,
                "transports": ["sse"],
                "supports_thinking": true,
                "supports_xhigh": false,
                "supports_vision": true,
                "supports_cache": true,
                "takes_no_thinking_budget": false,
                "pricing": {"input_per_1m": 1.0, "output_per_1m": 5.0, "cache_read_per_1m": 0.1,
                    "cache_write_per_1m": 1.25}
            })
        );
    }

    #[test]
    fn b9_long_prompts_have_prices_of_their_own() {
        assert_eq!(
            record("claude-haiku-5-5", &json!({}))["pricing"],
            json!({"input_per_1m": 0.1, "output_per_1m": 0.5, "cache_read_per_1m": 0.01, "cache_write_per_1m": 0.125,
                "tiers": [{"above_tokens": 100_000, "input_per_1m": 0.5, "output_per_1m": 2.5,
                    "cache_read_per_1m": 0.05, "cache_write_per_1m": 0.625}]})
        );
    }

    #[test]
    fn the_listing_beats_the_table() {
        let supported = |yes: bool| json!({ "supported": yes });
        let listed = json!({"id": "claude-opus-9", "max_input_tokens": 2_000_000, "max_tokens": 256_000, "capabilities": {
            "image_input": supported(false),
            "effort": {"supported": true, "xhigh": supported(true)},
            "thinking": {"supported": true, "types": {"adaptive": supported(true), "enabled": supported(false)}}
        }});
        let record = record("claude-opus-9", &listed);
        let seen = [
            "context_window",
            "max_output_tokens",
            "supports_thinking",
            "supports_xhigh",
            "supports_vision",
            "supports_cache",
            "takes_no_thinking_budget",
            "pricing",
        ]
        .map(|member| record[member].clone());
        assert_eq!(
            seen,
            [
                json!(2_000_000),
                json!(256_000),
                json!(true),
                json!(true),
                json!(false),
                Value::Null,
                json!(true),
                Value::Null
            ]
        );
    }

    #[test]
    fn b10_no_model_is_priced_by_a_name_that_only_looks_alike() {
        for (id, expected) in [
            ("claude-opus-4-1-20250805", Some(15.0)),
            ("claude-sonnet-4-0", Some(3.0)),
            ("claude-sonnet-4-20250514", Some(3.0)),
            ("claude-opus-5-latest", Some(5.0)),
            ("claude-opus-5", Some(5.0)),
            ("claude-opus-5-9", None),
            ("claude-opus-4-1-fast", None),
            ("claude-haiku-5-5", Some(0.1)),
            ("my-claude-opus-5", None),
            ("20250805", None),
        ] {
            let pricing = record(id, &json!({}))["pricing"]["input_per_1m"].clone();
            assert_eq!(pricing.as_f64(), expected, "{id}");
        }
    }
}
