//! What the newest compaction of a path leaves visible (contract 02 §5.1). Looked for from the end of the path, so that what
//! was compacted away costs nothing.

use std::sync::Arc;

use super::entry::{Body, SessionEntry};
use super::index::{Index, compaction_row, is_compaction, row};
use crate::model::api::session::{MessageRow, Recent};
use crate::model::{EntryId, window};

/// The messages that a reader needs, oldest first, and what it needs beside them.
///
/// These are the messages from the beginning of the tail on; without a tail on the path, those behind the compaction and before
/// them the message that it interrupted, with the results under it; without a compaction, all.
pub(super) fn recent(index: &Index, leaf: Option<&EntryId>) -> (Vec<MessageRow>, Recent) {
    let mut walk = Walk {
        seen: Vec::new(),
        rest: index.back(leaf),
    };
    let newest = newest_compaction(index, &mut walk);
    let oldest = newest.and_then(|newest| oldest_needed(index, &mut walk, newest));
    let needed = oldest.map_or(walk.seen.len(), |oldest| oldest + 1);
    let compaction = newest.and_then(|newest| {
        let before = walk.seen.iter().take(needed).skip(newest);
        let before = before.filter(|entry| entry.as_message().is_some()).count();
        compaction_row(walk.seen.get(newest)?, Some(before))
    });
    let mut rows: Vec<_> = (walk.seen.iter().take(needed))
        .filter_map(|entry| row(entry))
        .collect();
    rows.reverse();
    (rows, Recent { compaction })
}

/// Place of the newest compaction on the path. The newest of all branches is looked for first: as soon as it is met, no other
/// one can be newer.
fn newest_compaction<'a>(
    index: &'a Index,
    walk: &mut Walk<'a, impl Iterator<Item = &'a Arc<SessionEntry>>>,
) -> Option<usize> {
    let newest = index.last_compaction();
    let met = walk.find(0, |entry| newest.is_some_and(|newest| newest.id == entry.id));
    met.or_else(|| {
        let compactions = walk
            .seen
            .iter()
            .enumerate()
            .filter(|(_, entry)| is_compaction(entry));
        let newest = compactions.max_by_key(|(_, entry)| (entry.timestamp, &entry.id));
        newest.map(|(place, _)| place)
    })
}

/// Place of the oldest entry that a reader needs beside the compaction.
fn oldest_needed<'a>(
    index: &'a Index,
    walk: &mut Walk<'a, impl Iterator<Item = &'a Arc<SessionEntry>>>,
    newest: usize,
) -> Option<usize> {
    let tail = match &walk.seen.get(newest)?.body {
        Body::Compaction { tail_start_id, .. } => tail_start_id.clone(),
        _ => None,
    };
    // One that is not there at all is not worth a walk.
    let tail = tail.filter(|id| index.get(id).is_some_and(|entry| entry.as_message().is_some()));
    let tail = tail.and_then(|id| walk.find(0, |entry| entry.id == id));
    let interrupted = |entry: &SessionEntry| {
        let message = entry.as_message();
        let is_said = message.is_some_and(|message| message.role() != "function_result");
        is_said && !window::marks_nudge(entry.metadata.as_ref())
    };
    tail.or_else(|| walk.find(newest + 1, interrupted))
        .or(Some(newest))
}

/// A path from its end, walked as far as somebody looked.
struct Walk<'a, I> {
    seen: Vec<&'a Arc<SessionEntry>>,
    rest: I,
}

impl<'a, I: Iterator<Item = &'a Arc<SessionEntry>>> Walk<'a, I> {
    /// The first place from `start` on that fits.
    fn find(&mut self, start: usize, fits: impl Fn(&SessionEntry) -> bool) -> Option<usize> {
        let known = self.seen.iter().skip(start).position(|entry| fits(entry));
        if let Some(place) = known {
            return Some(start + place);
        }
        for entry in self.rest.by_ref() {
            self.seen.push(entry);
            if fits(entry) {
                return Some(self.seen.len() - 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};

    fn index(rows: &[(&str, &str)]) -> Index {
        let mut parent: Option<&str> = None;
        let mut stored = Vec::new();
        for (n, (id, kind)) in rows.iter().enumerate() {
            let mut row = json!({"id": id, "parent_id": parent, "timestamp": n, "type": "message",
                                 "message": {"role": kind, "content": []}});
            if let Some(tail) = kind.strip_prefix("compaction") {
                row["type"] = json!("compaction");
                row["summary"] = json!("s");
                row["tail_start_id"] = json!(tail.strip_prefix(':'));
            }
            stored.push(row);
            parent = Some(id);
        }
        Index::load(stored).0
    }

    fn of(rows: &[(&str, &str)]) -> Value {
        let (rows, recent) = recent(&index(rows), None);
        let ids: Vec<_> = rows.into_iter().map(|row| row.entry_id).collect();
        let compaction = recent.compaction.map(|row| (row.id, row.messages_before));
        json!([ids, compaction])
    }

    #[test]
    fn what_a_reader_needs() {
        let before = [("u1", "user"), ("a1", "assistant"), ("u2", "user")];
        let with = |more: &[(&'static str, &'static str)]| of(&[&before[..], more].concat());
        assert_eq!(of(&[]), json!([[], null]));
        assert_eq!(with(&[]), json!([["u1", "a1", "u2"], null]));
        assert_eq!(
            with(&[("k", "compaction:a1"), ("a2", "assistant")]),
            json!([["a1", "u2", "a2"], ["k", 2]])
        );
        assert_eq!(
            with(&[("k", "compaction:gone"), ("a2", "assistant")]),
            json!([["u2", "a2"], ["k", 1]])
        );
        assert_eq!(
            with(&[
                ("a2", "assistant"),
                ("r2", "function_result"),
                ("k", "compaction")
            ]),
            json!([["a2", "r2"], ["k", 2]])
        );
        assert_eq!(
            with(&[
                ("k", "compaction"),
                ("a2", "assistant"),
                ("l", "compaction:a2"),
                ("a3", "assistant")
            ]),
            json!([["a2", "a3"], ["l", 1]])
        );
        assert_eq!(
            of(&[("k", "compaction"), ("u", "user")]),
            json!([["u"], ["k", 0]])
        );
        assert_eq!(
            of(&[("k", "compaction:u"), ("a", "assistant"), ("u", "user")]),
            json!([["u"], ["k", 0]])
        );
    }

    #[test]
    fn what_was_compacted_away_is_not_walked() {
        let names: Vec<String> = (0..10_000).map(|n| format!("e{n}")).collect();
        let mut rows: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "user")).collect();
        rows.extend([("k", "compaction:e9999"), ("a", "assistant")]);
        let index = index(&rows);
        let mut walk = Walk {
            seen: Vec::new(),
            rest: index.back(None),
        };
        let newest = newest_compaction(&index, &mut walk).unwrap();
        assert_eq!((newest, oldest_needed(&index, &mut walk, newest)), (1, Some(2)));
        assert_eq!(walk.seen.len(), 3);
    }
}
