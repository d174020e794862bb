//! What the tokens of a turn cost (contract 08 weakness 18).

use serde_json::{Map, Value};

use crate::model::Usage;
use crate::model::price::{Counting, Prices};

/// The prices of a model, and how its provider counts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Price {
    prices: Prices,
    counting: Counting,
}

impl Price {
    /// From a catalog record; none when it has no price, or one that cannot be.
    pub(super) fn read(record: &Map<String, Value>, cached_in_input: bool) -> Option<Self> {
        let counting = if cached_in_input {
            Counting::CachedInside
        } else {
            Counting::CachedApart
        };
        let prices = Prices::read(record.get("pricing")?)?;
        Some(Self { prices, counting })
    }

    /// US dollars.
    pub(super) fn of(&self, usage: &Usage) -> f64 {
        self.prices.dollars(usage, self.counting)
    }
}
