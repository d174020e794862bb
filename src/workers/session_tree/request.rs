//! Checks that hold for every caller, also for a typed one whose request was never JSON.

use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

use crate::bus::{decode, dismantle};
use crate::error::{Error, Result};
use crate::model::SessionId;
use crate::model::api::session::{MAX_STORED_DEPTH, check_session_id};
use crate::model::measure::measure;

/// Longest part of a foreign id that an error text repeats, in characters.
const SHOWN_CHARS: usize = 256;

/// Reads a payload; what is no object counts as `{}`.
pub(super) fn read<T: DeserializeOwned + 'static>(payload: Value, required: &[&str]) -> Result<T> {
    match payload {
        payload @ Value::Object(_) => decode(payload, required, false),
        other => {
            dismantle(other);
            decode(Value::Object(serde_json::Map::new()), required, false)
        }
    }
}

/// Checks a session id.
pub(super) fn session(id: &SessionId) -> Result<()> {
    check_session_id(id).map_err(Error::Invalid)
}

/// Checks the id of a session that is to be copied.
pub(super) fn source(id: &SessionId) -> Result<()> {
    text("source_session_id", id)?;
    session(id)
}

/// Checks a text that must be there, for callers whose request was never JSON.
pub(super) fn text(name: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::Invalid(format!("missing required string field: {name}")));
    }
    Ok(())
}

/// Checks that a value can be stored and read again.
pub(super) fn depth(name: &str, value: &Value) -> Result<()> {
    if measure(value).depth > MAX_STORED_DEPTH {
        return Err(Error::Invalid(format!(
            "invalid {name}: nested deeper than {MAX_STORED_DEPTH} levels"
        )));
    }
    Ok(())
}

/// The error for an entry that is not there.
pub(super) fn entry_not_found(id: &str) -> Error {
    Error::Invalid(format!("entry not found: {}", shown(id)))
}

/// The error for a session that is not there.
pub(super) fn session_not_found(id: &str) -> Error {
    Error::Invalid(format!("session not found: {}", shown(id)))
}

fn shown(id: &str) -> String {
    id.chars().take(SHOWN_CHARS).collect()
}

/// A number as a count: rounded down, at least 0.
pub(super) fn whole(number: Option<&Number>) -> Option<usize> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates at 0 and at the largest count, which is what is wanted"
    )]
    number?.as_f64().map(|number| number as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn numbers_are_rounded_down_and_kept_at_zero() {
        let read = |value: Value| whole(value.as_number());
        assert_eq!(read(json!(2.9)), Some(2));
        assert_eq!(read(json!(-3)), Some(0));
        assert_eq!(read(json!(-0.5)), Some(0));
        assert_eq!(read(json!(1e300)), Some(usize::MAX));
        assert_eq!(read(json!("5")), None);
        assert_eq!(read(Value::Null), None);
    }
}
