//! `session-tree::append`: adds one message (contract 06 §4.3).

use std::sync::Arc;

use serde_json::Value;

use super::entry::{Body, SessionEntry};
use super::idle;
use super::index::{Index, summary_line};
use super::meta::SessionMeta;
use super::request;
use super::sessions::Sessions;
use super::slot::Meta;
use super::staged::{Staged, batch};
use crate::bus::{Cx, Function, MAX_PAYLOAD_BYTES, decode};
use crate::error::{Error, Result};
use crate::model::api::session::{AppendRequest, EntryRef, MAX_STORED_DEPTH};
use crate::model::measure::measure_object;
use crate::model::{EntryId, RawMessage, SessionId};

/// Longest entry id that a caller may choose, in characters.
const MAX_ENTRY_ID_CHARS: usize = 200;

/// Why an append is refused while a run is at work.
const NO_BRANCH: &str = "only its end can be appended to; a branch can begin once the run is over";

/// `session-tree::append`.
#[derive(Debug)]
pub struct Append;

impl Function for Append {
    const ID: &'static str = "session-tree::append";
    const DESCRIPTION: &'static str = "Append an AgentMessage entry to a session";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    type State = Sessions;
    type Request = AppendRequest;
    type Response = EntryRef;

    fn decode(payload: Value) -> Result<AppendRequest> {
        let without_message = payload.get("message").is_none_or(is_falsy);
        if without_message {
            // The session id is asked for first.
            decode::<Value>(payload, Self::REQUIRED, false)?;
            return Err(Error::invalid("missing required field: message"));
        }
        decode(payload, Self::REQUIRED, false)
    }

    async fn call(cx: &Cx<Sessions>, request: AppendRequest) -> Result<EntryRef> {
        request::session(&request.session_id)?;
        check(&request.message)?;
        let new = New {
            session_id: request.session_id,
            parent_id: request.parent_id,
            entry_id: request.entry_id,
            metadata: None,
            body: Body::Message(request.message.with_timestamp(cx.now_ms())),
        };
        Self::add(cx, new).await
    }
}

/// An entry on its way into a session.
pub(super) struct New {
    pub(super) session_id: SessionId,
    /// The current tip when absent.
    pub(super) parent_id: Option<EntryId>,
    /// The caller's choice; one of ours when it is absent or not usable.
    pub(super) entry_id: Option<EntryId>,
    pub(super) metadata: Option<Value>,
    pub(super) body: Body,
}

impl Append {
    /// Adds an entry behind all others; the session is made when there is none.
    pub(super) async fn add(cx: &Cx<Sessions>, request: New) -> Result<EntryRef> {
        let session_id = request.session_id;
        let slot = cx.state().slot(&session_id);
        let staged = Staged::open(cx, &session_id, &slot).await;
        let (loaded, meta) =
            futures::future::join(slot.load(cx, &session_id), slot.load_meta(cx, &session_id)).await;
        loaded?;
        let meta = match staged.meta() {
            Some(row) => Meta::Known(Arc::new(row.clone())),
            None => meta?,
        };

        let wanted = request.entry_id.filter(is_usable);
        let parent = request.parent_id.as_ref();
        let now_ms = cx.now_ms();
        let place =
            slot.ask(|index| Place::find(index, staged.entries(), wanted.as_ref(), parent, now_ms))??;
        let (parent_id, timestamp, count, branches) = match place {
            Place::Taken(entry_id) => {
                staged.leave();
                return Ok(EntryRef { entry_id });
            }
            Place::Free {
                parent_id,
                timestamp,
                count,
                branches,
            } => (parent_id, timestamp, count, branches),
        };
        // It would become the active path, and what the run adds next would go on there (field lesson R5).
        if branches && let Err(at_work) = idle::check(cx, &session_id, NO_BRANCH).await {
            staged.leave();
            return Err(at_work);
        }
        let entry_id = wanted.unwrap_or_else(|| cx.uuid().into());
        let changed = cx.state().change_time(now_ms);
        let row = match meta {
            Meta::Known(row) => Some(SessionMeta::clone(&row)),
            Meta::Missing => {
                let row = SessionMeta::new(session_id.clone(), 0, changed);
                // Without a batch an engine may store the entry and not the row.
                if batch(cx).is_none() && !cx.bus().transport().is_exclusive() {
                    slot.create(cx, row.clone()).await?;
                }
                Some(row)
            }
            Meta::Unreadable | Meta::Unknown => None,
        };
        let summary = match &request.body {
            Body::Message(message) => summary_line(message),
            _ => slot.ask(|index| last_summary(index, staged.entries()))?,
        };
        let row = row.map(|row| row.refreshed(changed, count, summary));
        let entry = SessionEntry {
            metadata: request.metadata,
            ..SessionEntry::new(entry_id.clone(), parent_id, timestamp, request.body)
        };
        staged.append(&session_id, entry, row).await?;
        Ok(EntryRef { entry_id })
    }
}

/// Where a new entry goes.
enum Place {
    /// The id is in use already: the same append came before.
    Taken(EntryId),
    /// Behind all others.
    Free {
        parent_id: Option<EntryId>,
        timestamp: i64,
        count: usize,
        /// Under another entry than the tip.
        branches: bool,
    },
}

