//! `budget::*` (contract 07).

mod alerts;
mod archives;
mod cases;
mod crash;
mod deaths;
mod fallbacks;
mod faults;
mod histories;
mod lives;
mod load;
mod model;
mod periods;
mod reservations;
mod runs;
mod settings;
mod summaries;
mod tiers;
mod trees;
mod writers;

use std::sync::Arc;

use harness::clock::ManualClock;
use harness::error::Result;
use serde_json::{Value, json};

use crate::support::{TestBus, TestOptions};

/// 2026-04-30 17:00 UTC, a Thursday.
pub(crate) const NOW: i64 = 1_777_568_400_000;
/// The day began.
pub(crate) const T0: i64 = 1_777_507_200_000;
/// The Monday of that week.
const MONDAY: i64 = T0 - 3 * DAY;
/// A day.
pub(crate) const DAY: i64 = 86_400_000;

/// The program at a time that the test sets.
pub(crate) struct Desk {
    pub(crate) t: TestBus,
    clock: Arc<ManualClock>,
}

impl Desk {
    pub(crate) async fn open() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut TestOptions)) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let mut options = TestOptions {
            clock: Arc::<ManualClock>::clone(&clock),
            ..TestOptions::default()
        };
        change(&mut options);
        let t = TestBus::with(options).await;
        Self { t, clock }
    }

    /// `budget::<name>`.
    pub(crate) async fn call(&self, name: &str, request: Value) -> Result<Value> {
        self.t.call(&format!("budget::{name}"), request).await
    }

    /// One that must succeed.
    pub(crate) async fn ok(&self, name: &str, request: Value) -> Value {
        self.t.ok(&format!("budget::{name}"), request).await
    }

    /// The text of one that must fail.
    pub(crate) async fn error(&self, name: &str, request: Value) -> String {
        self.t.error(&format!("budget::{name}"), request).await
    }

    /// A new budget.
    pub(crate) async fn create(&self, request: Value) -> String {
        let answer = self.ok("create", request).await;
        answer["budget_id"].as_str().unwrap().to_owned()
    }

    /// A new budget of a day.
    pub(crate) async fn day(&self, ceiling_usd: f64) -> String {
        self.create(json!({ "ceiling_usd": ceiling_usd, "period": "day" }))
            .await
    }

    /// The budget as it is shown.
    pub(crate) async fn get(&self, id: &str) -> Value {
        self.ok("get", json!({ "budget_id": id })).await["budget"].take()
    }

    pub(crate) async fn record(&self, id: &str, cost_usd: f64) -> Value {
        self.ok("record", json!({ "budget_id": id, "cost_usd": cost_usd }))
            .await
    }

    pub(crate) async fn check(&self, id: &str, estimated_cost_usd: f64) -> Value {
        let request = json!({ "budget_id": id, "estimated_cost_usd": estimated_cost_usd });
        self.ok("check", request).await
    }

    pub(crate) async fn reserve(&self, id: &str, estimated_cost_usd: f64) -> Value {
        let request = json!({ "budget_id": id, "estimated_cost_usd": estimated_cost_usd, "reserve": true });
        self.ok("check", request).await
    }

    /// `spent_usd` of all windows.
    async fn spent_ever(&self, id: &str) -> Value {
        self.ok("usage", json!({ "budget_id": id })).await["spent_usd"].take()
    }

    /// Writes a complete record by hand.
    pub(crate) async fn seed(&self, id: &str, change: Value) {
        let mut budget = json!({
            "id": id, "ceiling_usd": 10, "period": "day", "spent_usd": 0, "period_start_at": T0,
            "period_resets_at": T0 + DAY, "enforced": true, "paused": false, "alerts": [], "exemptions": [],
            "created_at": T0, "updated_at": T0,
        });
        let members = change.as_object().unwrap().clone();
        budget.as_object_mut().unwrap().extend(members);
        self.t.set_state("budgets", &format!("budget:{id}"), budget).await;
    }

    /// The stored record.
    async fn stored(&self, id: &str) -> Value {
        self.t.state("budgets", &format!("budget:{id}")).await
    }

    /// Every stored log.
    async fn logs(&self) -> Vec<Value> {
        let rows = self.t.ok("state::list", json!({ "scope": "budgets" })).await;
        let is_log = |row: &&Value| row.get("budget_id").is_some();
        rows.as_array().unwrap().iter().filter(is_log).cloned().collect()
    }

    fn advance(&self, by_ms: i64) {
        self.clock.advance(by_ms);
    }
}
