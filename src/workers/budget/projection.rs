//! Where spend is heading, without I/O (contract 07 §3.11).

use super::periods::{DAY_MS, days, days_elapsed, days_remaining};
use super::stored::Budget;

/// Days that a projected month has.
const MONTH_DAYS: f64 = 30.0;

/// Shortest time that a rate is measured over.
const SHORTEST_MS: i64 = DAY_MS / 24;

/// Amounts in US dollars.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Projection {
    /// Per day, over a day at least.
    pub(super) rate: f64,
    pub(super) month: f64,
    /// Whether the rate keeps the period under the ceiling.
    pub(super) on_track: bool,
    pub(super) days_until_breach: Option<f64>,
    pub(super) period: f64,
    /// Per day, over the time that really passed, an hour at least.
    pub(super) burn_rate: f64,
    /// Whether that rate breaks the ceiling before the period ends.
    pub(super) at_risk: bool,
}

impl Projection {
    pub(super) fn of(budget: &Budget, now_ms: i64) -> Self {
        let spent = budget.spent_usd.dollars();
        let left = budget.remaining().dollars();
        let remaining = days_remaining(now_ms, budget.period_resets_at);
        let rate = spent / days_elapsed(budget.period_start_at, now_ms);
        let passed = now_ms.saturating_sub(budget.period_start_at).max(SHORTEST_MS);
        let burn_rate = spent / days(passed);
        Self {
            rate,
            month: rate * MONTH_DAYS,
            on_track: rate * remaining <= left,
            days_until_breach: (rate > 0.0 && left > 0.0).then(|| left / rate),
            period: spent + rate * remaining,
            burn_rate,
            at_risk: burn_rate * remaining > left,
        }
    }
}
