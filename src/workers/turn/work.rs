//! The batch of calls that a record has at work (contract 02 §1, §6).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::record::TurnRecord;
use super::transcript::NewEntry;
use crate::model::message::FunctionResultRole;
use crate::model::{AgentMessage, CallId, FunctionCall, FunctionResult, FunctionResultMessage, RawMessage};

/// A batch of calls at work.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Work {
    /// All calls of the message, in content order.
    pub(super) prepared: Vec<PreparedCall>,
    /// Those with a result.
    pub(super) executed: BTreeMap<CallId, ExecutedCall>,
    /// Unix milliseconds of dispatch; a call that is here but not in `executed` may have run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) started: BTreeMap<CallId, i64>,
    /// Calls whose start event has gone out; that of a call with a result was followed by its end event in the same
    /// commit. Absent in records of other releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) announced: Option<BTreeSet<CallId>>,
}

/// A call with the way it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "route", rename_all = "snake_case")]
pub(super) enum PreparedCall {
    /// Through the gate, then to its target.
    Dispatch {
        /// The call.
        call: FunctionCall,
    },
    /// To its target without the gate.
    PreApproved {
        /// The call.
        call: FunctionCall,
    },
    /// Not at all: it has its result already.
    Synthetic {
        /// The call.
        call: FunctionCall,
        /// The result.
        result: FunctionResult,
    },
}

impl PreparedCall {
    pub(super) fn call(&self) -> &FunctionCall {
        match self {
            Self::Dispatch { call } | Self::PreApproved { call } | Self::Synthetic { call, .. } => call,
        }
    }
}

/// A call with its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ExecutedCall {
    pub(super) call: FunctionCall,
    pub(super) result: FunctionResult,
    pub(super) is_error: bool,
    pub(super) duration_ms: i64,
}

impl ExecutedCall {
    /// The transcript form.
    pub(super) fn entry(&self, record: &TurnRecord, now_ms: i64) -> NewEntry {
        let message = RawMessage::from(&AgentMessage::FunctionResult(FunctionResultMessage {
            role: FunctionResultRole::Role,
            function_call_id: self.call.id.clone(),
            function_id: self.call.function_id.clone(),
            content: self.result.content.clone(),
            details: self.result.details.clone(),
            is_error: self.is_error,
            timestamp: now_ms,
        }));
        NewEntry::new(message, record.result_id(&self.call.id))
    }
}
