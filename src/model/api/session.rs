//! `session-tree::*` and `session-inbox::*` as the other workers use them (contract 06).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contract;
use crate::model::lenient;
use crate::model::{EntryId, RawMessage, SessionId};

contract!(
    /// `session-tree::ensure` (06 §4.2).
    Ensure = "session-tree::ensure", EnsureRequest => SessionRef);
contract!(
    /// `session-tree::append` (06 §4.3).
    Append = "session-tree::append", AppendRequest => EntryRef);
contract!(
    /// `session-tree::messages` (06 §4.5).
    Messages = "session-tree::messages", MessagesRequest => MessagesResponse);
contract!(
    /// `session-tree::compactions` (06 §4.11).
    Compactions = "session-tree::compactions", SessionRef => CompactionsResponse);
contract!(
    /// `session-inbox::peek` (06 §5.2).
    InboxPeek = "session-inbox::peek", InboxRef => InboxItems);
contract!(
    /// `session-inbox::drain` (06 §5.3).
    InboxDrain = "session-inbox::drain", InboxRef => InboxItems);

/// A session, by id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionRef {
    /// The session.
    pub session_id: SessionId,
}

/// Request of `session-tree::ensure`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnsureRequest {
    /// The session; made when there is none.
    pub session_id: SessionId,
    /// Name for people, used only when the session is made.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub display_name: Option<String>,
    /// Working directory, used only when the session is made.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub cwd: Option<String>,
}

/// Request of `session-tree::append`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppendRequest {
    /// The session; made when there is none.
    pub session_id: SessionId,
    /// The message, checked by [`RawMessage::new`].
    pub message: RawMessage,
    /// Entry to append under; absent, `null` or not a string means the current tip.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub parent_id: Option<EntryId>,
    /// Id of the new entry (1..200 characters, no control characters), for repeat-safe appends.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub entry_id: Option<EntryId>,
}

/// An entry, by id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EntryRef {
    /// The entry.
    pub entry_id: EntryId,
}

/// Request of `session-tree::messages`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessagesRequest {
    /// The session.
    pub session_id: SessionId,
    /// Leaf of the wanted path; the active one when absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub branch_leaf: Option<EntryId>,
}

/// Response of `session-tree::messages`, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessagesResponse {
    /// Messages on the path.
    pub messages: Vec<MessageRow>,
}

/// One message of a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageRow {
    /// Its entry.
    pub entry_id: EntryId,
    /// The message, unchanged.
    pub message: RawMessage,
    /// Metadata of the entry, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

/// Response of `session-tree::compactions`, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompactionsResponse {
    /// All compactions of the session, all branches.
    pub entries: Vec<CompactionRow>,
}

/// One compaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompactionRow {
    /// Its entry.
    pub id: EntryId,
    /// The summary.
    pub summary: String,
    /// Tokens before.
    #[serde(default)]
    pub tokens_before: Value,
    /// First entry that stays verbatim.
    #[serde(default)]
    pub tail_start_id: Option<EntryId>,
    /// Files read and modified.
    #[serde(default)]
    pub details: Value,
    /// Unix milliseconds.
    pub timestamp: i64,
    /// Whether it is on the active path; absent from older session workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_path: Option<bool>,
    /// Message rows of the active path before it, when on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_before: Option<usize>,
}

/// An inbox, by session and name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InboxRef {
    /// `steering`, `followup` or any other name without `/`.
    pub name: String,
    /// The session.
    pub session_id: SessionId,
}

/// Name that is held while a session's inboxes change, so that the end of a run and a push never pass each other.
pub fn inbox_hold(session: &str) -> String {
    format!("inbox/{session}")
}

/// Items of an inbox in push order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InboxItems {
    /// Opaque items.
    #[serde(default)]
    pub items: Vec<Value>,
}
