//! `harness::fanout::session_created`: sessions that come and go, told to the all-sessions browsers (contract 04 §3.2).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Harness;
use crate::bus::{self, Cx, Function};
use crate::error::Result;

/// `harness::fanout::session_created`.
#[derive(Debug)]
pub(super) struct SessionCreated;

/// What a state event says about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
enum News {
    Created(String),
    Deleted { session: String, calls: Vec<String> },
}

impl Function for SessionCreated {
    const ID: &'static str = "harness::fanout::session_created";
    const DESCRIPTION: &'static str =
        "Internal: fans out a newly-created session id to ui::sessions::changed::<browser_id>.";
    type State = Harness;
    type Request = Value;
    type Response = ();

    fn decode(payload: Value) -> Result<Value> {
        // Never rejects: what the guard refuses is as good as nothing.
        Ok(bus::decode(payload, &[], false).unwrap_or_default())
    }

    async fn call(cx: &Cx<Harness>, event: Value) -> Result<()> {
        let bridge = &cx.state().bridge;
        match read(&event) {
            Some(News::Created(session)) => bridge.session_created(cx.bus(), &Arc::from(session)),
            Some(News::Deleted { session, calls }) => {
                bridge.session_deleted(cx.bus(), &Arc::from(session.as_str()));
                // Settings and decisions end with their session (contract 03 weakness 15).
                let gone = json!({ "session_id": session, "function_call_ids": calls });
                cx.bus().notify(cx.context(), "approval::clear_settings", gone);
            }
            None => {}
        }
        Ok(())
    }
}

fn read(event: &Value) -> Option<News> {
    let session = event.get("key")?.as_str().filter(|key| !key.is_empty())?;
    match event.get("event_type")?.as_str()? {
        "state:created" => Some(News::Created(session.to_owned())),
        // The engine also reports the deletion of keys that were not there.
        "state:deleted" => {
            let record = event.get("old_value").filter(|old| !old.is_null())?;
            Some(News::Deleted {
                session: session.to_owned(),
                calls: calls(record),
            })
        }
        _ => None,
    }
}

/// The calls that a turn record knows: those that wait, those at work, and those of the last batch.
fn calls(record: &Value) -> Vec<String> {
    let rows = |place| {
        record
            .pointer(place)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let waiting = rows("/awaiting_approval").map(|call| call.get("function_call_id"));
    let at_work = rows("/work/prepared").map(|prepared| prepared.pointer("/call/id"));
    let ended = rows("/function_results").map(|result| result.get("function_call_id"));
    let ids: BTreeSet<&str> = waiting
        .chain(at_work)
        .chain(ended)
        .filter_map(|id| id?.as_str())
        .collect();
    ids.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn c04_case_19_only_creations_and_real_deletions_count() {
        let created = json!({"type": "state", "event_type": "state:created", "scope": "turn_state", "key": "s9",
                             "old_value": null, "new_value": {}});
        assert_eq!(read(&created), Some(News::Created("s9".into())));
        let deleted =
            json!({"event_type": "state:deleted", "key": "s9", "old_value": {"a": 1}, "new_value": null});
        let gone = |calls: &[&str]| News::Deleted {
            session: "s9".into(),
            calls: calls.iter().map(|id| (*id).to_owned()).collect(),
        };
        assert_eq!(read(&deleted), Some(gone(&[])));
        let record = json!({
            "awaiting_approval": [{"function_call_id": "b"}],
            "work": {"prepared": [{"route": "dispatch", "call": {"id": "b"}}, {"route": "dispatch", "call": {"id": "a"}}]},
            "function_results": [{"function_call_id": "c"}, 7],
        });
        let deleted = json!({"event_type": "state:deleted", "key": "s9", "old_value": record});
        assert_eq!(read(&deleted), Some(gone(&["a", "b", "c"])));
        for event in [
            json!(null),
            json!("state:created"),
            json!({"event_type": "state:updated", "key": "s9", "old_value": {}, "new_value": {}}),
            json!({"event_type": "state:deleted", "key": "s9", "old_value": null}),
            json!({"event_type": "state:created"}),
            json!({"event_type": "state:created", "key": ""}),
            json!({"event_type": "state:created", "key": 9}),
        ] {
            assert_eq!(read(&event), None);
        }
    }
}
