//! Deserialisers for members that the contract treats leniently.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

/// A member of the wrong type counts as absent instead of failing the call (contract 01 §8.3, 06 conventions).
///
/// Use with `#[serde(default, deserialize_with = "lenient::optional")]`.
pub fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let value = Value::deserialize(deserializer)?;
    Ok(if value.is_null() {
        None
    } else {
        serde_json::from_value(value).ok()
    })
}

/// Like [`optional`], with the type's default for what is absent or wrong.
pub fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Ok(optional(deserializer)?.unwrap_or_default())
}

/// A member that is present, `null` included, becomes `Some`; use with `#[serde(default)]`, so that an absent one
/// stays `None`. It tells "absent" from "null".
pub fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}
