//! Checks that hold for every caller, also for a typed one whose request was never JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// What most functions need first.
pub(super) const BUDGET_ID: &[&str] = &["budget_id"];

/// Longest id, in bytes.
const MAX_ID_BYTES: usize = 256;

/// Names a budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct BudgetRef {
    /// The budget.
    pub(super) budget_id: String,
}

/// A required string.
pub(super) fn text(name: &str, value: &str) -> Result<()> {
    if value.is_empty() {
        return Err(Error::missing_string(name));
    }
    Ok(())
}

/// A required id; one that no id can be is refused before it becomes a key.
pub(super) fn id(name: &str, value: &str) -> Result<()> {
    text(name, value)?;
    if value.len() > MAX_ID_BYTES {
        return Err(Error::invalid(format!(
            "invalid {name}: longer than {MAX_ID_BYTES} bytes"
        )));
    }
    Ok(())
}

/// An optional id; an empty one is none.
pub(super) fn optional(name: &str, value: Option<String>) -> Result<Option<String>> {
    let value = value.filter(|value| !value.is_empty());
    if let Some(value) = &value {
        id(name, value)?;
    }
    Ok(value)
}

/// A required boolean.
pub(super) fn flag(name: &str, value: &Value) -> Result<bool> {
    value
        .as_bool()
        .ok_or_else(|| Error::invalid(format!("{name} must be a boolean")))
}
