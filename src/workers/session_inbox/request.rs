//! Checks that hold for every caller, also for a typed one whose request was never JSON.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::api::session::{MAX_STORED_DEPTH, check_session_id};
use crate::model::measure::measure;

/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// What every function needs, in the order in which it is asked for.
pub(super) const REQUIRED: &[&str] = &["name", "session_id"];

/// The state key of a queue, `<session_id>/<name>`. Without `/` in the name no two queues share a key
/// (contract 06 weakness 12).
pub(super) fn key(session_id: &str, name: &str) -> Result<String> {
    if name.is_empty() {
        return Err(Error::missing_string("name"));
    }
    session(session_id)?;
    if name.contains('/') {
        return Err(Error::invalid("invalid name: must not contain \"/\""));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Error::invalid(format!(
            "invalid name: longer than {MAX_NAME_BYTES} bytes"
        )));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid("invalid name: contains a control character"));
    }
    Ok(format!("{session_id}/{name}"))
}

/// Checks a session id.
pub(super) fn session(id: &str) -> Result<()> {
    check_session_id(id).map_err(Error::Invalid)
}

/// Refuses an item that could be stored but never read again.
pub(super) fn item(item: &Value) -> Result<()> {
    if measure(item).depth > MAX_STORED_DEPTH {
        return Err(Error::invalid(format!(
            "invalid item: nested deeper than {MAX_STORED_DEPTH} levels"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn no_two_queues_share_a_key() {
        assert_eq!(key("s", "steering").unwrap(), "s/steering");
        assert_eq!(key("a/b", "c").unwrap(), "a/b/c");
        let refusal = |session: &str, name: &str| key(session, name).unwrap_err().to_string();
        assert_eq!(refusal("a", "b/c"), "invalid name: must not contain \"/\"");
        assert_eq!(refusal("", ""), "missing required string field: name");
        assert_eq!(refusal("", "n"), "missing required string field: session_id");
        assert_eq!(
            refusal("s", "a\u{7}"),
            "invalid name: contains a control character"
        );
        assert_eq!(
            refusal("s", &"n".repeat(257)),
            "invalid name: longer than 256 bytes"
        );
        assert_eq!(
            refusal(&"s".repeat(257), "n"),
            "invalid session_id: longer than 256 bytes"
        );
    }

    #[test]
    fn an_item_too_deep_to_be_read_again_is_refused() {
        let nested = |levels: usize| (1..levels).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(item(&nested(MAX_STORED_DEPTH)), Ok(()));
        let refusal = item(&nested(MAX_STORED_DEPTH + 1)).unwrap_err().to_string();
        assert_eq!(refusal, "invalid item: nested deeper than 120 levels");
    }
}
