//! What a model call cost its run (contract 07 §4, field lessons B8, B10). Pure.

use crate::model::price::Counting;
pub(super) use crate::model::price::Prices;
use crate::model::{Usage, Usd};

/// What a call cost: as the provider says, else by the prices, else nothing that anybody knows of.
pub(super) fn of_call(usage: Option<&Usage>, prices: Option<&Prices>, provider: &str) -> Usd {
    let Some(usage) = usage else { return Usd::ZERO };
    let told = usage
        .cost_usd
        .and_then(Usd::from_dollars)
        .filter(|cost| *cost >= Usd::ZERO);
    let priced = || {
        let dollars = prices?.dollars(usage, counting(usage, provider));
        Some(Usd::from_dollars(dollars).unwrap_or(Usd::MAX))
    };
    told.or_else(priced).unwrap_or(Usd::ZERO)
}

/// Cached tokens are a part of `input` where the provider's own total says so, and beside it where that has them on top; without
/// a total it is known of one vendor that it counts them apart.
fn counting(usage: &Usage, provider: &str) -> Counting {
    let [input, output] = [usage.input, usage.output].map(Option::unwrap_or_default);
    let apart = match usage.total {
        Some(total) => total > input.saturating_add(output),
        None => provider == "anthropic",
    };
    if apart {
        Counting::CachedApart
    } else {
        Counting::CachedInside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};

    fn prices() -> Prices {
        let model = json!({"pricing": {"input_per_1m": 3, "output_per_1m": 15, "cache_read_per_1m": 0.3,
                                       "cache_write_per_1m": 3.75}});
        Prices::of(&model, "p").unwrap()
    }

    fn usage(json: Value) -> Usage {
        serde_json::from_value(json).unwrap()
    }

    fn micros(json: Value, provider: &str) -> i64 {
        of_call(Some(&usage(json)), Some(&prices()), provider).micros()
    }

    #[test]
    fn c07_4_buckets_are_disjoint() {
        let counts = json!({"input": 1000, "output": 100, "cache_read": 400, "cache_write": 200});
        let with_total = |total: u64| {
            let mut counts = counts.clone();
            counts["total"] = json!(total);
            counts
        };
        let apart = 3000 + 1500 + 120 + 750;
        let inside = 3 * 400 + 1500 + 120 + 750;
        assert_eq!(micros(with_total(1700), "p"), apart);
        assert_eq!(micros(with_total(1100), "p"), inside);
        assert_eq!(micros(counts.clone(), "anthropic"), apart);
        assert_eq!(micros(counts, "openai"), inside);
    }

    #[test]
    fn a_told_cost_counts_and_an_explicit_zero_is_zero() {
        let told = |cost: Value| micros(json!({"input": 1000, "output": 0, "cost_usd": cost}), "p");
        assert_eq!(told(json!(0.25)), 250_000);
        assert_eq!(told(json!(0)), 0);
        assert_eq!(told(json!(-1)), 3000);
        assert_eq!(of_call(None, Some(&prices()), "p"), Usd::ZERO);
        assert_eq!(of_call(Some(&usage(json!({"input": 9}))), None, "p"), Usd::ZERO);
    }
}
