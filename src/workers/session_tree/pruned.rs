//! Function results with other content (contract 06 §4.13).

use std::collections::HashMap;

use futures::future::join;
use serde_json::{Map, Value, json};

use super::entry::{Body, SessionEntry};
use super::index::Index;
use super::meta::SessionMeta;
use super::request;
use super::sessions::Sessions;
use crate::bus::Cx;
use crate::error::Result;
use crate::model::api::session::PartUpdate;
use crate::model::{EntryId, RawMessage, SessionId};

/// Text of a result whose output was taken away.
const PRUNED: &str = "[output pruned]";

/// Rewrites function results, in one batch; answers how many entries changed.
pub(super) async fn apply(cx: &Cx<Sessions>, session: &SessionId, updates: &[PartUpdate]) -> Result<usize> {
    for update in updates {
        if let Some(value) = &update.compacted_at {
            request::depth("compacted_at", &json!({ "details": { "compacted_at": value } }))?;
        }
    }
    if updates.is_empty() {
        return Ok(0);
    }
    let slot = cx.state().slot(session);
    let _writer = slot.write().await;
    let (loaded, meta) = join(slot.load(cx, session), slot.load_meta(cx, session)).await;
    loaded?;
    let row = meta?.known();
    let (entries, count, summary) =
        slot.ask(|index| (rewritten(index, updates), index.len(), index.summary()))?;
    if entries.is_empty() {
        return Ok(0);
    }
    let updated = entries.len();
    let changed = cx.state().change_time(cx.now_ms());
    let row = row.map(|row| SessionMeta::clone(&row).refreshed(changed, count, summary));
    slot.rewrite(cx, session, entries, row).await?;
    Ok(updated)
}

/// The entries as they are after all updates; each once, in the order of their first update.
fn rewritten(index: &Index, updates: &[PartUpdate]) -> Vec<SessionEntry> {
    let mut entries: Vec<SessionEntry> = Vec::new();
    let mut places: HashMap<&EntryId, usize> = HashMap::new();
    for update in updates {
        let place = places.get(&update.entry_id).copied();
        let before = match place.and_then(|place| entries.get(place)) {
            Some(entry) => Some(entry),
            None => index.get(&update.entry_id).map(AsRef::as_ref),
        };
        let Some(entry) = before.and_then(|entry| updated(entry, update)) else {
            continue;
        };
        if let Some(before) = place.and_then(|place| entries.get_mut(place)) {
            *before = entry;
        } else {
            places.insert(&update.entry_id, entries.len());
            entries.push(entry);
        }
    }
    entries
}

/// The entry with its new content, if it is a function result.
fn updated(entry: &SessionEntry, update: &PartUpdate) -> Option<SessionEntry> {
    let message = entry
        .as_message()
        .filter(|message| message.role() == "function_result")?;
    let mut object = message.object().clone();
    let text = update.output.as_deref().unwrap_or(PRUNED);
    object.insert("content".into(), json!([{ "type": "text", "text": text }]));
    let details = object.entry("details").or_insert(Value::Null);
    if !details.is_object() {
        *details = Value::Object(Map::new());
    }
    if let (Some(details), Some(value)) = (details.as_object_mut(), &update.compacted_at) {
        details.insert("compacted_at".into(), value.clone());
    }
    Some(SessionEntry {
        body: Body::Message(RawMessage::stored(Value::Object(object))?),
        ..entry.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn index(details: &Value) -> Index {
        let message = json!({"role": "function_result", "function_call_id": "c", "function_id": "f::g",
            "content": [{"type": "text", "text": "long"}], "details": details, "is_error": true, "later": 1});
        let row =
            json!({"type": "message", "id": "e", "timestamp": 1, "metadata": {"m": 1}, "message": message});
        Index::load(vec![row]).0
    }

    fn update(output: Option<&str>, compacted_at: Option<Value>) -> PartUpdate {
        PartUpdate {
            entry_id: "e".into(),
            output: output.map(str::to_owned),
            compacted_at,
        }
    }

    fn outcome(details: &Value, updates: &[PartUpdate]) -> Value {
        let mut entries = rewritten(&index(details), updates);
        assert_eq!(entries.len(), 1);
        entries.remove(0).to_value()
    }

    #[test]
    fn everything_but_content_and_details_stays() {
        let after = outcome(&json!({"keep": 1}), &[update(Some(""), Some(json!(7)))]);
        let message = json!({"role": "function_result", "function_call_id": "c", "function_id": "f::g",
            "content": [{"type": "text", "text": ""}], "details": {"keep": 1, "compacted_at": 7}, "is_error": true,
            "later": 1});
        assert_eq!(
            after,
            json!({"type": "message", "id": "e", "parent_id": null, "timestamp": 1, "metadata": {"m": 1}, "message": message})
        );
    }

    #[test]
    fn details_that_are_no_object_are_replaced() {
        for details in [Value::Null, json!("x"), json!([1])] {
            let after = outcome(&details, &[update(None, Some(Value::Null))]);
            assert_eq!(after["message"]["details"], json!({"compacted_at": null}));
            assert_eq!(
                after["message"]["content"],
                json!([{"type": "text", "text": PRUNED}])
            );
            let after = outcome(&details, &[update(None, None)]);
            assert_eq!(after["message"]["details"], json!({}));
        }
    }

    #[test]
    fn an_id_given_twice_is_applied_in_order() {
        let updates = [update(Some("a"), Some(json!(1))), update(Some("b"), None)];
        let after = outcome(&json!({}), &updates);
        assert_eq!(after["message"]["content"][0]["text"], "b");
        assert_eq!(after["message"]["details"], json!({"compacted_at": 1}));
    }
}
