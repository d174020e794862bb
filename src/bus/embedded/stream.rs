//! `stream::*` (contract 00 §5). There is no stream socket server here.

use std::sync::Arc;

use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::state::{parse_ops, reply};
use super::store::{Address, Change, Doc, Place, Write};
use super::stream_keeper::kept;
use super::{Builtin, Core, failed, input, input_and, with_code, write};
use crate::bus::{CallFuture, Invocation};

/// What the trigger type fires on.
pub(super) const TRIGGER: &str =
    "Fires when an item of a stream is created, updated or deleted, or an event is sent";

const PART: &str = "iii-stream";

pub(super) const FUNCTIONS: &[Builtin] = &[
    Builtin {
        id: "stream::set",
        description: "Set an item of a stream",
        part: PART,
        handler: |core, call| kept(core, call).unwrap_or_else(|call| set(core, call)),
    },
    Builtin {
        id: "stream::get",
        description: "Get an item of a stream",
        part: PART,
        handler: |core, call| kept(core, call).unwrap_or_else(|call| get(core, call)),
    },
    Builtin {
        id: "stream::delete",
        description: "Delete an item of a stream",
        part: PART,
        handler: |core, call| kept(core, call).unwrap_or_else(|call| delete(core, call)),
    },
    Builtin {
        id: "stream::update",
        description: "Apply update operations to an item of a stream",
        part: PART,
        handler: |core, call| kept(core, call).unwrap_or_else(|call| update(core, call)),
    },
    Builtin {
        id: "stream::list",
        description: "List the items of a group",
        part: PART,
        handler: |core, call| kept(core, call).unwrap_or_else(|call| list(core, call)),
    },
    Builtin {
        id: "stream::list_groups",
        description: "List the groups of a stream",
        part: PART,
        handler: |core, call| kept(core, call).unwrap_or_else(|call| list_groups(core, call)),
    },
    Builtin {
        id: "stream::list_all",
        description: "List all streams with their groups",
        part: PART,
        handler: list_all,
    },
    Builtin {
        id: "stream::send",
        description: "Send an event to the subscribers of a group without storing it",
        part: PART,
        handler: send,
    },
];

#[derive(Deserialize)]
struct At {
    stream_name: String,
    group_id: String,
    item_id: String,
}

impl At {
    fn address(self) -> Address {
        Address::stream(self.stream_name, self.group_id, self.item_id)
    }
}

fn set(core: &Arc<Core>, call: Invocation) -> CallFuture {
    let write = input_and::<At>("stream::set", call.payload, &["data"])
        .and_then(|(at, data)| {
            Ok((
                at,
                Doc::new(Arc::new(data)).map_err(with_code("STREAM_SET_ERROR"))?,
            ))
        })
        .map(|(at, doc)| Write {
            address: at.address(),
            change: Change::Set(Arc::new(doc)),
            old: true,
        });
    match write {
        Ok(write) => reply(
            write::write(core, vec![write], &call.context),
            "STREAM_SET_ERROR",
            write::old_and_new,
        ),
        Err(error) => failed(error),
    }
}

fn get(core: &Arc<Core>, call: Invocation) -> CallFuture {
    let at: At = match input("stream::get", call.payload) {
        Ok(at) => at,
        Err(error) => return failed(error),
    };
    let value = core.store.get(at.address());
    async move {
        let value = value
            .await
            .and_then(|doc| doc.map_or(Ok(Value::Null), Doc::into_value));
        value.map_err(with_code("STREAM_GET_ERROR"))
    }
    .boxed()
}

fn delete(core: &Arc<Core>, call: Invocation) -> CallFuture {
    let at: At = match input("stream::delete", call.payload) {
        Ok(at) => at,
        Err(error) => return failed(error),
    };
    let write = Write {
        address: at.address(),
        change: Change::Delete,
        old: true,
    };
    reply(
        write::write(core, vec![write], &call.context),
        "STREAM_DELETE_ERROR",
        |written| Ok(json!({ "old_value": write::owned(written.old)? })),
    )
}

#[derive(Deserialize)]
struct Update {
    #[serde(flatten)]
    at: At,
    ops: Vec<Value>,
}

fn update(core: &Arc<Core>, call: Invocation) -> CallFuture {
    let id = "stream::update";
    let decoded =
        input::<Update>(id, call.payload).and_then(|update| Ok((parse_ops(id, &update.ops)?, update.at)));
    let (ops, at) = match decoded {
        Ok(decoded) => decoded,
        Err(error) => return failed(error),
    };
    let write = Write {
        address: at.address(),
        change: Change::Update(ops),
        old: true,
    };
    reply(
        write::write(core, vec![write], &call.context),
        "STREAM_UPDATE_ERROR",
        write::old_and_new,
    )
}

#[derive(Deserialize)]
struct InGroup {
    stream_name: String,
    group_id: String,
}

fn list(core: &Arc<Core>, call: Invocation) -> CallFuture {
    let group: InGroup = match input("stream::list", call.payload) {
        Ok(group) => group,
        Err(error) => return failed(error),
    };
    let values = core.store.list(Place::stream(group.stream_name, group.group_id));
    async move {
        values
            .await
            .map(Value::Array)
            .map_err(with_code("STREAM_GET_GROUP_ERROR"))
    }
    .boxed()
}

#[derive(Deserialize)]
struct InStream {
    stream_name: String,
}

fn list_groups(core: &Arc<Core>, call: Invocation) -> CallFuture {
    let InStream { stream_name } = match input("stream::list_groups", call.payload) {
        Ok(stream) => stream,
        Err(error) => return failed(error),
    };
    let groups = core.store.stream_groups(stream_name);
    async move {
        groups
            .await
            .map(Value::from)
            .map_err(with_code("STREAM_LIST_GROUPS_ERROR"))
    }
    .boxed()
}

#[derive(Deserialize)]
struct Nothing {}

fn list_all(core: &Arc<Core>, call: Invocation) -> CallFuture {
    if let Err(error) = input::<Nothing>("stream::list_all", call.payload) {
        return failed(error);
    }
    let streams = core.store.streams();
    async move {
        let streams = streams.await.map_err(with_code("STREAM_LIST_ALL_ERROR"))?;
        let rows: Vec<_> = streams
            .into_iter()
            .map(|(id, groups)| json!({ "id": id, "groups": groups }))
            .collect();
        Ok(json!({ "count": rows.len(), "stream": rows }))
    }
    .boxed()
}

#[derive(Deserialize)]
struct Send {
    stream_name: String,
    group_id: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(rename = "type")]
    event_type: String,
}

fn send(core: &Arc<Core>, call: Invocation) -> CallFuture {
    let (send, data) = match input_and::<Send>("stream::send", call.payload, &["data"]) {
        Ok(decoded) => decoded,
        Err(error) => return failed(error),
    };
    let event = json!({ "type": "event", "event": { "type": send.event_type, "data": data } });
    let sent = write::send(
        core,
        (send.stream_name, send.group_id, send.id),
        event,
        &call.context,
    );
    async move {
        sent.await
            .map(|_| Value::Null)
            .map_err(with_code("STREAM_SEND_ERROR"))
    }
    .boxed()
}
