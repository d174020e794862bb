//! Which spends of a period were recorded already (contract 07 weakness 4).
//!
//! The newest ids are in the budget's own row, so that a spend and its id are stored with one write. When they become
//! many, they move to a row of their own, which never changes again: a record then writes a few kilobytes at most, however
//! many there were before.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ids in the budget's row before they move.
const NEWEST: usize = 128;

/// Bytes of a hash that are kept.
const HASH_BYTES: usize = 12;

/// The ids of the running period.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct RecordIds {
    /// Hashes of the newest ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    newest: Vec<String>,
    /// Number of the first row that holds older ones. Numbers are not used again in a later period.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) first: u32,
    /// Number behind the last such row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) end: u32,
}

/// Ids that moved to rows, in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Older {
    /// Number of the first of the rows.
    pub(super) first: u32,
    /// Hashes.
    pub(super) ids: Arc<HashSet<String>>,
}

/// What a row of older ids holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct OlderIds {
    /// Hashes.
    pub(super) record_ids: Vec<String>,
}

/// Takes any id to one of fixed length.
pub(super) fn hash(record_id: &str) -> String {
    let digest = digest(&SHA256, record_id.as_bytes());
    let mut text = String::with_capacity(2 * HASH_BYTES);
    for byte in digest.as_ref().iter().take(HASH_BYTES) {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

impl RecordIds {
    /// Whether a spend is recorded; `older` are the ids that moved.
    pub(super) fn has(&self, hash: &str, older: &Older) -> bool {
        let moved = older.first == self.first && older.ids.contains(hash);
        moved || self.newest.iter().any(|known| known == hash)
    }

    /// Adds one; answers the ids that are to move, and the number of their row.
    pub(super) fn add(&mut self, hash: String, older: &mut Older) -> Option<(u32, OlderIds)> {
        self.newest.push(hash);
        if self.newest.len() < NEWEST {
            return None;
        }
        let moved = OlderIds {
            record_ids: std::mem::take(&mut self.newest),
        };
        if older.first != self.first {
            *older = Older {
                first: self.first,
                ids: Arc::default(),
            };
        }
        Arc::make_mut(&mut older.ids).extend(moved.record_ids.iter().cloned());
        let number = self.end;
        self.end = self.end.saturating_add(1);
        Some((number, moved))
    }

    /// A period begins: nothing is recorded in it.
    pub(super) fn renew(&mut self) {
        self.newest.clear();
        self.first = self.end;
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn ids_of_any_length_become_short_ones() {
        assert_eq!(hash("a"), "ca978112ca1bbdcafac231b3");
        assert_eq!(hash(&"x".repeat(1 << 20)).len(), 24);
    }

    #[test]
    fn old_ids_move_and_are_known_still() {
        let mut ids = RecordIds::default();
        let mut older = Older::default();
        let mut rows = Vec::new();
        for n in 0..300 {
            let hash = hash(&n.to_string());
            assert!(!ids.has(&hash, &older));
            rows.extend(
                ids.add(hash, &mut older)
                    .map(|(number, ids)| (number, ids.record_ids.len())),
            );
        }
        assert_eq!((rows, ids.newest.len()), (vec![(0, NEWEST), (1, NEWEST)], 44));
        assert!((0..300).all(|n| ids.has(&hash(&n.to_string()), &older)));
        ids.renew();
        assert!(!(0..300).any(|n| ids.has(&hash(&n.to_string()), &older)));
        let moved = (0..128)
            .filter_map(|n| ids.add(hash(&n.to_string()), &mut older))
            .count();
        assert_eq!((moved, ids.first, ids.end), (1, 2, 3));
        assert!((0..128).all(|n| ids.has(&hash(&n.to_string()), &older)));
        assert!(!ids.has(&hash("200"), &older));
    }
}
