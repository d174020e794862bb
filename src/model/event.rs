//! Events: what a provider streams (contract 01 §6) and what a session tells the world (contract 01 §7).

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::FunctionResult;
use super::key::{CallId, EntryId, FunctionId};
use super::message::{AssistantMessage, ErrorKind, StopReason};
use super::raw::RawMessage;
use super::turn::TurnStateView;
use super::usage::Usage;

/// The message accumulated so far. Left out inside the process, where the reader accumulates for itself.
pub type Partial = Option<Arc<AssistantMessage>>;

/// One event of a provider stream. Exactly one terminal event ([`Done`](Self::Done) or [`Error`](Self::Error)) ends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
#[expect(
    missing_docs,
    reason = "the variants are the wire names of contract 01 §6, explained there as a group"
)]
pub enum AssistantEvent {
    #[serde(rename = "start")]
    Start {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partial: Partial,
    },
    #[serde(rename = "text_start")]
    TextStart {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partial: Partial,
    },
    #[serde(rename = "text_delta")]
    TextDelta {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partial: Partial,
        delta: String,
    },
    #[serde(rename = "text_end")]
    TextEnd {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partial: Partial,
    },
    #[serde(rename = "thinking_start")]
    ThinkingStart {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partial: Partial,
    },
    #[serde(rename = "thinking_delta")]
    ThinkingDelta {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partial: Partial,
        delta: String,
    },
    #[serde(rename = "thinking_end")]
    ThinkingEnd {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partial: Partial,
    },
    #[serde(rename = "functioncall_start")]
    FunctioncallStart {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partial: Partial,
    },
    #[serde(rename = "functioncall_delta")]
    FunctioncallDelta {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partial: Partial,
        /// A fragment of the arguments' JSON text.
        delta: String,
    },
    #[serde(rename = "functioncall_end")]
    FunctioncallEnd {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partial: Partial,
    },
    #[serde(rename = "usage")]
    Usage { usage: Usage },
    #[serde(rename = "stop")]
    Stop {
        stop_reason: StopReason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error_message: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error_kind: Option<ErrorKind>,
    },
    #[serde(rename = "done")]
    Done { message: Arc<AssistantMessage> },
    #[serde(rename = "error")]
    Error { error: Arc<AssistantMessage> },
}

/// Kinds of events that are merged while they follow one another (contract 01 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeltaKind {
    /// Text of the answer.
    Text,
    /// Reasoning.
    Thinking,
    /// Argument text of a call.
    FunctionCall,
}

impl AssistantEvent {
    /// The final message, for a terminal event.
    pub fn terminal(&self) -> Option<&Arc<AssistantMessage>> {
        match self {
            Self::Done { message } => Some(message),
            Self::Error { error } => Some(error),
            Self::Start { .. }
            | Self::TextStart { .. }
            | Self::TextDelta { .. }
            | Self::TextEnd { .. }
            | Self::ThinkingStart { .. }
            | Self::ThinkingDelta { .. }
            | Self::ThinkingEnd { .. }
            | Self::FunctioncallStart { .. }
            | Self::FunctioncallDelta { .. }
            | Self::FunctioncallEnd { .. }
            | Self::Usage { .. }
            | Self::Stop { .. } => None,
        }
    }

    /// The kind and text of a delta.
    pub fn delta(&self) -> Option<(DeltaKind, &str)> {
        match self {
            Self::TextDelta { delta, .. } => Some((DeltaKind::Text, delta)),
            Self::ThinkingDelta { delta, .. } => Some((DeltaKind::Thinking, delta)),
            Self::FunctioncallDelta { delta, .. } => Some((DeltaKind::FunctionCall, delta)),
            Self::Start { .. }
            | Self::TextStart { .. }
            | Self::TextEnd { .. }
            | Self::ThinkingStart { .. }
            | Self::ThinkingEnd { .. }
            | Self::FunctioncallStart { .. }
            | Self::FunctioncallEnd { .. }
            | Self::Usage { .. }
            | Self::Stop { .. }
            | Self::Done { .. }
            | Self::Error { .. } => None,
        }
    }

