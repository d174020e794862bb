//! A part of the messages of a path. Pure.

use super::index::{Index, row};
use crate::model::EntryId;
use crate::model::api::session::MessagesResponse;

/// The last messages of a path, or the last before an entry of it, oldest first; `None` when that entry is not on the path.
pub(super) fn page(
    index: &Index,
    leaf: Option<&EntryId>,
    before: Option<&EntryId>,
    limit: usize,
) -> Option<MessagesResponse> {
    let mut back = index.back(leaf);
    if let Some(before) = before {
        back.by_ref().find(|entry| entry.id == *before)?;
    }
    let mut older = back.filter_map(|entry| row(entry));
    let mut messages: Vec<_> = older.by_ref().take(limit).collect();
    messages.reverse();
    let oldest = messages.first().map(|row| row.entry_id.clone());
    Some(MessagesResponse {
        next_before: oldest.filter(|_| older.next().is_some()),
        messages,
        recent: None,
    })
}
