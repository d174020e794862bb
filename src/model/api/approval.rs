//! Permission policy and approval settings as the turn orchestrator uses them (contract 03).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::contract;
use crate::model::{FunctionId, SessionId, lenient};

contract!(
    /// `policy::check_permissions` (03 §2.9).
    CheckPermissions = "policy::check_permissions", CheckRequest => Verdict);
contract!(
    /// `approval::get_settings` (03 §2.2).
    GetSettings = "approval::get_settings", SettingsRequest => Settings);

/// Request of `policy::check_permissions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckRequest {
    /// Function to be called, at least one character.
    pub function_id: FunctionId,
    /// Its arguments.
    #[serde(default)]
    pub args: Map<String, Value>,
    /// The payload is no object, or not known yet, so that `args` do not show all of it: a denial with constraints holds.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub opaque: bool,
}

/// What the rules say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Verdict {
    /// Go ahead.
    Allow {
        /// The rule that says so.
        rule_id: String,
    },
    /// Not allowed.
    Deny {
        /// The rule that says so.
        rule_id: String,
        /// `deny`.
        rule_action: String,
        /// The first constraint of that rule in field order.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        matched_constraint: Option<Constraint>,
    },
    /// A person must decide.
    NeedsApproval {
        /// Why no rule can, when the rule file is unusable.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

impl Verdict {
    /// A person must decide, as no rule does.
    pub const ASK: Self = Self::NeedsApproval { reason: None };
}

/// A constraint that matched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Constraint {
    /// Top-level argument.
    pub field: String,
    /// `equals` or `matches`.
    pub operator: String,
    /// Expected value, or source of the pattern.
    pub value: Value,
}

/// Request of `approval::get_settings`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingsRequest {
    /// The session, without `/`.
    pub session_id: SessionId,
}

/// Permission mode of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The rules decide, the rest is asked.
    #[default]
    Manual,
    /// As manual, plus the session's always-allow list.
    Auto,
    /// Everything but the floor is allowed.
    Full,
}

/// Approval settings of a session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// Permission mode.
    pub mode: Mode,
    /// Looked at in mode `auto` only.
    pub always_allow: Vec<Grant>,
    /// Honoured in every mode.
    pub approved_always: Vec<Grant>,
    /// Unix milliseconds of the last `set_mode`; 0 = never.
    pub mode_set_at: i64,
}

/// One function id on an allow list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Grant {
    /// Exact id.
    pub function_id: FunctionId,
    /// Unix milliseconds.
    pub granted_at: i64,
    /// `user_click`.
    pub granted_by: String,
}
