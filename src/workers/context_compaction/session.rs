//! The session tree as this worker reads and writes it (contract 06).

use serde_json::{Value, json};

use crate::bus::{CallOptions, Cx};
use crate::error::{Error, Result};
use crate::model::api::session::{CompactionRow, MessageRow, check_session_id};
use crate::model::{EntryId, RawMessage, SessionId, window};

const READ_MS: u64 = 10_000;
const WRITE_MS: u64 = 10_000;
const COMPACT_MS: u64 = 30_000;

/// Tells the model to go on, or not.
const CONTINUE: &str = "Continue if you have next steps, or stop and ask for clarification.";

/// The active path of a session and its newest compaction.
#[derive(Debug)]
pub(super) struct Transcript {
    pub(super) rows: Vec<MessageRow>,
    pub(super) compaction: Option<CompactionRow>,
}

/// Reads messages and compactions side by side.
///
/// # Errors
/// The session worker does not answer.
pub(super) async fn read<S: Send + Sync>(
    cx: &Cx<S>,
    session: &SessionId,
    messages_ms: u64,
) -> Result<Transcript> {
    let (rows, compactions) =
        futures::future::join(messages(cx, session, messages_ms), compactions(cx, session)).await;
    let (rows, mut compactions) = (rows?, compactions?);
    compactions.retain(|row| !row.summary.is_empty());
    Ok(Transcript {
        rows,
        compaction: window::newest(&compactions).cloned(),
    })
}

/// The messages of the active path. Rows that are none are left out.
pub(super) async fn messages<S: Send + Sync>(
    cx: &Cx<S>,
    session: &SessionId,
    limit_ms: u64,
) -> Result<Vec<MessageRow>> {
    let reply = call(
        cx,
        "session-tree::messages",
        json!({ "session_id": session }),
        limit_ms,
    )
    .await?;
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
    Ok(list(reply, "messages").filter_map(row).collect())
}

/// All compactions of a session.
pub(super) async fn compactions<S: Send + Sync>(
    cx: &Cx<S>,
    session: &SessionId,
) -> Result<Vec<CompactionRow>> {
    let reply = call(
        cx,
        "session-tree::compactions",
        json!({ "session_id": session }),
        READ_MS,
    )
    .await?;
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

/// Checks that a request names a session.
///
/// # Errors
/// It does not, or none that there could be; the text for a missing one is the contract's.
pub(super) fn named(payload: &Value, function: &str) -> Result<()> {
    let id = payload.get("session_id").and_then(Value::as_str);
    let id = id.filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| Error::Invalid(format!("{function}: session_id is required")))?;
    check_session_id(id).map_err(Error::Invalid)
}
