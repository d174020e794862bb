//! Typed view of one state scope (contract 00 §4, 01 §8.4). Strict: a failed read is an error, never "absent".

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::context::{CallContext, CallOptions};
use super::{Bus, to_json};
use crate::error::{Error, Result};

/// One scope of the engine's state.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    bus: &'a Bus,
    context: &'a CallContext,
    name: &'a str,
}

impl<'a> Scope<'a> {
    pub(super) fn new(bus: &'a Bus, context: &'a CallContext, name: &'a str) -> Self {
        Self { bus, context, name }
    }

    /// The value of a key; absent and `null` are the same.
    pub async fn get(&self, key: &str) -> Result<Option<Value>> {
        let value = self
            .invoke("state::get", json!({ "scope": self.name, "key": key }))
            .await?;
        Ok(if value.is_null() { None } else { Some(value) })
    }

    /// The value of a key as a type; a stored value that does not fit is an error.
    pub async fn get_as<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.get(key).await? else {
            return Ok(None);
        };
        serde_path_to_error::deserialize(value)
            .map(Some)
            .map_err(|error| Error::store(format!("state {}/{key}", self.name), error))
    }

    /// Replaces the value of a key; answers the old one.
    pub async fn set<T: Serialize>(&self, key: &str, value: &T) -> Result<Option<Value>> {
        let request = json!({ "scope": self.name, "key": key, "value": to_json(value)? });
        let mut reply = self.invoke("state::set", request).await?;
        Ok(reply
            .get_mut("old_value")
            .map(Value::take)
            .filter(|old| !old.is_null()))
    }

    /// Removes a key; answers what it held.
    pub async fn delete(&self, key: &str) -> Result<Option<Value>> {
        let value = self
            .invoke("state::delete", json!({ "scope": self.name, "key": key }))
            .await?;
        Ok(if value.is_null() { None } else { Some(value) })
    }

    /// All values, without their keys, in first-insertion order. Rows wrapped as `{value: …}` are accepted.
    pub async fn list(&self) -> Result<Vec<Value>> {
        let rows = self.invoke("state::list", json!({ "scope": self.name })).await?;
        let Value::Array(rows) = rows else {
            return Err(Error::store(
                format!("state::list {}", self.name),
                "the answer is not an array",
            ));
        };
        Ok(rows.into_iter().map(unwrap_row).collect())
    }

    /// Applies update operations atomically; answers the whole reply. An operation that failed is an error here.
    pub async fn update(&self, key: &str, ops: Value) -> Result<Value> {
        let request = json!({ "scope": self.name, "key": key, "ops": ops });
        let reply = self.invoke("state::update", request).await?;
        match reply
            .get("errors")
            .and_then(Value::as_array)
            .and_then(|errors| errors.first())
        {
            None => Ok(reply),
            Some(error) => Err(Error::store(format!("state::update {}/{key}", self.name), error)),
        }
    }

    async fn invoke(&self, id: &str, payload: Value) -> Result<Value> {
        let reply = self
            .bus
            .invoke(self.context, id, payload, CallOptions::default())
            .await;
        reply.map_err(|error| error.of_store(format!("{id} {}", self.name)))
    }
}

/// Some stores answer rows as `{value: …}`.
fn unwrap_row(row: Value) -> Value {
    match row {
        Value::Object(mut object) if object.len() == 1 && object.contains_key("value") => {
            object.remove("value").unwrap_or_default()
        }
        row => row,
    }
}
