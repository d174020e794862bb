//! `configuration::*` (contract 00 §7).

use std::sync::{Arc, PoisonError};

use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Configuration, Registration, env, not_registered, template};
use crate::bus::embedded::{Builtin, Core, answer, failed, input, input_and};
use crate::bus::{CallFuture, Invocation};
use crate::error::{Error, Result};
use crate::model::lenient;

const PART: &str = "iii-configuration";

pub(in crate::bus::embedded) const FUNCTIONS: &[Builtin] = &[
    Builtin {
        id: "configuration::register",
        description: "Register a configuration with its schema",
        part: PART,
        handler: register,
    },
    Builtin {
        id: "configuration::set",
        description: "Replace the value of a configuration",
        part: PART,
        handler: |core, call| set(core, call).unwrap_or_else(failed),
    },
    Builtin {
        id: "configuration::get",
        description: "Get the value of a configuration",
        part: PART,
        handler: |core, call| answer(get(core, call)),
    },
    Builtin {
        id: "configuration::list",
        description: "List the configurations",
        part: PART,
        handler: |core, _| answer(Ok(list(core))),
    },
    Builtin {
        id: "configuration::schema",
        description: "Describe a configuration",
        part: PART,
        handler: |core, call| answer(schema(core, call)),
    },
];

fn register(core: &Arc<Core>, call: Invocation) -> CallFuture {
    match input::<Registration>("configuration::register", call.payload) {
        Ok(registration) => Configuration::register(core, registration, &call.context),
        Err(error) => failed(error),
    }
}

#[derive(Deserialize)]
struct Named {
    id: String,
    #[serde(default, deserialize_with = "lenient::optional")]
    raw: Option<bool>,
}

fn set(core: &Arc<Core>, call: Invocation) -> Result<CallFuture> {
    let (Named { id, .. }, value) = input_and::<Named>("configuration::set", call.payload, &["value"])?;
    let entry = core.configuration.entry(&id).ok_or_else(|| not_registered(&id))?;
    let schema = entry.schema.ok_or_else(|| {
        Error::coded(
            "SCHEMA_UNAVAILABLE",
            format!("Configuration '{id}': its owner has not registered the schema yet"),
        )
    })?;
    schema.check(&template::expand(&value, env(core)?.as_ref()))?;
    let changed = Configuration::change(core, &id, move |_| Some(value), &call.context);
    let answer = async move {
        let (old, new) = changed.await?.unwrap_or_default();
        Ok(json!({ "old_value": *old, "new_value": *new }))
    };
    Ok(answer.boxed())
}

fn get(core: &Arc<Core>, call: Invocation) -> Result<Value> {
    let Named { id, raw } = input("configuration::get", call.payload)?;
    let entry = core.configuration.entry(&id).ok_or_else(|| not_found(&id))?;
    if raw.unwrap_or(false) {
        return Ok(json!({ "id": id, "value": *entry.value }));
    }
    let expanded = template::expand(&entry.value, env(core)?.as_ref());
    if let Some((place, variable)) = expanded.missing.first() {
        return Err(Error::coded(
            "EXPAND_FAILED",
            format!("Configuration '{id}': variable '{variable}' at '{place}' is not set and has no default"),
        ));
    }
    Ok(json!({ "id": id, "value": expanded.value }))
}

fn list(core: &Arc<Core>) -> Value {
    let entries = core
        .configuration
        .entries
        .read()
        .unwrap_or_else(PoisonError::into_inner);
    let rows: Vec<Value> = entries
        .iter()
        .map(|(id, entry)| Value::Object(entry.row(id)))
        .collect();
    json!({ "configurations": rows })
}

fn schema(core: &Arc<Core>, call: Invocation) -> Result<Value> {
    let Named { id, .. } = input("configuration::schema", call.payload)?;
    let entry = core.configuration.entry(&id).ok_or_else(|| not_found(&id))?;
    Ok(Value::Object(entry.row(&id)))
}

fn not_found(id: &str) -> Error {
    Error::coded("NOT_FOUND", format!("Configuration '{id}' not found"))
}
