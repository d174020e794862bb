//! What is known of Claude models beside their listing (contract 08 §5.7, 09 weakness 10). As published on platform.claude.com in
//! November 2026.

use crate::workers::providers::records::{Family, Known, Price, family};

pub(super) const KNOWN: Known = Known {
    families: FAMILIES,
    prices: PRICES,
    // For five minutes.
    cache_write: Some(1.25),
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

/// Only prices that are certain: a wrong one is worse for a budget than none. That of claude-haiku-5-5 depends on the length of the
/// prompt.
const PRICES: &[Price] = &[
    ("claude-fable-5-1", 10.0, 50.0, Some(0.25)),
    ("claude-mythos-5-1", 10.0, 50.0, Some(0.25)),
    ("claude-fable-5", 10.0, 50.0, Some(1.0)),
    ("claude-mythos-5", 10.0, 50.0, Some(1.0)),
    ("claude-opus-5-5", 4.0, 20.0, Some(0.2)),
    ("claude-opus-5", 5.0, 25.0, Some(0.5)),
    ("claude-opus-4-8", 5.0, 25.0, Some(0.5)),
    ("claude-opus-4-7", 5.0, 25.0, Some(0.5)),
    ("claude-opus-4-6", 5.0, 25.0, Some(0.5)),
    ("claude-opus-4-5", 5.0, 25.0, Some(0.5)),
    ("claude-opus-4-1", 15.0, 75.0, Some(1.5)),
    ("claude-sonnet-5-5", 2.0, 10.0, Some(0.1)),
    ("claude-sonnet-5", 2.0, 10.0, Some(0.2)),
    ("claude-sonnet-4-6", 3.0, 15.0, Some(0.3)),
    ("claude-sonnet-4-5", 3.0, 15.0, Some(0.3)),
    ("claude-sonnet-4", 3.0, 15.0, Some(0.3)),
    ("claude-haiku-4-5", 1.0, 5.0, Some(0.1)),
];

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
            ("claude-haiku-5-5", None),
            ("my-claude-opus-5", None),
            ("20250805", None),
        ] {
            let pricing = record(id, &json!({}))["pricing"]["input_per_1m"].clone();
            assert_eq!(pricing.as_f64(), expected, "{id}");
        }
    }
}
