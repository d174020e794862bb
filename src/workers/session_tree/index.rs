//! One session in memory: its entries in stored order and what every question about them needs. No I/O.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::entry::{Body, Flaw, SessionEntry};
use super::path;
use crate::model::api::session::{CompactionRow, MessageRow};
use crate::model::{EntryId, RawMessage};

/// Longest summary line, in characters (contract 06 §4.12).
const SUMMARY_CHARS: usize = 80;

/// Entries of one session.
///
/// Invariants: entries are in stored order, ids are unique, `positions` names every entry.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Arc<SessionEntry>>,
    positions: HashMap<EntryId, usize>,
    /// Where each entry's parent is, if it was there before the entry; a walk along the path then looks nothing up.
    parents_before: Vec<Option<usize>>,
    /// Where the compactions are, in stored order.
    compactions: Vec<usize>,
    /// Every id that occurs as a parent, dangling ones included.
    parents: HashSet<EntryId>,
    last_message: Option<usize>,
    bytes: usize,
}

impl Index {
    /// Reads what the store holds for a session, in any order, and tells what is wrong with it.
    pub(super) fn load(rows: Vec<Value>) -> (Self, Vec<Flaw>) {
        let mut flaws = Vec::new();
        let mut entries = Vec::with_capacity(rows.len());
        let mut ids = HashSet::with_capacity(rows.len());
        for row in rows {
            let (entry, flaw) = SessionEntry::read(row);
            flaws.extend(flaw);
            let Some(entry) = entry else { continue };
            if ids.insert(entry.id.clone()) {
                entries.push(Arc::new(entry));
            } else {
                flaws.push(Flaw {
                    id: Some(entry.id),
                    why: "a second record has this id".to_owned(),
                });
            }
        }
        path::sort(&mut entries);
        let mut index = Self::default();
        for entry in entries {
            index.push(entry);
        }
        (index, flaws)
    }

    /// Adds an entry behind all others: its time is [`Index::next_timestamp`] and its id is new.
    pub(super) fn push(&mut self, entry: Arc<SessionEntry>) {
        let position = self.entries.len();
        self.bytes += entry.weight();
        let parent = entry.parent_id.as_ref();
        self.parents_before
            .push(parent.and_then(|parent| self.positions.get(parent).copied()));
        if is_compaction(&entry) {
            self.compactions.push(position);
        }
        self.positions.insert(entry.id.clone(), position);
        if let Some(parent) = &entry.parent_id {
            self.parents.insert(parent.clone());
        }
        if entry.as_message().is_some() {
            self.last_message = Some(position);
        }
        self.entries.push(entry);
    }

    /// Puts an entry in the place of the one with its id, parent and time.
    pub(super) fn replace(&mut self, entry: Arc<SessionEntry>) {
        let place = self.positions.get(&entry.id);
        if let Some(place) = place.and_then(|position| self.entries.get_mut(*position)) {
            self.bytes = (self.bytes + entry.weight()).saturating_sub(place.weight());
            *place = entry;
        }
    }

    /// All entries, in stored order.
    pub(super) fn entries(&self) -> &[Arc<SessionEntry>] {
        &self.entries
    }

    /// The entry of this id.
    pub(super) fn get(&self, id: &str) -> Option<&Arc<SessionEntry>> {
        self.entries.get(*self.positions.get(id)?)
    }

    /// The last compaction in stored order, of all branches.
    pub(super) fn last_compaction(&self) -> Option<&Arc<SessionEntry>> {
        self.entries.get(*self.compactions.last()?)
    }

