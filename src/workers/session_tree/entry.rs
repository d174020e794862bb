//! What one node of a session tree holds (contract 06 §1.3), read from stored JSON of any age and written back with
//! every member it came with.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::model::measure::{measure, measure_object};
use crate::model::{EntryId, RawMessage};

/// One node of a session tree.
///
/// Stored as `{"type", "id", "parent_id", "timestamp", "metadata"?, …own members}`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SessionEntry {
    /// Id within the session.
    pub(super) id: EntryId,
    /// The entry before it; absent in old data, which means none.
    pub(super) parent_id: Option<EntryId>,
    /// Unix milliseconds of the append, not of the message.
    pub(super) timestamp: i64,
    /// Free data beside the entry.
    pub(super) metadata: Option<Value>,
    /// What kind it is.
    pub(super) body: Body,
    /// Members we do not know, kept.
    pub(super) extra: Map<String, Value>,
}

/// The kinds of entries.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    /// A message of the conversation.
    Message(RawMessage),
    /// Something of an extension; written by others only.
    CustomMessage {
        /// Free name.
        custom_type: String,
        /// Any JSON.
        content: Value,
        /// Text for people.
        display: Option<String>,
        /// Any JSON.
        details: Option<Value>,
    },
    /// Stands for a path of another session that was left out of a fork.
    BranchSummary {
        /// Text for people and models.
        summary: String,
        /// Entry of the source session.
        from_id: EntryId,
    },
    /// Stands for everything before `tail_start_id`.
    Compaction {
        /// Text for models.
        summary: String,
        /// A number; 0 when it was not given.
        tokens_before: Value,
        /// First entry that stays verbatim.
        tail_start_id: Option<EntryId>,
        /// `{read_files?, modified_files?}`.
        details: Value,
    },
    /// A stored record we cannot read. It keeps its place in the chain, so that it spoils only itself; its members,
    /// `type` included, are in [`SessionEntry::extra`].
    Unreadable,
}

/// Why a stored record, or a part of it, is not usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    /// The record, when it can be named.
    pub(super) id: Option<EntryId>,
    /// What is wrong with it.
    pub(super) why: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "{id}: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

impl SessionEntry {
    /// A new entry.
    pub(super) fn new(id: EntryId, parent_id: Option<EntryId>, timestamp: i64, body: Body) -> Self {
        Self {
            id,
            parent_id,
            timestamp,
            metadata: None,
            body,
            extra: Map::new(),
        }
    }

    /// Reads a stored record. One without an id cannot be kept; any other flaw leaves an entry that holds its place.
    pub(super) fn read(stored: Value) -> (Option<Self>, Option<Flaw>) {
        let flaw = |id: Option<&EntryId>, why: &str| Flaw {
            id: id.cloned(),
            why: why.to_owned(),
        };
        let Value::Object(mut object) = stored else {
            return (None, Some(flaw(None, "a record is not an object")));
        };
        let Some(id) = take_text(&mut object, "id").filter(|id| !id.is_empty()) else {
            return (None, Some(flaw(None, "a record has no id")));
        };
        let id = EntryId::from(id);
        let parent_id = take_text(&mut object, "parent_id").map(EntryId::from);
        let timestamp = object.remove("timestamp").as_ref().and_then(millis);
        let metadata = object.remove("metadata").filter(|metadata| !metadata.is_null());
        let (body, why) = match Body::take(&mut object) {
            Ok(body) => (
                body,
                timestamp.is_none().then_some("its timestamp is not a number"),
            ),
            Err(why) => (Body::Unreadable, Some(why)),
        };
        let flaw = why.map(|why| flaw(Some(&id), why));
        let entry = Self {
            id,
            parent_id,
            timestamp: timestamp.unwrap_or_default(),
            metadata,
            body,
            extra: object,
        };
        (Some(entry), flaw)
    }

    /// The record to store.
    pub(super) fn to_value(&self) -> Value {
        let mut object = Map::new();
        if let Some(kind) = self.body.kind() {
            object.insert("type".into(), kind.into());
        }
        object.insert("id".into(), json!(self.id));
        object.insert("parent_id".into(), json!(self.parent_id));
        object.insert("timestamp".into(), self.timestamp.into());
        self.body.put(&mut object);
        if let Some(metadata) = &self.metadata {
            object.insert("metadata".into(), metadata.clone());
        }
        for (name, value) in &self.extra {
            object.insert(name.clone(), value.clone());
        }
        Value::Object(object)
    }

