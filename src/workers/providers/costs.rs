//! What a vendor's model costs, as the tables say it (contract 09 A3).

use serde_json::{Value, json};

/// Id, and what its tokens cost.
pub type Price = (&'static str, Costs);

/// US dollars per million tokens.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    long: Option<Long>,
}

/// Calls with long prompts cost so many times as much.
#[derive(Debug, Clone, Copy)]
pub struct Long {
    /// Prompts of more tokens are long, cached ones included.
    pub above: u64,
    /// For the prompt, cached or not.
    pub input: f64,
    /// For the output.
    pub output: f64,
}

/// Prompt and output; cached tokens cost the same.
pub const fn costs(input: f64, output: f64) -> Costs {
    Costs {
        input,
        output,
        cache_read: None,
        cache_write: None,
        long: None,
    }
}

impl Costs {
    /// With a price of cached tokens.
    #[must_use]
    pub const fn cached(mut self, price: f64) -> Self {
        self.cache_read = Some(price);
        self
    }

    /// With a price of tokens that are written to the cache.
    #[must_use]
    pub const fn written(mut self, price: f64) -> Self {
        self.cache_write = Some(price);
        self
    }

    /// With other prices for long prompts.
    #[must_use]
    pub const fn long(mut self, long: Long) -> Self {
        self.long = Some(long);
        self
    }

    /// The member `pricing` of a record.
    pub(super) fn pricing(&self) -> Value {
        let mut pricing = self.times(1.0, 1.0);
        if let Some(Long { above, input, output }) = self.long {
            let mut tier = self.times(input, output);
            tier["above_tokens"] = above.into();
            pricing["tiers"] = json!([tier]);
        }
        pricing
    }

    fn times(&self, input: f64, output: f64) -> Value {
        /// Finer than any price.
        const STEPS: f64 = 1e6;
        let price = |price: f64, times: f64| Value::from((price * times * STEPS).round() / STEPS);
        let mut rates = json!({
            "input_per_1m": price(self.input, input),
            "output_per_1m": price(self.output, output),
        });
        let cached = [
            ("cache_read_per_1m", self.cache_read),
            ("cache_write_per_1m", self.cache_write),
        ];
        for (member, cost) in cached {
            if let Some(cost) = cost {
                rates[member] = price(cost, input);
            }
        }
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn prices_of_long_prompts_are_a_tier() {
        let long = Long {
            above: 100_000,
            input: 2.0,
            output: 1.5,
        };
        let costs = costs(0.2, 1.2).cached(0.02).written(0.25).long(long);
        assert_eq!(
            costs.pricing(),
            json!({"input_per_1m": 0.2, "output_per_1m": 1.2, "cache_read_per_1m": 0.02, "cache_write_per_1m": 0.25,
                "tiers": [{"above_tokens": 100_000, "input_per_1m": 0.4, "output_per_1m": 1.8,
                    "cache_read_per_1m": 0.04, "cache_write_per_1m": 0.5}]})
        );
    }
}