    /// Number of entries of every kind, on all branches.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes it takes in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is an entry of this id.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.positions.contains_key(id)
    }

    /// The active leaf.
    pub(super) fn tip(&self) -> Option<&EntryId> {
        let position = self.tip_position()?;
        self.entries.get(position).map(|entry| &entry.id)
    }

    /// Time for the next entry: now, but later than every entry there is (contract 06 §3.4).
    pub(super) fn next_timestamp(&self, now_ms: i64) -> i64 {
        match self.entries.last() {
            Some(last) => now_ms.max(last.timestamp.saturating_add(1)),
            None => now_ms,
        }
    }

    /// Summary line of the last message in stored order.
    pub(super) fn summary(&self) -> Option<String> {
        let entry = self.entries.get(self.last_message?)?;
        summary_line(entry.as_message()?)
    }

    /// Entries from the root to `leaf`, or to the active leaf; none for a leaf that does not exist.
    pub(super) fn path(&self, leaf: Option<&EntryId>) -> impl Iterator<Item = &Arc<SessionEntry>> {
        let mut path: Vec<_> = self.back(leaf).collect();
        path.reverse();
        path.into_iter()
    }

    /// The path from its end, without looking at what is not asked for.
    pub(super) fn back(&self, leaf: Option<&EntryId>) -> impl Iterator<Item = &Arc<SessionEntry>> {
        let leaf = match leaf {
            Some(id) => self.positions.get(id).copied(),
            None => self.tip_position(),
        };
        let positions =
            leaf.map(|leaf| path::back(leaf, self.entries.len(), |position| self.parent_of(position)));
        positions
            .into_iter()
            .flatten()
            .filter_map(|position| self.entries.get(position))
    }

    /// The messages on a path, oldest first; their JSON is shared, not copied.
    pub(super) fn messages(&self, leaf: Option<&EntryId>) -> Vec<MessageRow> {
        self.path(leaf).filter_map(|entry| row(entry)).collect()
    }

    /// All compactions of the session in stored order, with their place on the active path.
    pub(super) fn compactions(&self) -> Vec<CompactionRow> {
        if self.compactions.is_empty() {
            return Vec::new();
        }
        let mut messages = 0;
        let mut places = HashMap::new();
        for entry in self.path(None) {
            if entry.as_message().is_some() {
                messages += 1;
            } else if is_compaction(entry) {
                places.insert(&entry.id, messages);
            }
        }
        let compactions = self
            .compactions
            .iter()
            .filter_map(|position| self.entries.get(*position));
        compactions
            .filter_map(|entry| compaction_row(entry, places.get(&entry.id).copied()))
            .collect()
    }

    fn tip_position(&self) -> Option<usize> {
        path::tip(self.entries.len(), |position| {
            self.entries
                .get(position)
                .is_some_and(|entry| self.parents.contains(&entry.id))
        })
    }

    fn parent_of(&self, position: usize) -> Option<usize> {
        if let Some(parent) = self.parents_before.get(position).copied().flatten() {
            return Some(parent);
        }
        let parent = self.entries.get(position)?.parent_id.as_ref()?;
        self.positions.get(parent).copied()
    }
}

/// The line that `list` shows for a session whose last message this is: nothing for results and custom messages, else
/// the beginning of the first text block.
pub(super) fn summary_line(message: &RawMessage) -> Option<String> {
    if matches!(message.role(), "function_result" | "custom") {
        return None;
    }
    let text = message.texts().next()?;
    Some(text.chars().take(SUMMARY_CHARS).collect())
}

/// An entry as a row of messages, when it is one.
pub(super) fn row(entry: &SessionEntry) -> Option<MessageRow> {
    Some(MessageRow {
        entry_id: entry.id.clone(),
        message: entry.as_message()?.clone(),
        metadata: entry.metadata.clone(),
    })
}

/// An entry as a row of compactions, when it is one; `messages_before` when it is on the path.
pub(super) fn compaction_row(entry: &SessionEntry, messages_before: Option<usize>) -> Option<CompactionRow> {
    let Body::Compaction {
        summary,
        tokens_before,
        tail_start_id,
        details,
    } = &entry.body
    else {
        return None;
    };
    Some(CompactionRow {
        id: entry.id.clone(),
        summary: summary.clone(),
        tokens_before: tokens_before.clone(),
        tail_start_id: tail_start_id.clone(),
        details: details.clone(),
        timestamp: entry.timestamp,
        on_path: Some(messages_before.is_some()),
        messages_before,
    })
}

