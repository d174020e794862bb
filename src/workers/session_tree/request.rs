//! Checks that hold for every caller, also for a typed one whose request was never JSON.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bus::{decode, dismantle};
use crate::error::{Error, Result};
use crate::model::SessionId;
use crate::model::api::session::check_session_id;

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

/// The error for an entry that is not there.
pub(super) fn entry_not_found(id: &str) -> Error {
    let shown: String = id.chars().take(SHOWN_CHARS).collect();
    Error::Invalid(format!("entry not found: {shown}"))
}
