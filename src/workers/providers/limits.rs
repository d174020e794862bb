//! What the catalog knows of a model, and the output limit of a turn (contract 08 §4 "Output tokens").

use serde_json::{Map, Value, json};

use super::Host;
use super::access::{Access, whole_tokens};
use super::price::Price;
use super::protocol::{Call, ModelFacts};
use crate::bus::{CallOptions, Cx};

/// Limit of the catalog lookup; it never fails a turn.
const CATALOG_MS: u64 = 5_000;

/// Facts about the model of a turn: from the caller's record, else from the catalog, else none.
pub(super) async fn facts(cx: &Cx<Host>, call: &Call, access: &Access, id: String) -> ModelFacts {
    let looked_up;
    let record = if let Some(record) = &call.model_meta {
        record
    } else {
        looked_up = look_up(cx, &id).await;
        &looked_up
    };
    let config = cx.config();
    let provider = &cx.state().provider;
    let settings = provider.settings(&config);
    let tokens = |name: &str| record.get(name).and_then(Value::as_f64).and_then(whole_tokens);
    let ceiling = tokens("max_output_tokens");
    let flag = |name: &str| record.get(name).and_then(Value::as_bool);
    ModelFacts {
        id,
        max_tokens: output_limit(Limits {
            asked: call
                .max_output_tokens
                .filter(|tokens| *tokens > 0)
                .or(access.max_tokens),
            ceiling,
            cap: config.provider.output_token_max,
            default: settings.max_tokens,
        }),
        window: tokens("context_window"),
        supports_thinking: flag("supports_thinking"),
        supports_vision: flag("supports_vision"),
        supports_xhigh: flag("supports_xhigh"),
        ceiling,
        thinking_budgets: thinking_budgets(record),
        takes_no_budget: flag("takes_no_thinking_budget"),
        marks_cache: provider.marks_cache(&config),
        price: Price::read(record, provider.counts_cached_as_input()),
        default_effort: settings.default_effort,
    }
}

fn thinking_budgets(record: &Map<String, Value>) -> [Option<u64>; 4] {
    ["minimal", "low", "medium", "high"].map(|level| {
        let tokens = record.get("thinking_budgets")?.get(level)?.as_f64();
        tokens.and_then(whole_tokens)
    })
}

async fn look_up(cx: &Cx<Host>, model: &str) -> Map<String, Value> {
    let request = json!({ "provider": cx.state().provider.spec().id, "model_id": model });
    match cx
        .invoke("models::get", request, CallOptions::timeout_ms(CATALOG_MS))
        .await
    {
        Ok(Value::Object(record)) => record,
        Ok(_) => Map::new(),
        Err(error) => {
            tracing::debug!(model, %error, "catalog lookup failed");
            Map::new()
        }
    }
}

/// Bounds of the output, all in tokens.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// What the user wants: of the call, else stored.
    asked: Option<u64>,
    /// What the model can do.
    ceiling: Option<u64>,
    /// Most that is taken without being asked.
    cap: u64,
    /// For unknown models.
    default: u64,
}

fn output_limit(limits: Limits) -> u64 {
    match (limits.asked, limits.ceiling) {
        (Some(asked), Some(ceiling)) => asked.min(ceiling),
        (Some(asked), None) => asked,
        (None, Some(ceiling)) => ceiling.min(limits.cap),
        (None, None) => limits.default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn the_output_limit_is_the_users_the_models_or_the_default() {
        let cases = [
            ((Some(4_000), None), 4_000),
            ((Some(400_000), None), 400_000),
            ((Some(4_000), Some(2_000)), 2_000),
            ((Some(1_000), Some(2_000)), 1_000),
            ((None, Some(128_000)), 32_000),
            ((None, Some(8_192)), 8_192),
            ((None, None), 8_192),
        ];
        for ((asked, ceiling), expected) in cases {
            let limits = Limits {
                asked,
                ceiling,
                cap: 32_000,
                default: 8_192,
            };
            assert_eq!(output_limit(limits), expected, "{limits:?}");
        }
    }

    #[test]
    fn token_counts_are_floored_and_above_zero() {
        assert_eq!(whole_tokens(8192.9), Some(8192));
        for odd in [0.0, 0.5, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(whole_tokens(odd), None);
        }
    }
}
