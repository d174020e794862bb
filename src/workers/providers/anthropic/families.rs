//! Catalog records of Anthropic models: what the listing says, then what is known of the model, then flat defaults
//! (contract 08 §5.7, 09 A3 and weakness 10). The table only enriches ids that were listed.

use serde_json::{Map, Value, json};

use crate::workers::providers::records::{Costs, Long, costs};

const CONTEXT_TOKENS: u64 = 200_000;
const OUTPUT_TOKENS: u64 = 8_192;
const MILLION: u64 = 1_000_000;

/// A model by its id without a date. Limits in tokens.
struct Known {
    id: &'static str,
    context: u64,
    output: u64,
    thinks: Thinks,
    xhigh: Option<bool>,
    costs: Costs,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Thinks {
    /// Within a budget of tokens.
    InBudget,
    /// As much as it finds right; a budget is refused.
    AsItLikes,
}

const fn known(
    id: &'static str,
    (context, output): (u64, u64),
    thinks: Thinks,
    xhigh: Option<bool>,
    costs: Costs,
) -> Known {
    Known {
        id,
        context,
        output,
        thinks,
        xhigh,
        costs,
    }
}

const LARGE: (u64, u64) = (MILLION, 128_000);
const MIDDLE: (u64, u64) = (200_000, 64_000);
const OPUS: Costs = price([5.0, 25.0, 6.25, 0.5]);
const SONNET: Costs = price([3.0, 15.0, 3.75, 0.3]);

/// US dollars per million tokens: input, output, cache written (for five minutes), cache read.
const fn price([input, output, written, read]: [f64; 4]) -> Costs {
    costs(input, output).cached(read).written(written)
}

/// As published on platform.claude.com in November 2026.
const MODELS: &[Known] = &[
    known(
        "claude-fable-5-1",
        LARGE,
        Thinks::AsItLikes,
        None,
        price([10.0, 50.0, 12.5, 0.25]),
    ),
    known(
        "claude-mythos-5-1",
        LARGE,
        Thinks::AsItLikes,
        None,
        price([10.0, 50.0, 12.5, 0.25]),
    ),
    known(
        "claude-fable-5",
        LARGE,
        Thinks::AsItLikes,
        Some(true),
        price([10.0, 50.0, 12.5, 1.0]),
    ),
    known(
        "claude-mythos-5",
        LARGE,
        Thinks::AsItLikes,
        Some(true),
        price([10.0, 50.0, 12.5, 1.0]),
    ),
    known(
        "claude-opus-5-5",
        LARGE,
        Thinks::AsItLikes,
        None,
        price([4.0, 20.0, 5.0, 0.2]),
    ),
    known("claude-opus-5", LARGE, Thinks::AsItLikes, Some(true), OPUS),
    known("claude-opus-4-8", LARGE, Thinks::AsItLikes, Some(true), OPUS),
    known("claude-opus-4-7", LARGE, Thinks::AsItLikes, Some(true), OPUS),
    known("claude-opus-4-6", LARGE, Thinks::InBudget, Some(false), OPUS),
    known("claude-opus-4-5", MIDDLE, Thinks::InBudget, Some(false), OPUS),
    known(
        "claude-opus-4-1",
        (200_000, 32_000),
        Thinks::InBudget,
        Some(false),
        price([15.0, 75.0, 18.75, 1.5]),
    ),
    known(
        "claude-sonnet-5-5",
        LARGE,
        Thinks::AsItLikes,
        None,
        price([2.0, 10.0, 2.5, 0.1]),
    ),
    known(
        "claude-sonnet-5",
        LARGE,
        Thinks::AsItLikes,
        Some(true),
        price([2.0, 10.0, 2.5, 0.2]),
    ),
    known("claude-sonnet-4-6", LARGE, Thinks::InBudget, Some(false), SONNET),
    known("claude-sonnet-4-5", MIDDLE, Thinks::InBudget, Some(false), SONNET),
    known("claude-sonnet-4", MIDDLE, Thinks::InBudget, Some(false), SONNET),
    known(
        "claude-haiku-5-5",
        LARGE,
        Thinks::AsItLikes,
        None,
        price([0.1, 0.5, 0.125, 0.01]).long(Long {
            above: 100_000,
            input: 5.0,
            output: 5.0,
        }),
    ),
    known(
        "claude-haiku-4-5",
        MIDDLE,
        Thinks::InBudget,
        Some(false),
        price([1.0, 5.0, 1.25, 0.1]),
    ),
];

fn find(id: &str) -> Option<&'static Known> {
    let name = undated(id);
    MODELS.iter().find(|known| known.id == name)
}

