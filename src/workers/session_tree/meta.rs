//! The record of a session beside its entries (contract 06 §1.4).

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::entry::millis;
use crate::model::{SessionId, lenient};

/// State value `session_tree_meta/<session_id>`.
///
/// `entry_count` and `last_message_summary` are additive: they are written with every append, so that a list needs no
/// transcript. A row without `entry_count` (of another writer, or of a session without appends) says nothing about the
/// entries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SessionMeta {
    /// The session.
    pub(super) session_id: SessionId,
    /// Name for people.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) display_name: Option<String>,
    /// Working directory.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) cwd: Option<String>,
    /// Unix milliseconds.
    #[serde(default, deserialize_with = "time")]
    pub(super) created_at: i64,
    /// Unix milliseconds of the last write of an entry.
    #[serde(default, deserialize_with = "time")]
    pub(super) updated_at: i64,
    /// 1 when made by create, fork or clone, 0 when made by ensure or append; never changed.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) branch_count: u64,
    /// Entries of every kind, all branches.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) entry_count: Option<usize>,
    /// Beginning of the last message.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) last_message_summary: Option<String>,
    /// Members we do not know, kept.
    #[serde(flatten)]
    pub(super) extra: Map<String, Value>,
}

impl SessionMeta {
    /// A new session.
    pub(super) fn new(session_id: SessionId, branch_count: u64, now_ms: i64) -> Self {
        Self {
            session_id,
            display_name: None,
            cwd: None,
            created_at: now_ms,
            updated_at: now_ms,
            branch_count,
            entry_count: None,
            last_message_summary: None,
            extra: Map::new(),
        }
    }

    /// Reads a stored row; none for what is not a session's record.
    pub(super) fn read(stored: Value) -> Option<Self> {
        Self::deserialize(stored)
            .ok()
            .filter(|meta| !meta.session_id.is_empty())
    }

    /// The row after an entry was written.
    #[must_use]
    pub(super) fn refreshed(self, now_ms: i64, entry_count: usize, summary: Option<String>) -> Self {
        Self {
            updated_at: now_ms.max(self.updated_at),
            entry_count: Some(entry_count),
            last_message_summary: summary,
            ..self
        }
    }

    /// Bytes it takes in memory, roughly.
    pub(super) fn weight(&self) -> usize {
        const FIXED: usize = 512;
        FIXED
            + self.session_id.len()
            + self.display_name.as_ref().map_or(0, String::len)
            + self.cwd.as_ref().map_or(0, String::len)
            + self.last_message_summary.as_ref().map_or(0, String::len)
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Ok(millis(&Value::deserialize(deserializer)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn a_row_of_another_writer_keeps_what_we_do_not_know() {
        let row = json!({"session_id": "s", "display_name": "N", "created_at": 1.5, "updated_at": "x", "theme": "dark"});
        let meta = SessionMeta::read(row).unwrap().refreshed(9, 3, Some("hi".into()));
        assert_eq!(
            serde_json::to_value(meta).unwrap(),
            json!({"session_id": "s", "display_name": "N", "created_at": 1, "updated_at": 9, "branch_count": 0,
                   "entry_count": 3, "last_message_summary": "hi", "theme": "dark"})
        );
    }

    #[test]
    fn what_names_no_session_is_no_row() {
        for row in [
            json!("x"),
            json!(["s"]),
            json!({}),
            json!({"session_id": ""}),
            json!({"session_id": 4}),
        ] {
            assert_eq!(SessionMeta::read(row), None);
        }
    }

    #[test]
    fn time_never_goes_back() {
        let meta = SessionMeta::new("s".into(), 0, 100).refreshed(50, 1, None);
        assert_eq!(meta.updated_at, 100);
    }
}
