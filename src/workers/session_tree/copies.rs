//! A new session with copies of another one's entries (contract 06 §4.8, §4.9).

use std::collections::HashMap;
use std::sync::Arc;

use super::entry::{Body, SessionEntry};
use super::index::{Index, summary_line};
use super::meta::SessionMeta;
use super::request;
use super::sessions::Sessions;
use super::slot::Meta;
use super::storage;
use crate::bus::Cx;
use crate::error::Result;
use crate::model::api::session::SessionRef;
use crate::model::{EntryId, SessionId};

/// Where a copy comes from.
pub(super) struct Source {
    pub(super) meta: Option<Arc<SessionMeta>>,
    /// What is to be copied, in stored order.
    pub(super) entries: Vec<Arc<SessionEntry>>,
}

impl Source {
    /// Reads a session at one moment. `select` answers what is to be copied; its error comes before the one for a session
    /// without a row.
    pub(super) async fn read(
        cx: &Cx<Sessions>,
        session: &SessionId,
        select: impl FnOnce(&Index) -> Result<Vec<Arc<SessionEntry>>>,
    ) -> Result<Self> {
        let slot = cx.state().slot(session);
        let _writer = slot.write().await;
        slot.load(cx, session).await?;
        let entries = slot.ask(select)??;
        let meta = match slot.load_meta(cx, session).await? {
            Meta::Known(meta) => Some(meta),
            // Its entries are there; only name and directory are not known.
            Meta::Unreadable => None,
            Meta::Missing | Meta::Unknown => return Err(request::session_not_found(session)),
        };
        Ok(Self { meta, entries })
    }

    /// Makes the new session with these entries. Nobody sees it before it is whole.
    pub(super) async fn make(
        &self,
        cx: &Cx<Sessions>,
        label: &str,
        entries: Vec<SessionEntry>,
    ) -> Result<SessionRef> {
        let session_id = SessionId::from(cx.uuid());
        let slot = cx.state().slot(&session_id);
        let _writer = slot.write().await;
        let now_ms = cx.state().change_time(cx.now_ms());
        let name = self.meta.as_ref().and_then(|meta| meta.display_name.as_ref());
        let name = name.filter(|name| !name.is_empty());
        let last = entries.iter().rev().find_map(SessionEntry::as_message);
        let meta = SessionMeta {
            display_name: name.map(|name| format!("{name} ({label})")),
            cwd: self.meta.as_ref().and_then(|meta| meta.cwd.clone()),
            ..SessionMeta::new(session_id.clone(), 1, now_ms)
        };
        let meta = meta.refreshed(now_ms, entries.len(), last.and_then(summary_line));
        if cx.state().in_memory(cx) {
            slot.load(cx, &session_id).await?;
            slot.append(cx, &session_id, entries, None).await?;
            slot.create(cx, meta).await?;
        } else {
            storage::write_session(cx, &entries, &meta).await?;
        }
        Ok(SessionRef { session_id })
    }
}

/// Copies of entries, given in stored order, under new ids: everything that names one of them names its copy, and a parent or
/// a beginning of a tail that is not among them is named no more.
pub(super) fn copies(entries: &[Arc<SessionEntry>], new_id: impl Fn() -> EntryId) -> Vec<SessionEntry> {
    let mut ids: Vec<EntryId> = entries.iter().map(|_| new_id()).collect();
    // Entries of one time are ordered by id, and their copies must come in the same order.
    let mut rest = ids.as_mut_slice();
    for run in entries.chunk_by(|a, b| a.timestamp == b.timestamp) {
        let Some((same_time, later)) = rest.split_at_mut_checked(run.len()) else {
            break;
        };
        same_time.sort_unstable();
        rest = later;
    }
    let names: HashMap<&EntryId, &EntryId> = entries.iter().map(|entry| &entry.id).zip(&ids).collect();
    let copy_of = |id: &EntryId| names.get(id).map(|id| EntryId::clone(id));
    let copies = entries.iter().zip(&ids).map(|(entry, id)| {
        let mut copy = SessionEntry::clone(entry);
        copy.id = id.clone();
        copy.parent_id = copy.parent_id.as_ref().and_then(copy_of);
        match &mut copy.body {
            Body::Compaction { tail_start_id, .. } => {
                *tail_start_id = tail_start_id.as_ref().and_then(copy_of);
            }
            // It names an entry of the session that this one was forked from, unless it was written by hand.
            Body::BranchSummary { from_id, .. } => {
                if let Some(copy) = copy_of(from_id) {
                    *from_id = copy;
                }
            }
            Body::Message(_) | Body::CustomMessage { .. } | Body::Unreadable => {}
        }
        copy
    });
    copies.collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};

    #[test]
    fn every_reference_is_mapped_and_equal_times_keep_their_order() {
        let rows = [
            json!({"type": "message", "id": "a", "parent_id": "gone", "timestamp": 5, "message": {"role": "user", "content": []}}),
            json!({"type": "message", "id": "b", "parent_id": "a", "timestamp": 5, "message": {"role": "user", "content": []},
                   "metadata": {"m": 1}, "later": [1]}),
            json!({"type": "compaction", "id": "c", "parent_id": "b", "timestamp": 5, "summary": "s", "tokens_before": 1,
                   "tail_start_id": "b", "details": {}}),
            json!({"type": "compaction", "id": "d", "parent_id": "c", "timestamp": 6, "summary": "s", "tokens_before": 1,
                   "tail_start_id": "gone", "details": {}}),
            json!({"type": "branch_summary", "id": "e", "parent_id": "d", "timestamp": 7, "summary": "s", "from_id": "far"}),
            json!({"type": "riddle", "id": "f", "parent_id": "e", "timestamp": 8, "payload": 1}),
        ];
        let entries: Vec<_> = rows
            .iter()
            .map(|row| Arc::new(SessionEntry::read(row.clone()).0.unwrap()))
            .collect();
        // Given out in falling order.
        let next = Cell::new(9);
        let new_id = || {
            next.set(next.get() - 1);
            EntryId::from(format!("n{}", next.get()))
        };
        let copied: Vec<Value> = copies(&entries, new_id)
            .iter()
            .map(SessionEntry::to_value)
            .collect();
        let mut expected = rows;
        for (row, id, parent) in [
            (0, "n6", None),
            (1, "n7", Some("n6")),
            (2, "n8", Some("n7")),
            (3, "n5", Some("n8")),
            (4, "n4", Some("n5")),
            (5, "n3", Some("n4")),
        ] {
            expected[row]["id"] = json!(id);
            expected[row]["parent_id"] = json!(parent);
        }
        expected[2]["tail_start_id"] = json!("n7");
        expected[3]["tail_start_id"] = Value::Null;
        assert_eq!(copied, expected);
    }
}
