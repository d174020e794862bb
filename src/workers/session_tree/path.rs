//! Order, leaf and path of a session tree (contract 06 §3.1-§3.3), over positions in stored order.

use std::sync::Arc;

use super::entry::SessionEntry;

/// Brings entries into stored order: by time, then by id.
pub(super) fn sort(entries: &mut [Arc<SessionEntry>]) {
    entries.sort_by(|a, b| a.timestamp.cmp(&b.timestamp).then_with(|| a.id.cmp(&b.id)));
}

/// Position of the active leaf among `len` entries in stored order: the last one that is nobody's parent; the last one
/// of all when every entry is a parent, which only a cycle can bring about.
pub(super) fn tip(len: usize, is_parent: impl Fn(usize) -> bool) -> Option<usize> {
    (0..len)
        .rev()
        .find(|&position| !is_parent(position))
        .or_else(|| len.checked_sub(1))
}

/// Positions from `leaf` back to the root. Ends at an entry without a parent, at a parent that does not exist, or before an
/// entry would occur twice.
pub(super) fn back(
    leaf: usize,
    len: usize,
    parent_of: impl Fn(usize) -> Option<usize>,
) -> impl Iterator<Item = usize> {
    let mut seen = vec![false; len];
    let mut is_new = move |position: &usize| {
        seen.get_mut(*position)
            .is_some_and(|seen| !std::mem::replace(seen, true))
    };
    std::iter::successors(Some(leaf), move |position| parent_of(*position))
        .take_while(move |position| is_new(position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn entry(id: &str, timestamp: i64) -> Arc<SessionEntry> {
        let stored = json!({"type": "message", "id": id, "timestamp": timestamp,
                            "message": {"role": "user", "content": []}});
        Arc::new(SessionEntry::read(stored).0.unwrap())
    }

    fn sorted(entries: &[(&str, i64)]) -> Vec<String> {
        let mut entries: Vec<_> = entries.iter().map(|&(id, time)| entry(id, time)).collect();
        sort(&mut entries);
        entries.iter().map(|entry| entry.id.to_string()).collect()
    }

    #[test]
    fn stored_order_is_by_time_then_by_id() {
        assert_eq!(sorted(&[("e-a", 200), ("e-b", 100)]), ["e-b", "e-a"]);
        assert_eq!(sorted(&[("e-z", 100), ("e-a", 100)]), ["e-a", "e-z"]);
    }

    #[test]
    fn the_tip_is_the_last_entry_that_nobody_follows() {
        assert_eq!(tip(0, |_| false), None);
        assert_eq!(tip(3, |_| false), Some(2));
        assert_eq!(tip(3, |position| position == 2), Some(1));
        assert_eq!(tip(3, |_| true), Some(2));
    }

    #[test]
    fn a_path_ends_at_the_root_at_a_gap_and_at_a_cycle() {
        fn path(leaf: usize, len: usize, parent_of: impl Fn(usize) -> Option<usize>) -> Vec<usize> {
            back(leaf, len, parent_of).collect()
        }
        let chain = |position: usize| position.checked_sub(1);
        assert_eq!(path(2, 4, chain), [2, 1, 0]);
        let gap = |position: usize| (position != 1).then(|| position - 1);
        assert_eq!(path(3, 4, gap), [3, 2, 1]);
        let cycle = |position: usize| Some((position + 1) % 3);
        assert_eq!(path(0, 3, cycle), [0, 1, 2]);
        assert_eq!(path(1, 2, Some), [1]);
        assert_eq!(path(7, 2, chain), Vec::<usize>::new());
    }
}
