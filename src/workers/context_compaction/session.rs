//! The session tree as this worker reads and writes it (contract 06).

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::bus::{self, CallOptions, Cx};
use crate::error::{Error, Result};
use crate::model::api::session::{CompactionRow, MessageRow, Recent, check_session_id};
use crate::model::{EntryId, RawMessage, SessionId, window};

const MESSAGES: &str = "session-tree::messages";
/// Messages that are asked for at once where nobody knows how many are needed.
const PAGE: usize = 64;

const READ_MS: u64 = 10_000;
const WRITE_MS: u64 = 10_000;
const COMPACT_MS: u64 = 30_000;

/// Tells the model to go on, or not.
const CONTINUE: &str = "Continue if you have next steps, or stop and ask for clarification.";

/// What a model still sees of a session: the newest compaction of the active path, and the messages that it leaves.
#[derive(Debug)]
pub(super) struct Transcript {
    pub(super) rows: Vec<MessageRow>,
    pub(super) compaction: Option<CompactionRow>,
}

/// Reads what is visible of a session: what was compacted away costs nothing.
///
/// # Errors
/// The session worker does not answer.
pub(super) async fn read<S: Send + Sync>(
    cx: &Cx<S>,
    session: &SessionId,
    messages_ms: u64,
) -> Result<Transcript> {
    let request = json!({ "session_id": session, "after_compaction": true });
    let mut reply = call(cx, MESSAGES, request, messages_ms).await?;
    let recent = reply.get_mut("recent").map(Value::take);
    let compaction = match recent.map(serde_json::from_value::<Recent>) {
        Some(Ok(recent)) => recent.compaction,
        Some(Err(why)) => return Err(Error::Unavailable(format!("{MESSAGES}: {why}"))),
        // Another session worker, which has answered everything.
        None => window::newest(&compactions(cx, session).await?).cloned(),
    };
    Ok(Transcript {
        rows: rows(reply).collect(),
        compaction,
    })
}

/// All messages of the active path. Rows that are none are left out.
pub(super) async fn messages<S: Send + Sync>(
    cx: &Cx<S>,
    session: &SessionId,
    limit_ms: u64,
) -> Result<Vec<MessageRow>> {
    let reply = call(cx, MESSAGES, json!({ "session_id": session }), limit_ms).await?;
    Ok(rows(reply).collect())
}

/// A part of a path.
#[derive(Debug)]
pub(super) struct Page {
    /// Oldest first.
    pub(super) rows: Vec<MessageRow>,
    /// There is more before it: ask for that with this.
    pub(super) older: Option<EntryId>,
}

/// The last messages of the path to `leaf`, or of the active one; with `before`, the last ones before that entry.
pub(super) async fn page<S: Send + Sync>(
    cx: &Cx<S>,
    session: &SessionId,
    leaf: Option<&EntryId>,
    before: Option<&EntryId>,
) -> Result<Page> {
    let request = json!({ "session_id": session, "branch_leaf": leaf, "before": before, "limit": PAGE });
    let reply = call(cx, MESSAGES, request, READ_MS).await?;
    let older = reply
        .get("next_before")
        .and_then(Value::as_str)
        .map(EntryId::from);
    Ok(Page {
        rows: rows(reply).collect(),
        older,
    })
}

/// Whether an entry is still there.
pub(super) async fn has<S: Send + Sync>(cx: &Cx<S>, session: &SessionId, entry: &EntryId) -> Result<bool> {
    let request = json!({ "session_id": session, "branch_leaf": entry, "limit": 1 });
    let reply = call(cx, MESSAGES, request, READ_MS).await?;
    Ok(rows(reply).next().is_some())
}

fn rows(reply: Value) -> impl Iterator<Item = MessageRow> {
    let row = |mut row: Value| {
        let entry_id: EntryId = row.get("entry_id")?.as_str()?.into();
        let message = RawMessage::stored(row.get_mut("message")?.take())?;
        let metadata = row.get_mut("metadata").map(Value::take);
        Some(MessageRow {
            entry_id,
            message,
            metadata,
        })
    };
    list(reply, "messages").filter_map(row)
}

/// All compactions of a session.
async fn compactions<S: Send + Sync>(cx: &Cx<S>, session: &SessionId) -> Result<Vec<CompactionRow>> {
    let request = json!({ "session_id": session });
    let reply = call(cx, "session-tree::compactions", request, READ_MS).await?;
    let row = |row: Value| serde_json::from_value(row).ok();
    Ok(list(reply, "entries").filter_map(row).collect())
}

/// Appends a Compaction entry; answers its id, `""` when the session worker names none.
pub(super) async fn compact<S: Send + Sync>(
    cx: &Cx<S>,
    session: &SessionId,
    summary: &str,
    tokens_before: u64,
    tail_start_id: Option<&EntryId>,
    details: &Value,
) -> Result<EntryId> {
    let entry = json!({
        "session_id": session, "summary": summary, "tokens_before": tokens_before,
        "tail_start_id": tail_start_id, "details": details,
    });
    let reply = call(cx, "session-tree::compact", entry, COMPACT_MS).await?;
    let id = reply.get("entry_id").and_then(Value::as_str);
    Ok(id.unwrap_or_default().into())
}

/// Appends the prompt that lets the model go on behind a compaction.
pub(super) async fn nudge<S: Send + Sync>(
    cx: &Cx<S>,
    session: &SessionId,
    compaction: &EntryId,
) -> Result<()> {
    let prompt = json!({
        "session_id": session, "text": CONTINUE, "parent_id": compaction,
        "metadata": { "compaction_continue": true },
    });
    call(cx, "session-tree::append_synthetic", prompt, WRITE_MS)
        .await
        .map(drop)
}

/// Replaces outputs by a placeholder.
pub(super) async fn prune<S: Send + Sync>(
    cx: &Cx<S>,
    session: &SessionId,
    entries: &[EntryId],
) -> Result<()> {
    let now = cx.now_ms();
    let item = |entry: &EntryId| json!({ "entry_id": entry, "output": null, "compacted_at": now });
    let items: Vec<Value> = entries.iter().map(item).collect();
    let request = json!({ "session_id": session, "items": items });
    call(cx, "session-tree::update_parts", request, WRITE_MS)
        .await
        .map(drop)
}

async fn call<S: Send + Sync>(cx: &Cx<S>, id: &str, payload: Value, limit_ms: u64) -> Result<Value> {
    cx.invoke(id, payload, CallOptions::timeout_ms(limit_ms)).await
}

fn list(mut reply: Value, key: &str) -> std::vec::IntoIter<Value> {
    let rows = match reply.get_mut(key).map(Value::take) {
        Some(Value::Array(rows)) => rows,
        _ => Vec::new(),
    };
    rows.into_iter()
}

/// Reads a request, which must name a session; members of the wrong type count as absent.
///
/// # Errors
/// It names none, or none that there could be; the text for a missing one is the contract's.
pub(super) fn request<T: DeserializeOwned + 'static>(payload: Value, function: &str) -> Result<T> {
    let id = payload.get("session_id").and_then(Value::as_str);
    let id = id.filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| Error::Invalid(format!("{function}: session_id is required")))?;
    check_session_id(id).map_err(Error::Invalid)?;
    bus::decode(payload, &[], false)
}
