//! Configuration entries of all workers (contract 00 §7).
//!
//! Values, names and descriptions are on disk; schemas are not: their owner registers them in every life of the process,
//! and until then a value can be read but not set. Everything is also in memory, changed after COMMIT in commit order, so
//! that reads and event filters never wait. Values are kept as they were written; `${VAR:default}` is expanded on the way
//! out. Not here: secrets are not told apart, `configuration::get` answers everybody.

mod functions;
mod rows;
mod template;
mod trigger;
mod validation;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::store::Doc;
use super::trigger::Binding;
use super::{Core, carried, failed, queue, with_code};
use crate::bus::{CallContext, CallFuture};
use crate::config::Env;
use crate::error::{Error, Result};

use trigger::Change;
use validation::Schema;

pub(super) use functions::FUNCTIONS;
pub(super) use trigger::TRIGGER;

/// Code of every failure of the store.
const STORE_CODE: &str = "ADAPTER_ERROR";

/// All entries, and who wants to know of their changes.
#[derive(Default)]
pub(super) struct Configuration {
    entries: RwLock<BTreeMap<String, Entry>>,
    bindings: RwLock<Vec<Arc<Binding>>>,
}

/// One configuration.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    description: String,
    /// Absent until the owner registers it in this life of the process.
    schema: Option<Schema>,
    /// As it was written, with placeholders.
    value: Arc<Value>,
    metadata: Option<Value>,
}

/// Request of `configuration::register`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Registration {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) schema: Value,
    #[serde(default)]
    pub(super) initial_value: Option<Value>,
    #[serde(default)]
    pub(super) metadata: Option<Value>,
}

/// Values around a change.
type Values = (Arc<Value>, Arc<Value>);

impl Entry {
    /// As it is listed, without its value.
    fn row(&self, id: &str) -> Map<String, Value> {
        let mut row = Map::new();
        row.insert("id".into(), json!(id));
        row.insert("name".into(), json!(self.name));
        row.insert("description".into(), json!(self.description));
        row.insert(
            "schema".into(),
            self.schema
                .as_ref()
                .map_or(Value::Null, |schema| schema.raw().as_ref().clone()),
        );
        if let Some(metadata) = &self.metadata {
            row.insert("metadata".into(), metadata.clone());
        }
        row
    }

    /// With its value, as the owner gets it.
    fn whole(&self, id: &str) -> Value {
        let mut whole = self.row(id);
        let metadata = whole.shift_remove("metadata");
        whole.insert("value".into(), self.value.as_ref().clone());
        whole.extend(metadata.map(|metadata| ("metadata".to_owned(), metadata)));
        Value::Object(whole)
    }

    /// The same with an earlier value, if there is one.
    fn keeping(&self, value: Option<&Arc<Value>>) -> Self {
        Self {
            value: Arc::clone(value.unwrap_or(&self.value)),
            ..self.clone()
        }
    }

    fn stored(&self, id: &str) -> Result<rows::Row> {
        Ok(rows::Row {
            id: id.to_owned(),
            name: self.name.clone(),
            description: self.description.clone(),
            value: text(&self.value)?,
            metadata: self
                .metadata
                .as_ref()
                .map(|metadata| text(&Arc::new(metadata.clone())))
                .transpose()?,
        })
    }
}

/// The entry a registration asks for, and whether an earlier value stays.
fn checked(new: Registration, env: &dyn Env) -> Result<(Entry, bool)> {
    if !validation::is_id(&new.id) {
        let text = format!(
            "Invalid configuration id '{}': must match [a-z0-9_-]{{1,64}}",
            new.id
        );
        return Err(Error::coded("INVALID_ID", text));
    }
    let schema = Schema::compile(new.schema)?;
    let initial = new.initial_value.filter(|value| !value.is_null()).map(Arc::new);
    if let Some(initial) = &initial {
        schema.check(&template::expand(initial, env))?;
    }
    let keep = initial.is_none();
    let entry = Entry {
        name: new.name,
        description: new.description,
        schema: Some(schema),
        value: initial.unwrap_or_default(),
        metadata: new.metadata,
    };
    Ok((entry, keep))
}

/// JSON text that can be read back.
fn text(value: &Arc<Value>) -> Result<String> {
    Doc::new(Arc::clone(value))
        .map(|doc| doc.text().to_owned())
        .map_err(with_code(STORE_CODE))
}