impl Place {
    /// Among the stored entries and those that are to be stored before this one.
    fn find(
        index: &Index,
        staged: &[SessionEntry],
        wanted: Option<&EntryId>,
        parent: Option<&EntryId>,
        now_ms: i64,
    ) -> Result<Self> {
        let exists = |id: &EntryId| index.contains(id) || staged.iter().any(|entry| entry.id == *id);
        if let Some(taken) = wanted.filter(|id| exists(id)) {
            return Ok(Self::Taken(taken.clone()));
        }
        if let Some(missing) = parent.filter(|id| !exists(id)) {
            return Err(request::entry_not_found(missing));
        }
        let last = staged.last();
        let tip = last.map(|entry| &entry.id).or_else(|| index.tip());
        let earliest = last.map_or(now_ms, |entry| now_ms.max(entry.timestamp.saturating_add(1)));
        Ok(Self::Free {
            branches: parent.is_some_and(|parent| Some(parent) != tip),
            parent_id: parent.or(tip).cloned(),
            timestamp: index.next_timestamp(earliest),
            count: index.len() + staged.len() + 1,
        })
    }
}

/// The summary line of the last message among the stored entries and those that are to be stored.
fn last_summary(index: &Index, staged: &[SessionEntry]) -> Option<String> {
    let staged = staged.iter().rev().find_map(SessionEntry::as_message);
    staged.map_or_else(|| index.summary(), summary_line)
}

/// Checks what reading the JSON cannot: a typed caller may hand over any object.
pub(super) fn check(message: &RawMessage) -> Result<()> {
    let invalid = |why: &str| Err(Error::Invalid(format!("invalid message: {why}")));
    if !matches!(
        message.role(),
        "user" | "assistant" | "function_result" | "custom"
    ) {
        return invalid("`role` is missing or unknown");
    }
    if !message.object().get("content").is_some_and(Value::is_array) {
        return invalid("`content` is not an array");
    }
    let size = measure_object(message.object());
    if size.depth > MAX_STORED_DEPTH {
        return invalid(&format!("nested deeper than {MAX_STORED_DEPTH} levels"));
    }
    if size.bytes > MAX_PAYLOAD_BYTES {
        return invalid(&format!("larger than {MAX_PAYLOAD_BYTES} bytes"));
    }
    Ok(())
}

/// Whether a caller may choose it as the id of an entry.
pub(super) fn is_usable(id: &EntryId) -> bool {
    (1..=MAX_ENTRY_ID_CHARS).contains(&id.chars().count()) && !id.chars().any(char::is_control)
}

fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn refusal(payload: Value) -> String {
        Append::decode(payload).unwrap_err().to_string()
    }

    #[test]
    fn c06_case_05_what_is_missing_is_named_in_order() {
        for falsy in [Value::Null, json!(0), json!(0.0), json!(""), json!(false)] {
            assert_eq!(
                refusal(json!({"session_id": "s", "message": falsy})),
                "missing required field: message"
            );
        }
        assert_eq!(
            refusal(json!({"session_id": "s"})),
            "missing required field: message"
        );
        for payload in [
            json!({}),
            Value::Null,
            json!(["s", {}]),
            json!("s"),
            json!({"session_id": 4}),
        ] {
            assert_eq!(refusal(payload), "missing required string field: session_id");
        }
    }

    #[test]
    fn c06_case_30_a_message_that_is_none_is_refused() {
        for message in [
            json!("hi"),
            json!(7),
            json!(true),
            json!([]),
            json!({"content": []}),
            json!({"role": "robot", "content": []}),
            json!({"role": 4, "content": []}),
            json!({"role": "user"}),
            json!({"role": "user", "content": 5}),
            json!({"role": "user", "content": {"text": "x"}}),
        ] {
            let why = refusal(json!({"session_id": "s", "message": message}));
            assert!(why.starts_with("invalid message: "), "{why}");
        }
    }

    #[test]
    fn a_typed_caller_gets_the_same_checks() {
        let stored = |value: Value| RawMessage::stored(value).unwrap();
        for message in [
            json!({}),
            json!({"role": "user"}),
            json!({"role": "user", "content": "text"}),
        ] {
            let why = check(&stored(message)).unwrap_err().to_string();
            assert!(why.starts_with("invalid message: "), "{why}");
        }
        let mut deep = json!(1);
        for _ in 0..MAX_STORED_DEPTH {
            deep = json!([deep]);
        }
        let message = stored(json!({"role": "user", "content": [], "x": deep}));
        let why = check(&message).unwrap_err().to_string();
        assert_eq!(why, "invalid message: nested deeper than 120 levels");
        let long = "x".repeat(MAX_PAYLOAD_BYTES);
        let message = stored(json!({"role": "user", "content": [{"type": "text", "text": long}]}));
        let why = check(&message).unwrap_err().to_string();
        assert_eq!(why, "invalid message: larger than 16777216 bytes");
    }

    #[test]
    fn only_a_plain_entry_id_is_used() {
        assert!(is_usable(&"a".into()));
        assert!(is_usable(&"ä".repeat(200).into()));
        assert!(!is_usable(&"".into()));
        assert!(!is_usable(&"ä".repeat(201).into()));
        assert!(!is_usable(&"a\nb".into()));
    }
}
