//! Where trees are kept: state scopes of the engine (contract 06 §2), or the memory of this process (§7). Strict: a
//! failed read or write is an error `<op>: <cause>`, never "absent".

use std::sync::Arc;
use std::time::Duration;

use futures::future::join;
use serde_json::Value;

use super::entry::SessionEntry;
use super::meta::SessionMeta;
use super::sessions::Sessions;
use crate::bus::{Cx, Write, to_json};
use crate::error::{Error, Result};
use crate::model::EntryId;

const META_SCOPE: &str = "session_tree_meta";
const ENTRIES_PREFIX: &str = "session_tree:";

/// Names the removal of a session in an error.
pub(super) const REMOVE: &str = "state::delete session";

/// Writes under way at the same time, where a commit is written in parts.
const CHUNK: usize = 64;

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

/// Writes new entries, each under one before it, and the row of their session: as one batch where the store takes all of
/// it or nothing. Elsewhere an entry must not be there without the one before it, so they go one after the other.
pub(super) async fn write_chain(
    cx: &Cx<Sessions>,
    session: &str,
    entries: &[SessionEntry],
    meta: Option<&SessionMeta>,
) -> Result<()> {
    const OPERATION: &str = "state::set entry";
    if cx.bus().transport().is_exclusive() {
        return write(cx, OPERATION, session, entries, meta).await;
    }
    let Some((last, before)) = entries.split_last() else {
        return Ok(());
    };
    for entry in before {
        commit(cx, OPERATION, vec![entry_write(session, entry)]).await?;
    }
    write(cx, OPERATION, session, std::slice::from_ref(last), meta).await
}

/// Writes changed entries, and the row of their session.
pub(super) async fn rewrite(
    cx: &Cx<Sessions>,
    session: &str,
    entries: &[SessionEntry],
    meta: Option<&SessionMeta>,
) -> Result<()> {
    write(cx, "state::set updateEntry", session, entries, meta).await
}

/// Writes entries and the row of their session: as one batch where the store takes all of it or nothing, else side by
/// side, where a row that could not be written is only reported (contract 06 §2).
async fn write(
    cx: &Cx<Sessions>,
    operation: &str,
    session: &str,
    entries: &[SessionEntry],
    meta: Option<&SessionMeta>,
) -> Result<()> {
    let mut writes: Vec<Write> = entries.iter().map(|entry| entry_write(session, entry)).collect();
    let Some(meta) = meta else {
        return commit(cx, operation, writes).await;
    };
    if cx.bus().transport().is_exclusive() {
        writes.push(meta_write(meta)?);
        return commit(cx, operation, writes).await;
    }
    let (entries, row) = join(commit(cx, operation, writes), write_meta(cx, meta)).await;
    if let Err(error) = row {
        tracing::warn!(session, %error, "time of the last change not stored");
    }
    entries
}

/// Writes a whole new session, whose row makes it visible: as one batch where the store takes all of it or nothing. Elsewhere
/// the row comes last, and what was written is taken away again when something fails.
pub(super) async fn write_session(
    cx: &Cx<Sessions>,
    entries: &[SessionEntry],
    meta: &SessionMeta,
) -> Result<()> {
    const OPERATION: &str = "state::set entry";
    let session = &meta.session_id;
    let row = meta_write(meta)?;
    let mut writes: Vec<Write> = entries.iter().map(|entry| entry_write(session, entry)).collect();
    if cx.bus().transport().is_exclusive() {
        writes.push(row);
        return commit(cx, OPERATION, writes).await;
    }
    let written = async {
        for chunk in writes.chunks(CHUNK) {
            commit(cx, OPERATION, chunk.to_vec()).await?;
        }
        commit(cx, "state::set meta", vec![row]).await
    };
    let outcome = written.await;
    if outcome.is_err() {
        let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id.clone()).collect();
        if let Err(error) = remove(cx, session, &ids, Vec::new()).await {
            tracing::warn!(%session, %error, "a session that could not be written whole is not taken away");
        }
    }
    outcome
}

/// Removes the row of a session, these entries, and what goes with them: as one batch where the store takes all of it or
/// nothing. Elsewhere the row comes before the entries, which makes the session invisible.
pub(super) async fn remove(
    cx: &Cx<Sessions>,
    session: &str,
    entries: &[EntryId],
    beside: Vec<Write>,
) -> Result<()> {
    let row = Write::StateDelete {
        scope: META_SCOPE.to_owned(),
        key: session.to_owned(),
    };
    let entries = entries.iter().map(|id| Write::StateDelete {
        scope: entry_scope(session),
        key: id.to_string(),
    });
    let mut first = beside;
    first.push(row);
    if cx.bus().transport().is_exclusive() {
        first.extend(entries);
        return commit(cx, REMOVE, first).await;
    }
    let mut outcome = commit(cx, REMOVE, first).await;
    let entries: Vec<Write> = entries.collect();
    // What can be removed is removed, whatever became of the rest.
    for chunk in entries.chunks(CHUNK) {
        outcome = outcome.and(commit(cx, REMOVE, chunk.to_vec()).await);
    }
    outcome
}

/// Stores writes; `operation` names them in the error.
pub(super) async fn commit(cx: &Cx<Sessions>, operation: &str, writes: Vec<Write>) -> Result<()> {
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