/// Whether a model refuses a budget for its reasoning, as far as is known.
pub(super) fn takes_no_budget(id: &str) -> bool {
    find(id).is_some_and(|known| known.thinks == Thinks::AsItLikes)
}

/// The record of one listed model.
pub(super) fn record(provider: &str, id: &str, entry: &Value) -> Value {
    let known = find(id);
    let listed = |key: &str| entry.get(key)?.as_u64().filter(|tokens| *tokens > 0);
    let name = entry.get("display_name").and_then(Value::as_str);
    let context = listed("max_input_tokens").or_else(|| known.map(|known| known.context));
    let output = listed("max_tokens").or_else(|| known.map(|known| known.output));
    let mut record = json!({
        "id": id,
        "provider": provider,
        "api": "anthropic-messages",
        "display_name": name.filter(|name| !name.is_empty()).unwrap_or(id),
        "context_window": context.unwrap_or(CONTEXT_TOKENS),
        "max_output_tokens": output.unwrap_or(OUTPUT_TOKENS),
        "supports_tools": true,
        "transports": ["sse"],
    });
    if let Value::Object(members) = &mut record {
        add_abilities(members, known, entry.get("capabilities").unwrap_or(&Value::Null));
        if let Some(known) = known {
            members.insert("pricing".into(), known.costs.pricing());
        }
    }
    record
}

/// What is unknown stays out of the record.
fn add_abilities(record: &mut Map<String, Value>, known: Option<&Known>, capabilities: &Value) {
    let listed = |path: &str| capabilities.pointer(path)?.get("supported")?.as_bool();
    let refuses_budget = listed("/thinking/types/enabled").map(|takes| !takes);
    let adapts = listed("/thinking/types/adaptive").unwrap_or(true);
    let abilities = [
        (
            "supports_thinking",
            listed("/thinking").or_else(|| known.map(|_| true)),
        ),
        (
            "supports_xhigh",
            listed("/effort/xhigh").or_else(|| known.and_then(|known| known.xhigh)),
        ),
        (
            "supports_vision",
            listed("/image_input").or_else(|| known.map(|_| true)),
        ),
        ("supports_cache", known.map(|_| true)),
        (
            "takes_no_thinking_budget",
            refuses_budget
                .map(|refuses| refuses && adapts)
                .or_else(|| known.map(|known| known.thinks == Thinks::AsItLikes)),
        ),
    ];
    for (ability, value) in abilities {
        if let Some(value) = value {
            record.insert(ability.into(), value.into());
        }
    }
}

/// `claude-opus-4-1-20250805` → `claude-opus-4-1`.
fn undated(id: &str) -> &str {
    match id.rsplit_once('-') {
        Some((name, "latest" | "0")) => name,
        Some((name, date)) if date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()) => name,
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
            record("anthropic", "claude-9", &json!({"id": "claude-9"})),
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
            record("anthropic", "claude-haiku-4-5-20251001", &listed),
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
            record("anthropic", "claude-haiku-5-5", &json!({}))["pricing"],
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
        let record = record("anthropic", "claude-opus-9", &listed);
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
            ("claude-opus-4-1-20250805", Some("claude-opus-4-1")),
            ("claude-sonnet-4-0", Some("claude-sonnet-4")),
            ("claude-sonnet-4-20250514", Some("claude-sonnet-4")),
            ("claude-opus-5", Some("claude-opus-5")),
            ("claude-opus-5-9", None),
            ("claude-opus-4-1-fast", None),
            ("my-claude-opus-5", None),
            ("20250805", None),
        ] {
            assert_eq!(find(id).map(|known| known.id), expected, "{id}");
        }
    }
}
