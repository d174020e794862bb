//! What the tokens of a turn cost (contract 07 §4, 08 weakness 18).

use serde_json::Value;

use crate::model::Usage;
use crate::model::catalog::Pricing;

/// Dollars are rounded to this part of one; far below the price of a token.
const STEPS_PER_DOLLAR: f64 = 1e9;
const TOKENS_PER_PRICE: f64 = 1e6;

/// The prices of a model, and how its provider counts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Price {
    prices: Pricing,
    /// `input` holds the cached tokens too, as in Chat Completions.
    cached_in_input: bool,
}

impl Price {
    /// From a catalog record; none when it has no price, or one that cannot be.
    pub(super) fn read(record: &serde_json::Map<String, Value>, cached_in_input: bool) -> Option<Self> {
        let prices: Pricing = serde_json::from_value(record.get("pricing")?.clone()).ok()?;
        let all = [
            Some(prices.input_per_1m),
            Some(prices.output_per_1m),
            prices.cache_read_per_1m,
            prices.cache_write_per_1m,
        ];
        let can_be = all
            .into_iter()
            .flatten()
            .all(|price| price.is_finite() && price >= 0.0);
        can_be.then_some(Self {
            prices,
            cached_in_input,
        })
    }

    /// US dollars. Each token is counted in one bucket; cached ones without a price of their own cost as much as others.
    pub(super) fn of(&self, usage: &Usage) -> f64 {
        let [input, output, read, written] =
            [usage.input, usage.output, usage.cache_read, usage.cache_write].map(Option::unwrap_or_default);
        let fresh = if self.cached_in_input {
            input.saturating_sub(read)
        } else {
            input
        };
        let Pricing {
            input_per_1m,
            output_per_1m,
            cache_read_per_1m,
            cache_write_per_1m,
        } = self.prices;
        let dollars = [
            (fresh, input_per_1m),
            (output, output_per_1m),
            (read, cache_read_per_1m.unwrap_or(input_per_1m)),
            (written, cache_write_per_1m.unwrap_or(input_per_1m)),
        ];
        let dollars: f64 = dollars
            .into_iter()
            .map(|(tokens, price)| cost(tokens, price))
            .sum();
        (dollars * STEPS_PER_DOLLAR).round() / STEPS_PER_DOLLAR
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "no call has more tokens than f64 counts exactly"
)]
fn cost(tokens: u64, per_1m: f64) -> f64 {
    tokens as f64 * per_1m / TOKENS_PER_PRICE
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn price(pricing: &Value, cached_in_input: bool) -> Option<Price> {
        let record = json!({ "pricing": pricing });
        Price::read(record.as_object().unwrap(), cached_in_input)
    }

    fn cost_of(pricing: &Value, cached_in_input: bool, counts: [u64; 4]) -> f64 {
        let [input, output, cache_read, cache_write] = counts.map(Some);
        let usage = Usage {
            input,
            output,
            cache_read,
            cache_write,
            ..Usage::default()
        };
        price(pricing, cached_in_input).unwrap().of(&usage)
    }

    #[test]
    fn b8_each_token_is_paid_once() {
        let all = json!({"input_per_1m": 3, "output_per_1m": 15, "cache_read_per_1m": 0.3, "cache_write_per_1m": 3.75});
        let counts = [1_000_000, 100_000, 2_000_000, 400_000];
        // 3 + 1.5 + 0.6 + 1.5
        assert_eq!(cost_of(&all, false, counts).to_string(), "6.6");
        // Chat Completions: 1,200 of the 1,500 prompt tokens were cached.
        assert_eq!(cost_of(&all, true, [1_500, 200, 1_200, 0]).to_string(), "0.00426");
        // More cached than sent cannot be; nothing becomes negative.
        assert_eq!(cost_of(&all, true, [10, 0, 20, 0]).to_string(), "0.000006");
        let two = json!({"input_per_1m": 2, "output_per_1m": 8});
        assert_eq!(cost_of(&two, false, [0, 0, 1_000, 1_000]).to_string(), "0.004");
    }

    #[test]
    fn b10_what_is_no_price_is_none() {
        for odd in [
            Value::Null,
            json!({}),
            json!({"input_per_1m": 1}),
            json!({"input_per_1m": "1", "output_per_1m": 1}),
            json!({"input_per_1m": -1, "output_per_1m": 1}),
        ] {
            assert_eq!(price(&odd, false), None, "{odd}");
        }
        assert_eq!(
            cost_of(
                &json!({"input_per_1m": 0, "output_per_1m": 0}),
                false,
                [9, 9, 0, 0]
            )
            .to_string(),
            "0"
        );
    }
}
