//! `session-tree::*` and `session-inbox::*` as the other workers use them (contract 06).

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Number, Value};

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
    /// `session-tree::append_synthetic` (06 §4.4).
    AppendSynthetic = "session-tree::append_synthetic", AppendSyntheticRequest => EntryRef);
contract!(
    /// `session-tree::compact` (06 §4.10).
    Compact = "session-tree::compact", CompactRequest => EntryRef);
contract!(
    /// `session-tree::update_parts` (06 §4.14).
    UpdateParts = "session-tree::update_parts", UpdatePartsRequest => UpdatedParts);
contract!(
    /// `session-tree::messages` (06 §4.5).
    Messages = "session-tree::messages", MessagesRequest => MessagesResponse);
contract!(
    /// `session-tree::compactions` (06 §4.11).
    Compactions = "session-tree::compactions", SessionRef => CompactionsResponse);
contract!(
    /// `session-inbox::push` (06 §5.1).
    InboxPush = "session-inbox::push", InboxPushRequest => InboxPushed);
contract!(
    /// `session-inbox::peek` (06 §5.2).
    InboxPeek = "session-inbox::peek", InboxRef => InboxItems);
contract!(
    /// `session-inbox::drain` (06 §5.3).
    InboxDrain = "session-inbox::drain", InboxRef => InboxItems);
contract!(
    /// `session-inbox::clear`, one id beyond the contract's.
    InboxClear = "session-inbox::clear", SessionRef => InboxCleared);

/// Longest session id, in bytes.
pub const MAX_SESSION_ID_BYTES: usize = 256;

/// Deepest JSON that is stored for a session. The engine's frames and its store read 128 levels, and replies wrap a
/// message in a few levels of their own; a deeper one could be written but never read again.
pub const MAX_STORED_DEPTH: usize = 120;

/// Checks a session id: it becomes part of a state scope (06 weakness 14).
///
/// # Errors
/// The whole text for the caller.
pub fn check_session_id(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("missing required string field: session_id".to_owned());
    }
    if id.len() > MAX_SESSION_ID_BYTES {
        return Err(format!(
            "invalid session_id: longer than {MAX_SESSION_ID_BYTES} bytes"
        ));
    }
    if id.chars().any(char::is_control) {
        return Err("invalid session_id: contains a control character".to_owned());
    }
    Ok(())
}

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

/// Request of `session-tree::append_synthetic`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppendSyntheticRequest {
    /// The session; made when there is none.
    pub session_id: SessionId,
    /// Text of the one block.
    pub text: String,
    /// Entry to append under; absent, `null` or not a string means the current tip.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub parent_id: Option<EntryId>,
    /// Kept beside the message, so that a client can tell it from what people write.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub metadata: Option<Value>,
}

/// Request of `session-tree::compact`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompactRequest {
    /// The session; made when there is none.
    pub session_id: SessionId,
    /// Stands for everything before `tail_start_id`.
    pub summary: String,
    /// Tokens before; 0 when absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    #[schemars(with = "Option<f64>")]
    pub tokens_before: Option<Number>,
    /// `{read_files?, modified_files?}`, stored as given; `{}` when absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub details: Option<Map<String, Value>>,
    /// Entry to append under; absent, `null` or not a string means the current tip.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub parent_id: Option<EntryId>,
    /// First entry that stays verbatim; not checked.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub tail_start_id: Option<EntryId>,
}

/// Request of `session-tree::update_parts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpdatePartsRequest {
    /// The session.
    pub session_id: SessionId,
    /// Applied in order; what is no item with an `entry_id` is left out.
    #[serde(default, deserialize_with = "part_updates")]
    pub items: Vec<PartUpdate>,
}

/// What becomes of one function result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartUpdate {
    /// Its entry.
    pub entry_id: EntryId,
    /// Its new text; `[output pruned]` when absent, `null` or not a string.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub output: Option<String>,
    /// Goes into its `details`, `null` included.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::present"
    )]
    pub compacted_at: Option<Value>,
}

/// Response of `session-tree::update_parts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpdatedParts {
    /// Entries that were rewritten.
    pub updated: usize,
}

fn part_updates<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PartUpdate>, D::Error> {
    let items: Vec<Value> = lenient::or_default(deserializer)?;
    let items = items.into_iter().filter(Value::is_object);
    Ok(items
        .filter_map(|item| PartUpdate::deserialize(item).ok())
        .filter(|update| !update.entry_id.is_empty())
        .collect())
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
    /// Most messages to answer: the last ones. Rounded down, at least 0; all when absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    #[schemars(with = "Option<f64>")]
    pub limit: Option<Number>,
    /// Answer only messages before this entry of the path: `next_before` of the page after.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub before: Option<EntryId>,
    /// Answer only what the newest compaction of the path leaves visible, and that compaction as `recent`; all messages
    /// when there is none. `limit` and `before` then count for nothing.
    #[serde(
        default,
        skip_serializing_if = "std::ops::Not::not",
        deserialize_with = "lenient::or_default"
    )]
    pub after_compaction: bool,
}

impl MessagesRequest {
    /// All messages of the active path.
    pub fn all(session_id: SessionId) -> Self {
        Self {
            session_id,
            branch_leaf: None,
            limit: None,
            before: None,
            after_compaction: false,
        }
    }
}

/// Response of `session-tree::messages`, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessagesResponse {
    /// Messages on the path.
    pub messages: Vec<MessageRow>,
    /// There are older messages than those of this page: ask for them with this as `before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_before: Option<EntryId>,
    /// Given when it was asked for with `after_compaction`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent: Option<Recent>,
}

/// What a reader needs beside the messages that the newest compaction of a path leaves visible (contract 02 §5.1).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recent {
    /// That compaction; its `messages_before` counts rows of this answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compaction: Option<CompactionRow>,
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

/// The inboxes that a run looks into, in this order.
pub const RUN_INBOXES: [&str; 2] = ["steering", "followup"];

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

/// Request of `session-inbox::push`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InboxPushRequest {
    /// `steering`, `followup` or any other name without `/`.
    pub name: String,
    /// The session.
    pub session_id: SessionId,
    /// Opaque; `null` is an item, an absent member is an error.
    pub item: Value,
}

/// Response of `session-inbox::push`: the item is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InboxPushed {
    /// Always true.
    pub ok: bool,
    /// Items in the inbox now; absent from older session workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
}

/// Response of `session-inbox::clear`: the session has no inbox any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InboxCleared {
    /// Always true.
    pub ok: bool,
}