    /// The message, when it is a message entry.
    pub(super) fn as_message(&self) -> Option<&RawMessage> {
        if let Body::Message(message) = &self.body {
            Some(message)
        } else {
            None
        }
    }

    /// Bytes it takes in memory, roughly.
    pub(super) fn weight(&self) -> usize {
        const FIXED: usize = 320;
        let own = match &self.body {
            Body::Message(message) => measure_object(message.object()).bytes,
            Body::CustomMessage {
                custom_type,
                content,
                display,
                details,
            } => {
                custom_type.len()
                    + measure(content).bytes
                    + display.as_ref().map_or(0, String::len)
                    + details.as_ref().map_or(0, |details| measure(details).bytes)
            }
            Body::BranchSummary { summary, from_id } => summary.len() + from_id.len(),
            Body::Compaction { summary, details, .. } => summary.len() + measure(details).bytes,
            Body::Unreadable => 0,
        };
        let metadata = self.metadata.as_ref().map_or(0, |value| measure(value).bytes);
        FIXED + 2 * self.id.len() + own + metadata + measure_object(&self.extra).bytes
    }
}

impl Body {
    fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Message(_) => Some("message"),
            Self::CustomMessage { .. } => Some("custom_message"),
            Self::BranchSummary { .. } => Some("branch_summary"),
            Self::Compaction { .. } => Some("compaction"),
            Self::Unreadable => None,
        }
    }

    /// Takes the own members of a kind out of a record; on a flaw the record stays whole.
    fn take(object: &mut Map<String, Value>) -> Result<Self, &'static str> {
        let has_text = |name: &str| object.get(name).is_some_and(Value::is_string);
        let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
        match kind {
            "message" if !object.get("message").is_some_and(Value::is_object) => {
                return Err("its message is not an object");
            }
            "branch_summary" | "compaction" if !has_text("summary") => return Err("it has no summary"),
            "message" | "custom_message" | "branch_summary" | "compaction" => {}
            _ => return Err("its type is unknown"),
        }
        let kind = take_text(object, "type").unwrap_or_default();
        Ok(match kind.as_str() {
            "message" => {
                let message = object.remove("message").and_then(RawMessage::stored);
                message.map_or(Self::Unreadable, Self::Message)
            }
            "custom_message" => Self::CustomMessage {
                custom_type: take_text(object, "custom_type").unwrap_or_default(),
                content: object.remove("content").unwrap_or_default(),
                display: take_text(object, "display"),
                details: object.remove("details"),
            },
            "branch_summary" => Self::BranchSummary {
                summary: take_text(object, "summary").unwrap_or_default(),
                from_id: take_text(object, "from_id").unwrap_or_default().into(),
            },
            _ => Self::Compaction {
                summary: take_text(object, "summary").unwrap_or_default(),
                tokens_before: object.remove("tokens_before").unwrap_or_else(|| 0.into()),
                tail_start_id: take_text(object, "tail_start_id").map(EntryId::from),
                details: object.remove("details").unwrap_or_else(|| json!({})),
            },
        })
    }

    fn put(&self, object: &mut Map<String, Value>) {
        match self {
            Self::Message(message) => {
                object.insert("message".into(), message.to_value());
            }
            Self::CustomMessage {
                custom_type,
                content,
                display,
                details,
            } => {
                object.insert("custom_type".into(), json!(custom_type));
                object.insert("content".into(), content.clone());
                if let Some(display) = display {
                    object.insert("display".into(), json!(display));
                }
                if let Some(details) = details {
                    object.insert("details".into(), details.clone());
                }
            }
            Self::BranchSummary { summary, from_id } => {
                object.insert("summary".into(), json!(summary));
                object.insert("from_id".into(), json!(from_id));
            }
            Self::Compaction {
                summary,
                tokens_before,
                tail_start_id,
                details,
            } => {
                object.insert("summary".into(), json!(summary));
                object.insert("tokens_before".into(), tokens_before.clone());
                object.insert("tail_start_id".into(), json!(tail_start_id));
                object.insert("details".into(), details.clone());
            }
            Self::Unreadable => {}
        }
    }
}

