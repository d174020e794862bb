//! `state::*` (contract 00 §4).

use std::sync::Arc;

use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::store::{Address, Change, Doc, Pending, Place, Write, Written};
use super::{Builtin, Core, failed, input, input_and, ops, with_code, write};
use crate::bus::{CallFuture, Invocation};
use crate::error::{Error, Result};

/// What the trigger type fires on.
pub(super) const TRIGGER: &str = "Fires when a value of the state is created, updated or deleted";

const PART: &str = "iii-state";

pub(super) const FUNCTIONS: &[Builtin] = &[
    Builtin {
        id: "state::set",
        description: "Set a value in state",
        part: PART,
        handler: set,
    },
    Builtin {
        id: "state::get",
        description: "Get a value from state",
        part: PART,
        handler: get,
    },
    Builtin {
        id: "state::delete",
        description: "Delete a value from state",
        part: PART,
        handler: delete,
    },
    Builtin {
        id: "state::update",
        description: "Apply update operations to a value in state",
        part: PART,
        handler: update,
    },
    Builtin {
        id: "state::list",
        description: "List the values of a scope",
        part: PART,
        handler: list,
    },
    Builtin {
        id: "state::list_groups",
        description: "List the scopes of the state",
        part: PART,
        handler: list_groups,
    },
];

#[derive(Deserialize)]
struct At {
    scope: String,
    key: String,
}

impl At {
    fn address(self) -> Address {
        Address::state(self.scope, self.key)
    }
}

fn set(core: &Arc<Core>, call: Invocation) -> CallFuture {
    let write = input_and::<At>("state::set", call.payload, &["value", "data"])
        .and_then(|(at, value)| Ok((at, Doc::new(Arc::new(value)).map_err(with_code("SET_ERROR"))?)))
        .map(|(at, doc)| Write {
            address: at.address(),
            change: Change::Set(Arc::new(doc)),
            old: true,
        });
    match write {
        Ok(write) => reply(
            write::write(core, vec![write], &call.context),
            "SET_ERROR",
            write::old_and_new,
        ),
        Err(error) => failed(error),
    }
}

fn get(core: &Arc<Core>, call: Invocation) -> CallFuture {
    let at: At = match input("state::get", call.payload) {
        Ok(at) => at,
        Err(error) => return failed(error),
    };
    let value = core.store.get(at.address());
    async move {
        value
            .await
            .and_then(|doc| doc.map_or(Ok(Value::Null), Doc::into_value))
            .map_err(with_code("GET_ERROR"))
    }
    .boxed()
}

fn delete(core: &Arc<Core>, call: Invocation) -> CallFuture {
    let at: At = match input("state::delete", call.payload) {
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
        "DELETE_ERROR",
        |written| write::owned(written.old),
    )
}

#[derive(Deserialize)]
struct Update {
    scope: String,
    key: String,
    ops: Vec<Value>,
}

fn update(core: &Arc<Core>, call: Invocation) -> CallFuture {
    let id = "state::update";
    let decoded =
        input::<Update>(id, call.payload).and_then(|update| Ok((parse_ops(id, &update.ops)?, update)));
    let (ops, update) = match decoded {
        Ok(decoded) => decoded,
        Err(error) => return failed(error),
    };
    let write = Write {
        address: Address::state(update.scope, update.key),
        change: Change::Update(ops),
        old: true,
    };
    reply(
        write::write(core, vec![write], &call.context),
        "UPDATE_ERROR",
        write::old_and_new,
    )
}

#[derive(Deserialize)]
struct InScope {
    scope: String,
}

fn list(core: &Arc<Core>, call: Invocation) -> CallFuture {
    let InScope { scope } = match input("state::list", call.payload) {
        Ok(place) => place,
        Err(error) => return failed(error),
    };
    let values = core.store.list(Place::state(scope));
    async move { values.await.map(Value::Array).map_err(with_code("LIST_ERROR")) }.boxed()
}

#[derive(Deserialize)]
struct Nothing {}

fn list_groups(core: &Arc<Core>, call: Invocation) -> CallFuture {
    if let Err(error) = input::<Nothing>("state::list_groups", call.payload) {
        return failed(error);
    }
    let scopes = core.store.state_scopes();
    async move {
        scopes
            .await
            .map(|scopes| json!({ "groups": scopes }))
            .map_err(with_code("LIST_GROUPS_ERROR"))
    }
    .boxed()
}

/// Decodes the operations of an update; a malformed one refuses the whole request.
pub(super) fn parse_ops(function: &str, ops: &[Value]) -> Result<Vec<ops::Op>> {
    ops::parse(ops).map_err(|detail| Error::Undecodable {
        function: function.to_owned(),
        detail,
    })
}

/// The answer to a single write.
pub(super) fn reply(
    pending: Pending<Vec<Written>>,
    code: &'static str,
    view: fn(Written) -> Result<Value>,
) -> CallFuture {
    async move {
        let written = pending.await.and_then(|mut written| {
            let one = written
                .pop()
                .ok_or_else(|| Error::store("store", "no answer to the write"))?;
            view(one)
        });
        written.map_err(with_code(code))
    }
    .boxed()
}
