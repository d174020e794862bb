//! Where the queues are kept; one user of a queue at a time (contract 06 §5, §7).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Value, json};

use crate::bus::{Batch, Cx, Hold, Part, Write};
use crate::config::StoreBackend;
use crate::error::{Error, Result};

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

/// A queue that is emptied by the commit of somebody's batch.
struct Drained {
    writes: [Write; 1],
    _alone: Hold,
}

impl Part for Drained {
    fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The queue is free again, whatever became of it.
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
    pub(super) async fn push(&self, item: Value) -> Result<usize> {
        let inboxes = self.cx.state();
        if inboxes.in_memory(self.cx) {
            let mut kept = inboxes.kept();
            let items = kept.entry(self.key.clone()).or_default();
            items.push(item);
            return Ok(items.len());
        }
        let append = json!({ "type": "append", "path": "", "value": item });
        let ops = match self.stored().await? {
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
            batch.add(Box::new(Drained {
                writes: [emptied],
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
