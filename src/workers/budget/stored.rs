//! A budget and a log of its spend as they are stored (contract 07 §1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::periods::Period;
use super::record_ids::RecordIds;
use crate::error::{Error, Result};
use crate::model::Usd;

/// A cap on spend. Times are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Budget {
    /// Id.
    pub(super) id: String,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) workspace_id: Option<String>,
    /// Which agent's it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) agent_id: Option<String>,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// The budget that pays too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent_id: Option<String>,
    /// Zone of its calendar; UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) time_zone: Option<String>,
    /// Cap of a period.
    pub(super) ceiling_usd: Usd,
    /// How long spend is counted together.
    pub(super) period: Period,
    /// Spent in the running period.
    pub(super) spent_usd: Usd,
    /// How many records made it up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) spend_records: u64,
    /// Start of the running period.
    pub(super) period_start_at: i64,
    /// Start of the next one.
    pub(super) period_resets_at: i64,
    /// Whether the cap holds.
    #[serde(default = "yes")]
    pub(super) enforced: bool,
    /// Whether the cap is off for now.
    #[serde(default)]
    pub(super) paused: bool,
    /// Who is told when.
    #[serde(default)]
    pub(super) alerts: Vec<Alert>,
    /// Whom the cap does not hold.
    #[serde(default)]
    pub(super) exemptions: Vec<Exemption>,
    /// Set aside for calls under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) reservations: Vec<Reservation>,
    /// When it was made.
    pub(super) created_at: i64,
    /// When it was changed last.
    pub(super) updated_at: i64,
    /// What only its owner needs; never in an answer.
    #[serde(default, skip_serializing_if = "Ledger::is_empty")]
    pub(super) ledger: Ledger,
    /// Members of other implementations.
    #[serde(flatten)]
    pub(super) extra: Map<String, Value>,
}

/// Somebody wants to be told when a share of the ceiling is spent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Alert {
    /// Id.
    #[serde(rename = "alert_id")]
    pub(super) id: String,
    /// Share of the ceiling, above 0, at most 1.
    pub(super) threshold_pct: f64,
    /// What is called.
    pub(super) callback_function_id: String,
    /// What it is called with besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) callback_payload: Option<Value>,
    /// Start of the period in which it fired last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_fired_period_start: Option<i64>,
}

/// The cap does not hold a principal for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Exemption {
    /// Who.
    pub(super) principal_id: String,
    /// Why.
    pub(super) reason: String,
    /// Void from then on.
    pub(super) expires_at: i64,
}

/// Set aside for a call under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Reservation {
    /// Id.
    #[serde(rename = "reservation_id")]
    pub(super) id: String,
    /// How much.
    pub(super) amount_usd: Usd,
    /// Void from then on.
    pub(super) expires_at: i64,
}

/// The books behind the numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Ledger {
    /// Latest period start that has the plain log key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) archived_until: Option<i64>,
    /// Logs whose rows are not known to be stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) unarchived: Vec<SpendLog>,
    /// Records of this period.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) record_ids: RecordIds,
    /// Alerts that fired and whose callback has not answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) deliveries: Vec<Delivery>,
}

/// A call of an alert's callback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Delivery {
    /// Id of this call: an alert may fire twice with the same numbers.
    #[serde(rename = "delivery_id")]
    pub(super) id: String,
    /// Which alert.
    pub(super) alert_id: String,
    /// What is called.
    pub(super) function_id: String,
    /// With what.
    pub(super) payload: Value,
}

/// What was spent before a reset, a change of the period, or the period's end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct SpendLog {
    /// The budget.
    pub(super) budget_id: String,
    /// Start of what it covers.
    pub(super) period_start: i64,
    /// End of what it covers.
    pub(super) period_end: i64,
    /// Spent in between.
    pub(super) spent_usd: Usd,
    /// Always 0, as others write it.
    #[serde(default)]
    pub(super) records_count: u64,
    /// How many records made it up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) spend_records: u64,
    /// End of its key, where the plain one was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) log_id: Option<String>,
}

impl Budget {
    /// Its state key.
    pub(super) fn key(id: &str) -> String {
        format!("budget:{id}")
    }

    /// Reads a stored value; what is no budget at all is none (§1).
    ///
    /// # Errors
    /// It is one, but not one that can be read.
    pub(super) fn read(value: Value) -> Result<Option<Self>> {
        let id = value.get("id").and_then(Value::as_str).map(str::to_owned);
        match id {
            Some(id) if value.get("ceiling_usd").is_some_and(Value::is_number) => {
                serde_path_to_error::deserialize(value)
                    .map(Some)
                    .map_err(|error| Error::store(format!("budget {id}"), error))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// As others see it.
    pub(super) fn shown(mut self) -> Self {
        self.ledger = Ledger::default();
        self
    }
}

impl SpendLog {
    /// Its state key.
    pub(super) fn key(&self) -> String {
        let plain = format!("spend_log:{}:{}", self.budget_id, self.period_start);
        match &self.log_id {
            None => plain,
            Some(log_id) => format!("{plain}:{log_id}"),
        }
    }

    /// Reads a stored value; what is no log is none (§1).
    pub(super) fn read(value: Value) -> Result<Option<Self>> {
        let is_log =
            value.get("budget_id").is_some_and(Value::is_string) && value.get("ceiling_usd").is_none();
        if !is_log {
            return Ok(None);
        }
        serde_path_to_error::deserialize(value)
            .map(Some)
            .map_err(|error| Error::store("spend log", error))
    }
}

impl Ledger {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn yes() -> bool {
    true
}