    /// The accumulated message, when the event carries one.
    pub fn partial(&self) -> Option<&Arc<AssistantMessage>> {
        match self {
            Self::Start { partial }
            | Self::TextStart { partial }
            | Self::TextDelta { partial, .. }
            | Self::TextEnd { partial }
            | Self::ThinkingStart { partial }
            | Self::ThinkingDelta { partial, .. }
            | Self::ThinkingEnd { partial }
            | Self::FunctioncallStart { partial }
            | Self::FunctioncallDelta { partial, .. }
            | Self::FunctioncallEnd { partial } => partial.as_ref(),
            Self::Usage { .. } | Self::Stop { .. } | Self::Done { .. } | Self::Error { .. } => None,
        }
    }

    /// The slot of the accumulated message; `None` for kinds that never carry one.
    pub fn partial_mut(&mut self) -> Option<&mut Partial> {
        match self {
            Self::Start { partial }
            | Self::TextStart { partial }
            | Self::TextDelta { partial, .. }
            | Self::TextEnd { partial }
            | Self::ThinkingStart { partial }
            | Self::ThinkingDelta { partial, .. }
            | Self::ThinkingEnd { partial }
            | Self::FunctioncallStart { partial }
            | Self::FunctioncallDelta { partial, .. }
            | Self::FunctioncallEnd { partial } => Some(partial),
            Self::Usage { .. } | Self::Stop { .. } | Self::Done { .. } | Self::Error { .. } => None,
        }
    }
}

/// How a state row came to be, in `turn_state_changed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StateChange {
    /// There was no record before.
    #[serde(rename = "state:created")]
    Created,
    /// There was one.
    #[serde(rename = "state:updated")]
    Updated,
}

/// How a compaction ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompactionMode {
    /// In the background, after a turn.
    Async,
    /// While somebody waited for it.
    Sync,
}

/// One event on stream `agent::events`, group = session id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentEvent {
    /// The view of the turn record changed.
    TurnStateChanged {
        /// Created or updated.
        event_type: StateChange,
        /// The view now.
        new_value: TurnStateView,
        /// The view before; absent on created.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        old_value: Option<TurnStateView>,
    },
    /// Something was streamed.
    MessageUpdate {
        /// The message so far; slim form: with empty `content`.
        message: RawMessage,
        /// The event, merged with its neighbours of the same kind.
        llm_event: AssistantEvent,
    },
    /// An assistant message is complete.
    MessageComplete {
        /// The message.
        message: RawMessage,
        /// True iff text or thinking deltas of it were streamed: do not render the body again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body_streamed: Option<bool>,
    },
    /// A call is about to be gated and dispatched.
    FunctionExecutionStart {
        /// The call.
        function_call_id: CallId,
        /// The unwrapped target.
        function_id: FunctionId,
        /// The payload.
        args: Value,
    },
    /// A call has its result.
    FunctionExecutionEnd {
        /// The call.
        function_call_id: CallId,
        /// The unwrapped target.
        function_id: FunctionId,
        /// The result, denials included.
        result: FunctionResult,
        /// Whether it is an error result.
        is_error: bool,
        /// Wall-clock milliseconds.
        duration_ms: i64,
    },
    /// One assistant message and its calls are done.
    TurnEnd {
        /// The assistant message.
        message: RawMessage,
        /// Its results in call order, in transcript form.
        function_results: Vec<RawMessage>,
    },
    /// The run is over; its last event.
    AgentEnd {
        /// Always empty; consumers do not read it.
        messages: Vec<RawMessage>,
    },
    /// The history was compacted.
    CompactionDone {
        /// Background or awaited.
        mode: CompactionMode,
        /// The summary.
        summary_text: String,
        /// Tokens before.
        tokens_before: u64,
        /// The new entry.
        compaction_entry_id: EntryId,
        /// First entry kept verbatim.
        tail_start_id: Option<EntryId>,
    },
}
