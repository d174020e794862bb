//! Where trees are kept: state scopes of the engine (contract 06 §2), or the memory of this process (§7). Strict: a
//! failed read or write is an error `<op>: <cause>`, never "absent".

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::entry::SessionEntry;
use super::meta::SessionMeta;
use super::sessions::Sessions;
use crate::bus::{Cx, Write, to_json};
use crate::error::{Error, Result};

const META_SCOPE: &str = "session_tree_meta";
const ENTRIES_PREFIX: &str = "session_tree:";

/// Keeps the memory of the worker true when somebody else writes its rows, where the engine tells.
pub(super) fn watch(cx: &Cx<Sessions>) {
    let sessions = Arc::clone(cx.state());
    let forget = move |scope: &str, key: &str| {
        if scope == META_SCOPE {
            sessions.invalidate_row(key);
        } else if let Some(session) = scope.strip_prefix(ENTRIES_PREFIX) {
            sessions.invalidate(session);
        }
    };
    cx.bus().tap_state("session_tree", Arc::new(forget));
}

/// All records of a session, in any order; none for an unknown one.
pub(super) async fn entries(cx: &Cx<Sessions>, session: &str) -> Result<Vec<Value>> {
    cx.scope(&entry_scope(session))
        .list()
        .await
        .map_err(|cause| Error::store("state::list entries", cause))
}

/// The row of a session as it is stored.
pub(super) async fn meta(cx: &Cx<Sessions>, session: &str) -> Result<Option<Value>> {
    cx.scope(META_SCOPE)
        .get(session)
        .await
        .map_err(|cause| Error::store("state::get meta", cause))
}

/// The rows of all sessions as they are stored.
pub(super) async fn metas(cx: &Cx<Sessions>) -> Result<Vec<Value>> {
    cx.scope(META_SCOPE)
        .list()
        .await
        .map_err(|cause| Error::store("state::list meta", cause))
}

/// Writes the row of a session.
pub(super) async fn write_meta(cx: &Cx<Sessions>, meta: &SessionMeta) -> Result<()> {
    commit(cx, "state::set meta", vec![meta_write(meta)?]).await
}

/// Writes an entry and the row of its session: as one batch where the store takes both or neither, else side by side,
/// where a row that could not be written is only reported (contract 06 §2).
pub(super) async fn write_entry(
    cx: &Cx<Sessions>,
    session: &str,
    entry: &SessionEntry,
    meta: Option<&SessionMeta>,
) -> Result<()> {
    const OPERATION: &str = "state::set entry";
    let mut writes = vec![entry_write(session, entry)];
    let Some(meta) = meta else {
        return commit(cx, OPERATION, writes).await;
    };
    if cx.bus().transport().is_exclusive() {
        writes.push(meta_write(meta)?);
        return commit(cx, OPERATION, writes).await;
    }
    let (entry, row) = futures::future::join(commit(cx, OPERATION, writes), write_meta(cx, meta)).await;
    if let Err(error) = row {
        tracing::warn!(session, %error, "time of the last change not stored");
    }
    entry
}

async fn commit(cx: &Cx<Sessions>, operation: &str, writes: Vec<Write>) -> Result<()> {
    let limit_ms = cx.config().engine.call_timeout_ms;
    let written = cx.bus().transport().commit(writes);
    match tokio::time::timeout(Duration::from_millis(limit_ms), written).await {
        Ok(outcome) => outcome.map_err(|cause| Error::store(operation, cause)),
        Err(_) => Err(Error::store(operation, format!("no answer within {limit_ms} ms"))),
    }
}

/// What stores an entry.
pub(super) fn entry_write(session: &str, entry: &SessionEntry) -> Write {
    Write::StateSet {
        scope: entry_scope(session),
        key: entry.id.to_string(),
        value: Arc::new(entry.to_value()),
    }
}

/// What stores the row of a session.
pub(super) fn meta_write(meta: &SessionMeta) -> Result<Write> {
    Ok(Write::StateSet {
        scope: META_SCOPE.to_owned(),
        key: meta.session_id.to_string(),
        value: Arc::new(to_json(meta)?),
    })
}

fn entry_scope(session: &str) -> String {
    format!("{ENTRIES_PREFIX}{session}")
}
