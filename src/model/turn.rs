//! What others may see of a turn (contract 01 §7, 02 §1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::{CallId, FunctionId, SessionId};

/// State of a session's turn machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TurnState {
    /// The run is accepted; the prompt is not built yet.
    Provisioning,
    /// The model is being asked.
    AssistantStreaming,
    /// Its calls are being gated and run.
    FunctionExecute,
    /// Some of them wait for a person.
    FunctionAwaitingApproval,
    /// Inboxes are looked at; the run goes on or ends.
    SteeringCheck,
    /// Terminal: ended.
    Stopped,
    /// Terminal: a step failed.
    Failed,
}

impl TurnState {
    /// The wire name, also the last segment of the step function's id.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::AssistantStreaming => "assistant_streaming",
            Self::FunctionExecute => "function_execute",
            Self::FunctionAwaitingApproval => "function_awaiting_approval",
            Self::SteeringCheck => "steering_check",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// Whether the run is over.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

/// A call that waits for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AwaitingCall {
    /// The call.
    pub function_call_id: CallId,
    /// Its unwrapped target.
    pub function_id: FunctionId,
    /// Its payload, unredacted: what is shown is what runs.
    #[serde(default)]
    pub args: Value,
    /// Hash of this one call, its target and its payload; a decision that carries it can be meant for nothing else. Absent
    /// in records of other releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_hash: Option<String>,
    /// Why a person is asked, where whoever keeps the rules says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TurnError {
    /// `transition_error`.
    pub kind: String,
    /// `from <state>: <cause>`.
    pub message: String,
}

/// A run that rests until a budget lets it go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetWait {
    /// The budget that was asked.
    pub budget_id: String,
    /// `budget exceeded: <why>`.
    pub reason: String,
    /// No change of the budget would help, so nobody waits for one. Not told to others.
    #[serde(skip)]
    pub is_final: bool,
}

/// The only form of a turn record that is shown to others. Undefined members are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TurnStateView {
    /// The session.
    pub session_id: SessionId,
    /// Where it stands.
    pub state: TurnState,
    /// Assistant turns begun so far.
    pub turn_count: u64,
    /// Cap on assistant turns, as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<serde_json::Number>,
    /// Parked calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaiting_approval: Option<Vec<AwaitingCall>>,
    /// Set when failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TurnError>,
    /// Set while the run rests because of a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_wait: Option<Box<BudgetWait>>,
}
