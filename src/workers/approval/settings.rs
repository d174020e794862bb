//! The settings record of a session as it is stored, and what it means (contract 03 §1.1).

use serde::Serialize;
use serde_json::{Value, json};

use crate::model::FunctionId;
use crate::model::api::approval::{Grant, Mode, Settings};

/// State scope of the records, by session id.
pub(super) const SCOPE: &str = "approval_settings";

/// Origin of every entry.
const USER_CLICK: &str = "user_click";

/// A record. The mode stays absent until somebody sets one, so that the session follows the default.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Record {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<Mode>,
    pub(super) always_allow: Vec<Grant>,
    pub(super) approved_always: Vec<Grant>,
    pub(super) mode_set_at: i64,
}

impl Record {
    /// Reads a stored value member by member; whatever does not fit counts as absent.
    pub(super) fn read(stored: &Value) -> Self {
        let member = |name| stored.get(name).unwrap_or(&Value::Null);
        Self {
            mode: member("mode").as_str().and_then(read_mode),
            always_allow: read_list(member("always_allow")),
            approved_always: read_list(member("approved_always")),
            mode_set_at: member("mode_set_at").as_i64().filter(|ms| *ms >= 0).unwrap_or(0),
        }
    }

    /// The settings in force.
    pub(super) fn settings(self, default_mode: Mode) -> Settings {
        Settings {
            mode: self.mode.unwrap_or(default_mode),
            always_allow: self.always_allow,
            approved_always: self.approved_always,
            mode_set_at: self.mode_set_at,
        }
    }
}

/// One of the three modes by name.
pub(super) fn read_mode(name: &str) -> Option<Mode> {
    match name {
        "manual" => Some(Mode::Manual),
        "auto" => Some(Mode::Auto),
        "full" => Some(Mode::Full),
        _ => None,
    }
}

/// Adds an id unless it is there; says whether it did.
pub(super) fn grant(list: &mut Vec<Grant>, function_id: &FunctionId, now_ms: i64) -> bool {
    let is_new = list.iter().all(|entry| entry.function_id != *function_id);
    if is_new {
        list.push(Grant {
            function_id: function_id.clone(),
            granted_at: now_ms.max(0),
            granted_by: USER_CLICK.into(),
        });
    }
    is_new
}

fn read_list(stored: &Value) -> Vec<Grant> {
    let entries = stored.as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().filter_map(read_grant).collect()
}

/// An entry that is not as we write it grants nothing.
fn read_grant(stored: &Value) -> Option<Grant> {
    let function_id = stored.get("function_id")?.as_str().filter(|id| !id.is_empty())?;
    let granted_at = stored.get("granted_at")?.as_i64().filter(|ms| *ms >= 0)?;
    (stored.get("granted_by") == Some(&json!(USER_CLICK))).then(|| Grant {
        function_id: function_id.into(),
        granted_at,
        granted_by: USER_CLICK.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn settings(stored: &Value, default_mode: Mode) -> Value {
        serde_json::to_value(Record::read(stored).settings(default_mode)).unwrap()
    }

    #[test]
    fn c03_case_21_a_partial_record_is_filled() {
        let list = json!([{"function_id": "f", "granted_at": 1, "granted_by": "user_click"}]);
        assert_eq!(
            settings(&json!({ "always_allow": list }), Mode::Manual),
            json!({"mode": "manual", "always_allow": list, "approved_always": [], "mode_set_at": 0})
        );
        assert_eq!(
            settings(
                &json!({"mode": "full", "approved_always": list, "mode_set_at": 5, "x": 1}),
                Mode::Auto
            ),
            json!({"mode": "full", "always_allow": [], "approved_always": list, "mode_set_at": 5})
        );
    }

    #[test]
    fn c03_case_22_garbage_means_defaults() {
        let empty = json!({"mode": "auto", "always_allow": [], "approved_always": [], "mode_set_at": 0});
        for stored in [
            json!("garbage"),
            json!(7),
            json!([]),
            json!({}),
            json!({"mode": "root", "always_allow": "x", "approved_always": {"function_id": "f"}, "mode_set_at": -1}),
            json!({"mode": ["full"], "mode_set_at": "1", "always_allow": [
                1, null, {}, {"function_id": "", "granted_at": 1, "granted_by": "user_click"},
                {"function_id": "f", "granted_at": -1, "granted_by": "user_click"},
                {"function_id": "f", "granted_at": 1, "granted_by": "agent"},
                {"function_id": 1, "granted_at": 1, "granted_by": "user_click"}]}),
        ] {
            assert_eq!(settings(&stored, Mode::Auto), empty);
        }
    }

    #[test]
    fn a_record_without_a_mode_follows_the_default() {
        let mut record = Record::default();
        assert!(grant(&mut record.always_allow, &"f".into(), 3));
        assert!(!grant(&mut record.always_allow, &"f".into(), 4));
        assert_eq!(
            serde_json::to_value(&record).unwrap(),
            json!({
                "always_allow": [{"function_id": "f", "granted_at": 3, "granted_by": "user_click"}],
                "approved_always": [], "mode_set_at": 0,
            })
        );
    }
}