/// Unix milliseconds as other writers store them: an integer, or a number with a fraction.
pub(super) fn millis(value: &Value) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float outside the range saturates, which keeps its place at the end"
    )]
    value
        .as_i64()
        .or_else(|| value.as_f64().map(|number| number.floor() as i64))
}

/// Takes a text member out; one of another type stays where it is.
fn take_text(object: &mut Map<String, Value>, name: &str) -> Option<String> {
    if !object.get(name)?.is_string() {
        // `null` says the same as "absent" for every optional text of an entry.
        if object.get(name)?.is_null() {
            object.remove(name);
        }
        return None;
    }
    match object.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn sound(stored: &Value) -> SessionEntry {
        let (entry, flaw) = SessionEntry::read(stored.clone());
        assert_eq!(flaw, None);
        entry.unwrap()
    }

    #[test]
    fn every_kind_is_given_back_as_it_came() {
        let kinds = [
            json!({"type": "message", "id": "a", "parent_id": null, "timestamp": 5,
                   "message": {"role": "user", "content": [], "timestamp": 1, "later": {"x": 1}}}),
            json!({"type": "custom_message", "id": "b", "parent_id": "a", "timestamp": 6, "custom_type": "note",
                   "content": {"any": [1]}, "display": "d", "details": 3, "metadata": {"m": true}}),
            json!({"type": "branch_summary", "id": "c", "parent_id": "b", "timestamp": 7, "summary": "s", "from_id": "q"}),
            json!({"type": "compaction", "id": "d", "parent_id": "c", "timestamp": 8, "summary": "s",
                   "tokens_before": 12, "tail_start_id": "b", "details": {"read_files": ["a.rs"]}, "later": "kept"}),
            json!({"type": "from_the_future", "id": "e", "parent_id": "d", "timestamp": 9, "payload": [1, 2]}),
        ];
        for stored in kinds {
            let (entry, _) = SessionEntry::read(stored.clone());
            assert_eq!(entry.unwrap().to_value(), stored);
        }
    }

    #[test]
    fn old_data_reads_with_its_defaults() {
        let entry = sound(&json!({"type": "compaction", "id": "d", "timestamp": 8.0, "summary": "s"}));
        assert_eq!(entry.timestamp, 8);
        assert_eq!(entry.parent_id, None);
        let defaults = Body::Compaction {
            summary: "s".into(),
            tokens_before: 0.into(),
            tail_start_id: None,
            details: json!({}),
        };
        assert_eq!(entry.body, defaults);
    }

    #[test]
    fn a_bad_record_keeps_its_place_and_is_named() {
        let cases = [
            (
                json!({"type": "message", "id": "a", "parent_id": "p", "timestamp": 1, "message": "hi"}),
                "a: its message is not an object",
            ),
            (
                json!({"type": "compaction", "id": "a", "parent_id": "p", "timestamp": 1, "summary": 4}),
                "a: it has no summary",
            ),
            (
                json!({"type": 9, "id": "a", "parent_id": "p", "timestamp": 1}),
                "a: its type is unknown",
            ),
        ];
        for (stored, why) in cases {
            let (entry, flaw) = SessionEntry::read(stored.clone());
            let entry = entry.unwrap();
            assert_eq!(flaw.unwrap().to_string(), why);
            assert_eq!(entry.body, Body::Unreadable);
            assert_eq!(entry.parent_id, Some("p".into()));
            assert_eq!(entry.to_value(), stored);
        }
    }

    #[test]
    fn a_record_without_an_id_is_dropped_and_reported() {
        for stored in [
            json!("x"),
            json!({"type": "message"}),
            json!({"id": ""}),
            json!({"id": 7}),
        ] {
            let (entry, flaw) = SessionEntry::read(stored);
            assert_eq!(entry, None);
            assert_eq!(flaw.unwrap().id, None);
        }
    }

    #[test]
    fn a_message_without_a_time_is_readable_and_reported() {
        let (entry, flaw) = SessionEntry::read(
            json!({"type": "message", "id": "a", "timestamp": "x", "message": {"role": "user", "content": []}}),
        );
        let entry = entry.unwrap();
        assert!(entry.as_message().is_some());
        assert_eq!(entry.timestamp, 0);
        assert_eq!(flaw.unwrap().why, "its timestamp is not a number");
    }
}
