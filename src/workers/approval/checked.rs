//! Requests of functions that never reject an invocation: what is wrong becomes part of their answer.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::bus;
use crate::model::text::MAX_ID_BYTES;

/// A request that can be read from the members of a payload, or a short text for people that says what is wrong.
pub(super) trait Readable: Sized {
    /// Reads it; unknown members are ignored.
    fn read(members: &Map<String, Value>) -> Result<Self, String>;
}

/// A request, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checked<T>(pub(super) Result<T, String>);

impl<T: Readable> Checked<T> {
    /// Reads any payload.
    pub(super) fn of(payload: Value) -> Self {
        Self(match bus::decode::<Value>(payload, &[], false) {
            Ok(Value::Object(members)) => T::read(&members),
            Ok(_) => Err("the payload must be an object".into()),
            Err(error) => Err(error.to_string()),
        })
    }
}

impl<T: Serialize> Serialize for Checked<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().ok().serialize(serializer)
    }
}

impl<'de, T: Readable> Deserialize<'de> for Checked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::of)
    }
}

impl<T: JsonSchema> JsonSchema for Checked<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }
}

/// A member that must be a text with at least one character, and no longer than ids are.
pub(super) fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    let text = members
        .get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| format!("{name} must be a non-empty string"))?;
    if text.len() > MAX_ID_BYTES {
        return Err(format!("{name} is longer than {MAX_ID_BYTES} bytes"));
    }
    Ok(text)
}

/// A member that becomes part of a state key, in which `/` separates.
pub(super) fn key<'a>(members: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    let text = text(members, name)?;
    if text.contains('/') {
        return Err(format!("{name} must not contain \"/\""));
    }
    Ok(text)
}