pub(super) fn is_compaction(entry: &SessionEntry) -> bool {
    matches!(entry.body, Body::Compaction { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn message(id: &str, parent: Option<&str>, timestamp: i64) -> Value {
        json!({"type": "message", "id": id, "parent_id": parent, "timestamp": timestamp,
               "message": {"role": "user", "content": [{"type": "text", "text": id}]}})
    }

    fn compaction(id: &str, parent: Option<&str>, timestamp: i64) -> Value {
        json!({"type": "compaction", "id": id, "parent_id": parent, "timestamp": timestamp, "summary": id,
               "tokens_before": 1, "details": {}})
    }

    fn loaded(rows: Vec<Value>) -> Index {
        let (index, flaws) = Index::load(rows);
        assert_eq!(flaws, []);
        index
    }

    fn path_of(index: &Index, leaf: Option<&str>) -> Vec<String> {
        let leaf = leaf.map(EntryId::from);
        index
            .path(leaf.as_ref())
            .map(|entry| entry.id.to_string())
            .collect()
    }

    #[test]
    fn a_child_written_with_an_earlier_time_stays_the_leaf() {
        let index = loaded(vec![
            message("e1", None, 100),
            message("e2", Some("e1"), 100),
            message("e3", Some("e2"), 100),
            message("e0", Some("e3"), 99),
        ]);
        assert_eq!(path_of(&index, None), ["e1", "e2", "e3", "e0"]);
        assert_eq!(index.next_timestamp(50), 101);
        assert_eq!(index.next_timestamp(500), 500);
    }

    #[test]
    fn unknown_leaf_dangling_parent_and_cycle_end_a_path() {
        let index = loaded(vec![
            message("a", Some("nowhere"), 1),
            message("b", Some("a"), 2),
            message("c", Some("d"), 3),
            message("d", Some("c"), 4),
        ]);
        assert_eq!(path_of(&index, Some("nobody")), Vec::<String>::new());
        assert_eq!(path_of(&index, None), ["a", "b"]);
        assert_eq!(path_of(&index, Some("d")), ["c", "d"]);
    }

    #[test]
    fn an_entry_that_others_named_as_parent_before_it_came_is_not_the_leaf() {
        let mut index = loaded(vec![message("child", Some("late"), 5)]);
        let (entry, _) = SessionEntry::read(message("late", None, 6));
        index.push(Arc::new(entry.unwrap()));
        assert_eq!(path_of(&index, None), ["late", "child"]);
    }

    #[test]
    fn bad_records_spoil_only_themselves() {
        let broken = json!({"type": "message", "id": "b", "parent_id": "a", "timestamp": 2, "message": "hi"});
        let (index, flaws) = Index::load(vec![
            message("a", None, 1),
            broken,
            message("c", Some("b"), 3),
            json!(17),
            message("c", None, 9),
        ]);
        let ids: Vec<_> = index.messages(None).into_iter().map(|row| row.entry_id).collect();
        assert_eq!(ids, ["a", "c"]);
        assert_eq!(index.len(), 3);
        let flaws: Vec<_> = flaws.iter().map(ToString::to_string).collect();
        assert_eq!(
            flaws,
            [
                "b: its message is not an object",
                "a record is not an object",
                "c: a second record has this id"
            ]
        );
    }

    #[test]
    fn compactions_know_their_place_on_the_active_path() {
        let index = loaded(vec![
            message("a", None, 1),
            compaction("off", Some("a"), 2),
            message("b", Some("a"), 3),
            compaction("on", Some("b"), 4),
            message("c", Some("on"), 5),
        ]);
        let places: Vec<_> = index
            .compactions()
            .into_iter()
            .map(|row| (row.id.to_string(), row.on_path, row.messages_before))
            .collect();
        assert_eq!(
            places,
            [
                ("off".to_owned(), Some(false), None),
                ("on".to_owned(), Some(true), Some(2))
            ]
        );
    }

    #[test]
    fn the_summary_line_is_cut_between_characters() {
        let line = |message: Value| summary_line(&RawMessage::stored(message).unwrap());
        let text = "ä🦀".repeat(60);
        let user = json!({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]});
        assert_eq!(line(user), Some("ä🦀".repeat(40)));
        assert_eq!(
            line(json!({"role": "user", "content": [{"type": "image"}]})),
            None
        );
        let block = json!([{"type": "text", "text": "x"}]);
        assert_eq!(line(json!({"role": "function_result", "content": block})), None);
        assert_eq!(line(json!({"role": "custom", "content": block})), None);
        assert_eq!(line(json!({"role": "assistant", "content": 5})), None);
    }
}
