//! `harness::fanout::agent_event_handler`: frames of stream `agent::events`, pushed to the browsers (contract 04 §3.1).
//!
//! What this process wrote itself was pushed when it was emitted; here those frames are only recognised and dropped.

use std::sync::Arc;

use serde_json::Value;

use super::Harness;
use crate::bus::{self, Cx, Function};
use crate::error::Result;
use crate::model::frame::StreamFrame;

/// `harness::fanout::agent_event_handler`.
#[derive(Debug)]
pub(super) struct AgentEventHandler;

impl Function for AgentEventHandler {
    const ID: &'static str = "harness::fanout::agent_event_handler";
    const DESCRIPTION: &'static str = "Internal: agent::events fanout handler.";
    type State = Harness;
    type Request = Value;
    type Response = ();

    fn decode(payload: Value) -> Result<Value> {
        // Never rejects: what the guard refuses is as good as nothing.
        Ok(bus::decode(payload, &[], false).unwrap_or_default())
    }

    async fn call(cx: &Cx<Harness>, frame: Value) -> Result<()> {
        if let Some((session, event)) = read(&frame, cx.bus().epoch()) {
            cx.state()
                .bridge
                .event(cx.bus(), &Arc::from(session), Arc::new(event));
        }
        Ok(())
    }
}

/// Session and event of a frame from elsewhere; `None` for our own and for what is no frame.
fn read(frame: &Value, epoch: &str) -> Option<(String, Value)> {
    let frame = StreamFrame::read(frame)?;
    if frame.item.is_some_and(|id| is_ours(id, frame.group, epoch)) {
        return None;
    }
    Some((frame.group.to_owned(), frame.data.cloned().unwrap_or_default()))
}

/// Item ids of this process are `<session>-<epoch>-<seq>`, or `<session>-<epoch>.<wake>-<seq>` (contract 01 §7).
fn is_ours(item: &str, session: &str, epoch: &str) -> bool {
    item.strip_prefix(session)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.strip_prefix(epoch))
        .is_some_and(|rest| rest.starts_with(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn c04_case_14_odd_frames() {
        for frame in [
            json!(null),
            json!("x"),
            json!({}),
            json!([1, 2]),
            json!({"groupId": "", "group_id": 3, "data": {"type": "y"}}),
        ] {
            assert_eq!(read(&frame, "e"), None);
        }
        let expected = Some(("s1".to_owned(), json!({"type": "y"})));
        for frame in [
            json!({"group_id": "s1", "data": {"type": "y"}}),
            json!({"groupId": "s1", "group_id": "other", "id": "i-1", "event": {"type": "create", "data": {"type": "y"}}}),
            json!({"groupId": "s1", "id": null, "event": {"type": "delete", "data": {"type": "y"}}, "data": 1}),
            json!({"groupId": 1, "group_id": "s1", "event": {"type": "event"}, "data": {"type": "y"}}),
        ] {
            assert_eq!(read(&frame, "e"), expected);
        }
        assert_eq!(
            read(&json!({"groupId": "s1", "event": "text"}), "e"),
            Some(("s1".to_owned(), Value::Null))
        );
    }

    #[test]
    fn own_frames_are_told_apart_by_the_epoch() {
        for (id, ours) in [
            ("s-1-e1-00000000", true),
            ("s-1-e1.0002-00000007", true),
            ("s-1-e10-00000000", false),
            ("s-1-e2-00000000", false),
            ("s-1", false),
            ("", false),
            ("s-2-e1-00000000", false),
        ] {
            assert_eq!(is_ours(id, "s-1", "e1"), ours, "{id}");
        }
    }
}
