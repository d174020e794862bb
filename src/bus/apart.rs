//! A batch of writes on an engine that has no transactions: everything before the last write goes out together, the last
//! one, which decides, when all of them are stored (design §4).

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::{CallContext, CallFuture, Invocation, Write};
use crate::error::Result;

/// Writes the batch with these calls. An engine runs calls side by side, so writes of one key wait for one another.
pub fn commit_apart(
    call: impl Fn(Invocation) -> CallFuture + Send + Sync + 'static,
    mut writes: Vec<Write>,
) -> CallFuture<()> {
    async move {
        let Some(last) = writes.pop() else {
            return Ok(());
        };
        let rows = by_row(writes).into_iter().map(|row| in_turn(&call, row));
        try_join_all(rows).await?;
        in_turn(&call, vec![last]).await
    }
    .boxed()
}

/// Writes of one row, one after the other.
async fn in_turn(call: &(impl Fn(Invocation) -> CallFuture + Sync), writes: Vec<Write>) -> Result<()> {
    for write in writes {
        let operation = operation(&write);
        let (id, payload) = request(write);
        let invocation = Invocation {
            function_id: id.into(),
            payload,
            context: CallContext::default(),
        };
        call(invocation)
            .await
            .map_err(|error| error.of_store(operation))?;
    }
    Ok(())
}

/// What is tried, for the text of a failure.
fn operation(write: &Write) -> String {
    match write {
        Write::StateSet { scope, key, .. } => format!("state::set {scope}/{key}"),
        Write::StateDelete { scope, key } => format!("state::delete {scope}/{key}"),
        Write::StreamSet { stream, group, .. } => format!("stream::set {stream}/{group}"),
    }
}

/// The writes of each row, rows in the order of their first write.
fn by_row(writes: Vec<Write>) -> Vec<Vec<Write>> {
    let mut rows: Vec<Vec<Write>> = Vec::new();
    let mut places = HashMap::new();
    for write in writes {
        let place = *places.entry(row(&write)).or_insert(rows.len());
        match rows.get_mut(place) {
            Some(row) => row.push(write),
            None => rows.push(vec![write]),
        }
    }
    rows
}

fn row(write: &Write) -> [String; 3] {
    match write {
        Write::StateSet { scope, key, .. } | Write::StateDelete { scope, key } => {
            [String::new(), scope.clone(), key.clone()]
        }
        Write::StreamSet {
            stream, group, item, ..
        } => [stream.clone(), group.clone(), item.clone()],
    }
}

fn request(write: Write) -> (&'static str, Value) {
    match write {
        Write::StateSet { scope, key, value } => (
            "state::set",
            json!({ "scope": scope, "key": key, "value": Arc::unwrap_or_clone(value) }),
        ),
        Write::StateDelete { scope, key } => ("state::delete", json!({ "scope": scope, "key": key })),
        Write::StreamSet {
            stream,
            group,
            item,
            data,
        } => (
            "stream::set",
            json!({ "stream_name": stream, "group_id": group, "item_id": item, "data": Arc::unwrap_or_clone(data) }),
        ),
    }
}
