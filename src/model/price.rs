//! What a model call costs (contract 07 §4, field lessons B8, B10). Pure.

use serde_json::Value;

use super::{Usage, Usd};

/// Tokens that a price is given for.
const PER: f64 = 1e6;

/// Providers on this machine: they bill nobody.
const FREE: &[&str] = &["lmstudio", "llamacpp"];

/// US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    input: f64,
    output: f64,
    cache_read: f64,
    cache_write: f64,
}

impl Prices {
    /// The prices in a catalog record; none when it has none, or some that are no prices. A price that is missing for
    /// cached tokens is that of the others.
    pub fn of(model: &Value, provider: &str) -> Option<Self> {
        let free = Self {
            input: 0.0,
            output: 0.0,
            cache_read: 0.0,
            cache_write: 0.0,
        };
        if FREE.contains(&provider) {
            return Some(free);
        }
        let pricing = model.get("pricing")?;
        let price = |name| {
            pricing
                .get(name)
                .and_then(Value::as_f64)
                .filter(|price| price.is_finite() && *price >= 0.0)
        };
        let input = price("input_per_1m")?;
        Some(Self {
            input,
            output: price("output_per_1m")?,
            cache_read: price("cache_read_per_1m").unwrap_or(input),
            cache_write: price("cache_write_per_1m").unwrap_or(input),
        })
    }

    /// The most that a call can cost: all of the prompt may have to be written to a cache.
    pub fn worst(&self, input: u64, output: u64) -> Usd {
        dollars(tokens(input) * self.input.max(self.cache_write) + tokens(output) * self.output)
    }

    /// What a call cost. Cached tokens are a part of `input` where the provider's own total says so, and beside it where that
    /// has them on top; without a total it is known of one vendor that it counts them apart.
    pub fn cost(&self, usage: &Usage, provider: &str) -> Usd {
        let [input, output, read, write] =
            [usage.input, usage.output, usage.cache_read, usage.cache_write].map(Option::unwrap_or_default);
        let apart = match usage.total {
            Some(total) => total > input.saturating_add(output),
            None => provider == "anthropic",
        };
        let uncached = if apart {
            input
        } else {
            input.saturating_sub(read).saturating_sub(write)
        };
        dollars(
            tokens(uncached) * self.input
                + tokens(output) * self.output
                + tokens(read) * self.cache_read
                + tokens(write) * self.cache_write,
        )
    }
}

/// What a call cost: as the provider says, else by the prices, else nothing that anybody knows of.
pub fn of_call(usage: Option<&Usage>, prices: Option<&Prices>, provider: &str) -> Usd {
    let Some(usage) = usage else { return Usd::ZERO };
    let told = usage
        .cost_usd
        .and_then(Usd::from_dollars)
        .filter(|cost| *cost >= Usd::ZERO);
    told.or_else(|| prices.map(|prices| prices.cost(usage, provider)))
        .unwrap_or(Usd::ZERO)
}

/// Token prices times tokens, as money; what is beyond all money is all of it.
fn dollars(millionths: f64) -> Usd {
    Usd::from_dollars(millionths / PER).unwrap_or(Usd::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53 tokens")]
fn tokens(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

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

    #[test]
    fn what_has_no_price_is_never_priced_by_guess() {
        for model in [
            json!(null),
            json!({}),
            json!({"pricing": {}}),
            json!({"pricing": {"input_per_1m": 1}}),
            json!({"pricing": {"input_per_1m": -1, "output_per_1m": 1}}),
            json!({"pricing": {"input_per_1m": "1", "output_per_1m": 1}}),
        ] {
            assert_eq!(Prices::of(&model, "openai"), None, "{model}");
        }
        assert_eq!(
            Prices::of(&json!({}), "llamacpp")
                .unwrap()
                .worst(1 << 20, 1 << 20),
            Usd::ZERO
        );
    }

    #[test]
    fn the_worst_case_writes_all_of_the_prompt_to_a_cache() {
        assert_eq!(prices().worst(1000, 100), Usd::from_micros(3750 + 1500));
        assert_eq!(prices().worst(u64::MAX, 1), Usd::MAX);
    }
}
