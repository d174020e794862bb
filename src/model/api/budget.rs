//! `budget::check` and `budget::record` as the turn uses them (contract 07 §3.6, §3.7).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contract;
use crate::model::{Usd, lenient};

contract!(
    /// `budget::check`.
    Check = "budget::check", CheckRequest => CheckResponse);
contract!(
    /// `budget::record`.
    Record = "budget::record", RecordRequest => RecordResponse);

/// State scope of the budgets and their logs, by `budget:<id>` and `spend_log:<id>:<period start>`.
pub const SCOPE: &str = "budgets";

/// Request of `budget::check`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckRequest {
    /// The budget.
    pub budget_id: String,
    /// What is going to be spent at most, US dollars, 0 or more; absent means 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    pub estimated_cost_usd: Option<Value>,
    /// On whose behalf; an exempt principal is not limited.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub principal_id: Option<String>,
    /// Whether an allowed estimate is set aside until it is recorded, or its time is over.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub reserve: bool,
    /// Id for the reservation; one of this id is replaced, so that a repeated check sets aside once.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub reservation_id: Option<String>,
}

/// Response of `budget::check`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckResponse {
    /// Whether the estimate may be spent.
    pub allowed: bool,
    /// Ceiling less spent, US dollars; negative when more was spent.
    pub remaining_usd: Usd,
    /// `paused`, `not_enforced`, `exempt` or `ceiling_exceeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reservation to be settled by `budget::record`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation_id: Option<String>,
    /// All that is set aside now, this reservation included; only with `reserve`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_usd: Option<Usd>,
    /// The budget above this one whose ceiling is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exceeded_budget_id: Option<String>,
}

/// Request of `budget::record`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordRequest {
    /// The budget.
    pub budget_id: String,
    /// What was spent, US dollars, 0 or more.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub cost_usd: Option<f64>,
    /// The reservation that ends with this.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub reservation_id: Option<String>,
    /// Id of the spend; a second record of it within the period changes nothing.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub record_id: Option<String>,
}

/// Response of `budget::record`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordResponse {
    /// Spent in this period, US dollars.
    pub spent_usd: Usd,
    /// Ceiling less spent, US dollars; negative when more was spent.
    pub remaining_usd: Usd,
}
