//! Where the queues are kept; one user of a queue at a time (contract 06 §5, §7).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Value, json};

use crate::bus::{Batch, Cx, Hold, Part, Write};
use crate::config::StoreBackend;
use crate::error::{Error, Result};
use crate::model::api::session::RUN_INBOXES;

/// State scope of the names of a session's queues, but for those that every session may have; key = session.
const NAMES: &str = "inbox_names";

/// Memory of the worker: the queues themselves with the memory backend.
#[derive(Debug, Default)]
pub struct Inboxes {
    in_memory: OnceLock<bool>,
    kept: Mutex<HashMap<String, Vec<Value>>>,
}

/// One queue while nobody else is at it.
pub(super) struct Inbox<'a> {
    cx: &'a Cx<Inboxes>,
    key: String,
    alone: Hold,
}

impl Inboxes {
    /// Waits until the caller is the only one at this queue.
    pub(super) async fn open(cx: &Cx<Self>, key: String) -> Inbox<'_> {
        let alone = cx.bus().hold(&format!("inbox_queue/{key}")).await;
        Inbox { cx, key, alone }
    }

    /// Removes all queues of a session, once the caller's batch is stored if it has one. The caller keeps others from pushing
    /// to them meanwhile.
    pub(super) async fn clear(cx: &Cx<Self>, session: &str, alone: Hold) -> Result<()> {
        if cx.state().in_memory(cx) {
            let of_session = |key: &str| key.rsplit_once('/').is_some_and(|(id, _)| id == session);
            cx.state().kept().retain(|key, _| !of_session(key));
            return Ok(());
        }
        let scope = cx.config().session.state_scope.clone();
        let noted = cx.scope(NAMES).get(session).await;
        let noted = noted.map_err(|cause| Error::store("state::get inbox_names", cause))?;
        let noted = noted.as_ref().and_then(Value::as_object).into_iter().flatten();
        let names = noted.map(|(name, _)| name.as_str()).chain(RUN_INBOXES);
        let queues = names.map(|name| (scope.clone(), format!("{session}/{name}")));
        let rows = queues.chain([(NAMES.to_owned(), session.to_owned())]);
        let writes = rows
            .map(|(scope, key)| Write::StateDelete { scope, key })
            .collect();
        match &cx.context().batch {
            Some(batch) if cx.bus().transport().is_exclusive() => {
                batch.add(Box::new(Emptied {
                    writes,
                    _alone: alone,
                }));
                Ok(())
            }
            _ => cx.bus().transport().commit(writes).await,
        }
    }

    fn in_memory(&self, cx: &Cx<Self>) -> bool {
        *self
            .in_memory
            .get_or_init(|| cx.config().session.store_backend == StoreBackend::Memory)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Vec<Value>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a queue's key holds.
#[derive(Debug, PartialEq)]
enum Stored {
    Missing,
    Queue(Vec<Value>),
    /// Something else, written by others: a bare string is what an append of the engine makes of a first string.
    Bare(Value),
}

impl Stored {
    fn of(value: Option<Value>) -> Self {
        match value {
            None | Some(Value::Null) => Self::Missing,
            Some(Value::Array(items)) => Self::Queue(items),
            Some(other) => Self::Bare(other),
        }
    }

    fn into_items(self) -> Vec<Value> {
        match self {
            Self::Missing => Vec::new(),
            Self::Queue(items) => items,
            Self::Bare(item) => vec![item],
        }
    }
}

/// Queues that are emptied or removed by the commit of somebody's batch.
struct Emptied {
    writes: Vec<Write>,
    _alone: Hold,
}

impl Part for Emptied {
    fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The queues are free again, whatever became of them.
    fn settle(self: Box<Self>, _stored: bool) {}
}

impl Inbox<'_> {
    /// All items, in push order.
    pub(super) async fn items(&self) -> Result<Vec<Value>> {
        let inboxes = self.cx.state();
        if inboxes.in_memory(self.cx) {
            return Ok(inboxes.kept().get(&self.key).cloned().unwrap_or_default());
        }
        self.stored().await.map(Stored::into_items)
    }

    /// Adds an item behind the others; answers how many there are now. An error means that it is not stored.
    pub(super) async fn push(&self, session: &str, name: &str, item: Value) -> Result<usize> {
        let inboxes = self.cx.state();
        if inboxes.in_memory(self.cx) {
            let mut kept = inboxes.kept();
            let items = kept.entry(self.key.clone()).or_default();
            items.push(item);
            return Ok(items.len());
        }
        let append = json!({ "type": "append", "path": "", "value": item });
        let stored = self.stored().await?;
        if stored == Stored::Missing && !RUN_INBOXES.contains(&name) {
            note(self.cx, session, name).await?;
        }
        let ops = match stored {
            Stored::Queue(_) => json!([append]),
            other => json!([{ "type": "set", "path": "", "value": other.into_items() }, append]),
        };
        let reply = self.update(ops).await?;
        match reply.get("new_value").and_then(Value::as_array) {
            Some(items) => Ok(items.len()),
            None => Err(Error::store(
                format!("state::update {}", self.key),
                "the stored value is not an array",
            )),
        }
    }

    /// Takes all items out at once; nothing is written when there are none.
    pub(super) async fn drain(&self) -> Result<Vec<Value>> {
        let inboxes = self.cx.state();
        if inboxes.in_memory(self.cx) {
            return Ok(inboxes.kept().remove(&self.key).unwrap_or_default());
        }
        match self.stored().await? {
            Stored::Missing => return Ok(Vec::new()),
            Stored::Queue(items) if items.is_empty() => return Ok(items),
            Stored::Queue(_) | Stored::Bare(_) => {}
        }
        let mut reply = self
            .update(json!([{ "type": "set", "path": "", "value": [] }]))
            .await?;
        let old = reply.get_mut("old_value").map(Value::take);
        Ok(Stored::of(old).into_items())
    }

    /// As [`drain`](Self::drain), but the queue is empty only once the batch is stored. Until then nobody else is at it.
    pub(super) async fn drain_with(self, batch: &Batch) -> Result<Vec<Value>> {
        if self.cx.state().in_memory(self.cx) {
            return self.drain().await;
        }
        let items = self.stored().await?.into_items();
        if !items.is_empty() {
            let emptied = Write::StateSet {
                scope: self.cx.config().session.state_scope.clone(),
                key: self.key,
                value: Value::Array(Vec::new()).into(),
            };
            batch.add(Box::new(Emptied {
                writes: vec![emptied],
                _alone: self.alone,
            }));
        }
        Ok(items)
    }

    async fn stored(&self) -> Result<Stored> {
        let scope = self.cx.config().session.state_scope.clone();
        self.cx
            .scope(&scope)
            .get(&self.key)
            .await
            .map(Stored::of)
            .map_err(|cause| Error::store("state::get inbox", cause))
    }

    async fn update(&self, ops: Value) -> Result<Value> {
        let scope = self.cx.config().session.state_scope.clone();
        self.cx
            .scope(&scope)
            .update(&self.key, ops)
            .await
            .map_err(|cause| Error::store("state::update inbox", cause))
    }
}

/// Notes the name of a queue that is about to come into being.
async fn note(cx: &Cx<Inboxes>, session: &str, name: &str) -> Result<()> {
    let ops = json!([{ "type": "merge", "path": "", "value": { name: true } }]);
    let noted = cx.scope(NAMES).update(session, ops).await;
    noted
        .map(drop)
        .map_err(|cause| Error::store("state::update inbox_names", cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn whatever_is_stored_reads_as_an_array() {
        let items = |value| Stored::of(value).into_items();
        assert_eq!(items(None), Vec::<Value>::new());
        assert_eq!(items(Some(Value::Null)), Vec::<Value>::new());
        assert_eq!(items(Some(json!([1, null]))), [json!(1), Value::Null]);
        assert_eq!(items(Some(json!("hello"))), [json!("hello")]);
        assert_eq!(items(Some(json!({"a": 1}))), [json!({"a": 1})]);
    }
}
