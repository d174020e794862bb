//! `turn::on_approval`: a decision was written; wake the session it belongs to (contract 02 §6.3).

use serde_json::Value;

use super::actor::Input;
use super::record::{APPROVALS, Decision};
use super::{Turns, abort};
use crate::bus::{self, Cx, Function};
use crate::error::Result;
use crate::model::SessionId;

/// `turn::on_approval`.
#[derive(Debug)]
pub(super) struct OnApproval;

impl Function for OnApproval {
    const ID: &'static str = "turn::on_approval";
    const DESCRIPTION: &'static str = "State trigger on scope=approvals; enqueues turn::function_awaiting_approval when a decision is written.";
    type State = Turns;
    type Request = Value;
    type Response = ();

    fn decode(payload: Value) -> Result<Value> {
        // Never rejects: what the guard refuses is as good as nothing.
        Ok(bus::decode(payload, &[], false).unwrap_or_default())
    }

    async fn call(cx: &Cx<Turns>, event: Value) -> Result<()> {
        match woken(&event) {
            Some((session, None)) => cx.state().actors.submit(cx, &session, Input::Resume),
            // What is stored counts, not what an event says of it.
            Some((session, Some(_))) => {
                let row = cx.scope(APPROVALS).get(&session).await?;
                if let Some(run) = row.as_ref().and_then(abort::run_of) {
                    abort::wake(cx, &session, run);
                }
            }
            None => {}
        }
        Ok(())
    }
}

/// The session a decision event belongs to (it looks at the stored decisions by itself), and the run when it is a wish to stop one; `None` for everything else.
fn woken(event: &Value) -> Option<(SessionId, Option<String>)> {
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    if !matches!(text("event_type"), Some("state:created" | "state:updated")) {
        return None;
    }
    if event.get("scope").is_some_and(|scope| scope != APPROVALS) {
        return None;
    }
    let value = event.get("new_value")?;
    Decision::read(Some(value.clone()))?;
    let key = text("key")?;
    match key.split_once('/') {
        Some((session, call)) => {
            (!session.is_empty() && !call.is_empty() && !call.contains('/')).then(|| (session.into(), None))
        }
        None => abort::run_of(value).map(|run| (key.into(), Some(run))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn c02_case_29_only_decisions_wake() {
        let event = |event_type: &str, key: &str, value: Value| json!({ "event_type": event_type, "scope": "approvals", "key": key, "new_value": value });
        let allow = json!({ "decision": "allow" });
        for event_type in ["state:created", "state:updated"] {
            assert_eq!(
                woken(&event(event_type, "s1/C", allow.clone())),
                Some(("s1".into(), None))
            );
        }
        let stop = json!({ "decision": "aborted", "run_id": "r" });
        assert_eq!(
            woken(&event("state:created", "s1", stop)),
            Some(("s1".into(), Some("r".into())))
        );
        for nothing in [
            event("state:created", "s1/C", json!({ "reason": "x" })),
            event("state:created", "s1", allow.clone()),
            event("state:created", "a/b/c", allow.clone()),
            event("state:created", "/c", allow.clone()),
            event("state:created", "s/", allow.clone()),
            event("state:deleted", "s1/C", Value::Null),
            json!({ "event_type": "state:created", "scope": "other", "key": "s1/C", "new_value": allow }),
            json!("text"),
            Value::Null,
        ] {
            assert_eq!(woken(&nothing), None, "{nothing}");
        }
    }
}