impl Configuration {
    /// Reads what earlier lives left.
    pub(super) async fn start(&self, core: &Arc<Core>) -> Result<()> {
        for row in core.store.read(rows::all).await? {
            let value = parse(&row.id, &row.value)?;
            let metadata = row
                .metadata
                .as_deref()
                .map(|text| parse(&row.id, text))
                .transpose()?;
            let entry = Entry {
                name: row.name,
                description: row.description,
                schema: None,
                value: Arc::new(value),
                metadata,
            };
            self.write(|entries| entries.insert(row.id, entry));
        }
        Ok(())
    }

    /// Makes an entry, or takes over an existing one; without an initial value its value stays.
    pub(super) fn register(
        core: &Arc<Core>,
        registration: Registration,
        context: &CallContext,
    ) -> CallFuture {
        Self::submit_registration(core, registration, context).unwrap_or_else(failed)
    }

    fn submit_registration(core: &Arc<Core>, new: Registration, context: &CallContext) -> Result<CallFuture> {
        let id = new.id.clone();
        let (entry, keep) = checked(new, env(core)?.as_ref())?;
        let (row, answer_id, answer_entry) = (entry.stored(&id)?, id.clone(), entry.clone());
        let (hooked, context) = (Arc::clone(core), carried(context));
        let pending = core.store.transact_then(
            move |connection| {
                let before = rows::value(connection, &row.id)?;
                rows::upsert(connection, &row, keep)?;
                before.map(|text| parse(&row.id, &text).map(Arc::new)).transpose()
            },
            move |before: &Option<Arc<Value>>| {
                let event_type = if before.is_some() {
                    trigger::UPDATED
                } else {
                    trigger::REGISTERED
                };
                let change = Change {
                    event_type,
                    old: before.clone().unwrap_or_default(),
                    id,
                    entry: entry.keeping(before.as_ref().filter(|_| keep)),
                };
                hooked.configuration.changed(&hooked, change, context);
            },
        );
        let answer = async move {
            let before = pending.await.map_err(with_code(STORE_CODE))?;
            Ok(answer_entry
                .keeping(before.as_ref().filter(|_| keep))
                .whole(&answer_id))
        };
        Ok(answer.boxed())
    }

    /// Replaces the value of an entry, read and written in one transaction. `change` answers `None` to leave it as it is.
    pub(super) fn change(
        core: &Arc<Core>,
        id: &str,
        change: impl FnOnce(&Value) -> Option<Value> + Send + 'static,
        context: &CallContext,
    ) -> CallFuture<Option<Values>> {
        let (id, hooked, context) = (id.to_owned(), Arc::clone(core), carried(context));
        let row_id = id.clone();
        let pending = core.store.transact_then(
            move |connection| {
                let before = rows::value(connection, &row_id)?.ok_or_else(|| not_registered(&row_id))?;
                let before = Arc::new(parse(&row_id, &before)?);
                let Some(after) = change(&before).map(Arc::new) else {
                    return Ok(None);
                };
                rows::set(connection, &row_id, &text(&after)?)?;
                Ok(Some((before, after)))
            },
            move |values: &Option<Values>| {
                let entry = hooked.configuration.entry(&id);
                if let (Some((old, new)), Some(entry)) = (values, entry) {
                    let change = Change {
                        event_type: trigger::UPDATED,
                        old: Arc::clone(old),
                        id,
                        entry: entry.keeping(Some(new)),
                    };
                    hooked.configuration.changed(&hooked, change, context);
                }
            },
        );
        async move { pending.await.map_err(with_code(STORE_CODE)) }.boxed()
    }

    /// After COMMIT, in commit order: memory, our own queues, subscribers.
    fn changed(&self, core: &Arc<Core>, change: Change, context: CallContext) {
        self.write(|entries| entries.insert(change.id.clone(), change.entry.clone()));
        let Ok(env) = env(core) else { return };
        if change.id == queue::CONFIGURATION_ID {
            core.queues
                .declare(core, &template::expand(&change.entry.value, env.as_ref()).value);
        }
        self.fire(core, change, context, env);
    }

    fn entry(&self, id: &str) -> Option<Entry> {
        self.entries
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    fn write<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Entry>) -> T) -> T {
        change(&mut self.entries.write().unwrap_or_else(PoisonError::into_inner))
    }
}

fn env(core: &Core) -> Result<Arc<dyn Env>> {
    core.bus().map(|bus| Arc::clone(&bus.ports().env))
}

fn parse(id: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::store(format!("stored configuration {id}"), error))
}

fn not_registered(id: &str) -> Error {
    Error::coded(
        "NOT_REGISTERED",
        format!("Configuration '{id}' is not registered"),
    )
}
