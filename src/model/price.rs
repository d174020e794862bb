//! What the tokens of a model call cost (contract 07 §4, 08 weakness 18, field lessons B8 to B10). Pure.

use serde_json::Value;

use super::catalog::{Pricing, Rates};
use super::{Usage, Usd};

/// Tokens that a price is given for.
const PER: f64 = 1e6;

/// Dollars are rounded to this part of one; far below the price of a token.
const STEPS_PER_DOLLAR: f64 = 1e9;

/// A prompt may be longer than its estimate by this part of it.
const SLACK: u64 = 4;

/// Providers on this machine: they bill nobody.
const FREE: &[&str] = &["lmstudio", "llamacpp"];

/// How a provider counts `usage.input`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// With the cached tokens in it, as in Chat Completions.
    CachedInside,
    /// Cached tokens come on top.
    CachedApart,
}

/// The prices of a model, for prompts of any length.
#[derive(Debug, Clone, PartialEq)]
pub struct Prices {
    base: Rates,
    /// Prices of all tokens of a call whose prompt has more tokens than the number, from the shortest to the longest.
    tiers: Vec<(f64, Rates)>,
}

impl Prices {
    /// The prices in a catalog record; none when it has none, or some that are no prices.
    pub fn of(model: &Value, provider: &str) -> Option<Self> {
        if FREE.contains(&provider) {
            return Some(Self {
                base: Rates::default(),
                tiers: Vec::new(),
            });
        }
        Self::read(model.get("pricing")?)
    }

    /// The same from the record's member `pricing`, whoever the provider is.
    pub fn read(pricing: &Value) -> Option<Self> {
        let Pricing { rates: base, tiers } = serde_json::from_value(pricing.clone()).ok()?;
        let tiers = tiers.unwrap_or_default().into_iter();
        let mut tiers: Vec<_> = tiers.map(|tier| (tier.above_tokens, tier.rates)).collect();
        tiers.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let is_price = |price: f64| price.is_finite() && price >= 0.0;
        let all = tiers.iter().map(|(_, rates)| rates).chain([&base]);
        let can_be = all
            .flat_map(Rates::all)
            .chain(tiers.iter().map(|(above, _)| *above))
            .all(is_price);
        can_be.then_some(Self { base, tiers })
    }

    /// The most that a call can cost whose prompt has about so many tokens: all of it may have to be written to a cache, and it
    /// may be longer than estimated, into a dearer tier.
    pub fn worst(&self, prompt: u64, output: u64) -> Usd {
        let longest = tokens(prompt.saturating_add(prompt / SLACK));
        let reached = self.tiers.iter().take_while(|(above, _)| longest > *above);
        let rates = reached.map(|(_, rates)| rates).chain([&self.base]);
        let costs = rates.map(|rates| {
            cost(prompt, rates.input_per_1m.max(rates.cache_write())) + cost(output, rates.output_per_1m)
        });
        Usd::from_dollars(costs.fold(0.0, f64::max)).unwrap_or(Usd::MAX)
    }

    /// What a call cost, US dollars. Each token is counted in one bucket, and the length of the prompt decides on the price of
    /// all of them.
    pub fn dollars(&self, usage: &Usage, counting: Counting) -> f64 {
        let [input, output, read, written] =
            [usage.input, usage.output, usage.cache_read, usage.cache_write].map(Option::unwrap_or_default);
        let cached = read.saturating_add(written);
        let fresh = match counting {
            Counting::CachedInside => input.saturating_sub(cached),
            Counting::CachedApart => input,
        };
        let rates = self.rates(fresh.saturating_add(cached));
        let dollars = cost(fresh, rates.input_per_1m)
            + cost(output, rates.output_per_1m)
            + cost(read, rates.cache_read())
            + cost(written, rates.cache_write());
        (dollars * STEPS_PER_DOLLAR).round() / STEPS_PER_DOLLAR
    }

    fn rates(&self, prompt: u64) -> &Rates {
        let reached = self.tiers.iter().rfind(|(above, _)| tokens(prompt) > *above);
        reached.map_or(&self.base, |(_, rates)| rates)
    }
}

fn cost(count: u64, per_1m: f64) -> f64 {
    tokens(count) * per_1m / PER
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53 tokens")]
fn tokens(count: u64) -> f64 {
    count as f64
}

/// What a call cost: as the provider says, else by the prices, else nothing that anybody knows of.
pub fn of_call(usage: Option<&Usage>, prices: Option<&Prices>, provider: &str) -> Usd {
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
    use proptest::prelude::*;
    use serde_json::json;

    fn prices(pricing: &Value) -> Prices {
        Prices::read(pricing).unwrap()
    }

    /// As gpt-5.4, with a second tier that is cheaper again.
    fn tiered() -> Prices {
        prices(
            &json!({"input_per_1m": 2.5, "output_per_1m": 15, "cache_read_per_1m": 0.25, "tiers": [
                {"above_tokens": 500_000, "input_per_1m": 1, "output_per_1m": 10},
                {"above_tokens": 272_000, "input_per_1m": 5, "output_per_1m": 22.5, "cache_read_per_1m": 0.5},
            ]}),
        )
    }

    fn usage([input, output, cache_read, cache_write]: [u64; 4]) -> Usage {
        Usage {
            input: Some(input),
            output: Some(output),
            cache_read: Some(cache_read),
            cache_write: Some(cache_write),
            ..Usage::default()
        }
    }

    fn cost_of(pricing: &Value, counting: Counting, counts: [u64; 4]) -> String {
        prices(pricing).dollars(&usage(counts), counting).to_string()
    }

    #[test]
    fn b8_each_token_is_paid_once() {
        let all = json!({"input_per_1m": 3, "output_per_1m": 15, "cache_read_per_1m": 0.3, "cache_write_per_1m": 3.75});
        // 3 + 1.5 + 0.6 + 1.5
        let counts = [1_000_000, 100_000, 2_000_000, 400_000];
        assert_eq!(cost_of(&all, Counting::CachedApart, counts), "6.6");
        // Of the 1,500 prompt tokens 1,200 were cached, and 100 were written to the cache.
        let counts = [1_500, 200, 1_200, 100];
        assert_eq!(cost_of(&all, Counting::CachedInside, counts), "0.004335");
        // More cached than sent cannot be; nothing becomes negative.
        assert_eq!(cost_of(&all, Counting::CachedInside, [10, 0, 20, 0]), "0.000006");
        let two = json!({"input_per_1m": 2, "output_per_1m": 8, "cache_read_per_1m": null, "tiers": null});
        assert_eq!(
            cost_of(&two, Counting::CachedApart, [0, 0, 1_000, 1_000]),
            "0.004"
        );
        let nothing = json!({"input_per_1m": 0, "output_per_1m": 0});
        assert_eq!(cost_of(&nothing, Counting::CachedApart, [9, 9, 0, 0]), "0");
    }

    #[test]
    fn b9_the_length_of_the_prompt_decides_on_the_price_of_all_tokens() {
        let tiered = tiered();
        let cost = |counting, counts| tiered.dollars(&usage(counts), counting).to_string();
        for (prompt, expected) in [
            (272_000, "0.695"),
            // 272,001 x 5 + 1,000 x 22.5
            (272_001, "1.382505"),
            (500_000, "2.5225"),
            (500_001, "0.510001"),
        ] {
            assert_eq!(
                cost(Counting::CachedInside, [prompt, 1_000, 0, 0]),
                expected,
                "{prompt}"
            );
        }
        // Cached tokens are part of the prompt, whether they are counted inside or on top; the answer is not.
        assert_eq!(cost(Counting::CachedApart, [2_000, 0, 270_000, 0]), "0.0725");
        assert_eq!(cost(Counting::CachedApart, [2_000, 0, 270_001, 0]), "0.1450005");
        assert_eq!(
            cost(Counting::CachedInside, [272_001, 0, 270_001, 0]),
            "0.1450005"
        );
        assert_eq!(cost(Counting::CachedApart, [2_000, 300_000, 0, 0]), "4.505");
        // A tier without a price for cached tokens does not borrow that of shorter prompts.
        assert_eq!(cost(Counting::CachedInside, [600_000, 0, 600_000, 0]), "0.6");
    }

    #[test]
    fn b10_what_is_no_price_is_none() {
        for odd in [
            Value::Null,
            json!({}),
            json!([1, 2]),
            json!({"input_per_1m": 1}),
            json!({"input_per_1m": "1", "output_per_1m": 1}),
            json!({"input_per_1m": -1, "output_per_1m": 1}),
            json!({"input_per_1m": 1, "output_per_1m": 1, "cache_read_per_1m": -1}),
            // Half a tier is no price for long prompts, and that of short ones is not theirs.
            json!({"input_per_1m": 1, "output_per_1m": 1, "tiers": {}}),
            json!({"input_per_1m": 1, "output_per_1m": 1, "tiers": [{"above_tokens": 9, "input_per_1m": 2}]}),
            json!({"input_per_1m": 1, "output_per_1m": 1, "tiers": [{"input_per_1m": 2, "output_per_1m": 2}]}),
            json!({"input_per_1m": 1, "output_per_1m": 1,
                   "tiers": [{"above_tokens": 9, "input_per_1m": 2, "output_per_1m": -2}]}),
            json!({"input_per_1m": 1, "output_per_1m": 1,
                   "tiers": [{"above_tokens": -9, "input_per_1m": 2, "output_per_1m": 2}]}),
        ] {
            assert_eq!(Prices::read(&odd), None, "{odd}");
            assert_eq!(Prices::of(&json!({ "pricing": odd }), "openai"), None, "{odd}");
        }
        assert_eq!(Prices::of(&Value::Null, "openai"), None);
        assert_eq!(
            Prices::of(&json!({}), "llamacpp")
                .unwrap()
                .worst(1 << 20, 1 << 20),
            Usd::ZERO
        );
    }

    #[test]
    fn the_worst_case_writes_all_of_the_prompt_to_a_cache() {
        let written = prices(&json!({"input_per_1m": 3, "output_per_1m": 15, "cache_write_per_1m": 3.75}));
        assert_eq!(written.worst(1000, 100), Usd::from_micros(3750 + 1500));
        assert_eq!(written.worst(u64::MAX, 1), Usd::MAX);
    }

    #[test]
    fn the_worst_case_is_in_the_dearest_tier_that_the_prompt_can_reach() {
        let worst = |prompt| tiered().worst(prompt, 1_000).micros();
        // A quarter more than 217,600 is 272,000.
        assert_eq!(worst(217_600), 544_000 + 15_000);
        assert_eq!(worst(217_604), 1_088_020 + 22_500);
        // It may as well be shorter than the tier that is cheaper again.
        assert_eq!(worst(600_000), 3_000_000 + 22_500);
    }

    fn billed() -> Prices {
        prices(
            &json!({"input_per_1m": 3, "output_per_1m": 15, "cache_read_per_1m": 0.3, "cache_write_per_1m": 3.75}),
        )
    }

    fn told(json: Value) -> Usage {
        serde_json::from_value(json).unwrap()
    }

    fn micros(json: Value, provider: &str) -> i64 {
        of_call(Some(&told(json)), Some(&billed()), provider).micros()
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
        let cost = |cost: Value| micros(json!({"input": 1000, "output": 0, "cost_usd": cost}), "p");
        assert_eq!(cost(json!(0.25)), 250_000);
        assert_eq!(cost(json!(0)), 0);
        assert_eq!(cost(json!(-1)), 3000);
        assert_eq!(of_call(None, Some(&billed()), "p"), Usd::ZERO);
        assert_eq!(of_call(Some(&told(json!({"input": 9}))), None, "p"), Usd::ZERO);
    }

    proptest! {
        /// What was set aside is enough for any call whose prompt was not underestimated by more than a fifth of it.
        #[test]
        fn no_call_costs_more_than_its_worst_case(
            estimate in 0_u64..1_000_000, longer in 0_u64..100, output in 0_u64..100_000,
            read in 0_u64..50, written in 0_u64..50, edges in prop::collection::vec((1_u64..900_000, 0_u32..50), 0..4),
        ) {
            let tiers: Vec<Value> = edges.iter().map(|(above, price)| {
                json!({"above_tokens": above, "input_per_1m": price, "output_per_1m": price + 1, "cache_write_per_1m": 2})
            }).collect();
            let prices = prices(&json!({"input_per_1m": 3, "output_per_1m": 9, "tiers": tiers}));
            // The slack decides on the tier; the tokens themselves are those of the estimate.
            let prompt = estimate + estimate / SLACK * longer / 100;
            let parts = [prompt, output, prompt * read / 100, prompt * written / 100];
            let real = prices.dollars(&usage(parts), Counting::CachedInside);
            let most = prices.worst(estimate, output).dollars() * 1.25 + 1e-6;
            prop_assert!(real <= most, "{real} > {most}");
        }
    }
}
