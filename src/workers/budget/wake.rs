//! Wakes the runs that rest because of a budget, when a budget was changed by hand (field lesson B7).
//!
//! Which budget they wait for is not compared: it may be one above. They ask again, and rest again when nothing changed for
//! them. What time or other runs release they find by themselves.

use serde_json::{Value, json};

use super::Budgets;
use crate::bus::{CallContext, Cx};

/// Takes a resting run up again; harmless for every other one.
const GO_ON: &str = "turn::assistant_streaming";

/// State scope of the turns, by session.
const TURNS: &str = "turn_state";

/// A budget was changed in a way that may let a run go on.
pub(super) fn changed(cx: &Cx<Budgets>) {
    let cx = cx.with_context(CallContext::default());
    let bus = cx.bus().clone();
    bus.spawn(async move {
        match cx.scope(TURNS).list().await {
            Ok(turns) => {
                for session_id in turns.iter().filter_map(resting_session) {
                    let request = json!({ "session_id": session_id });
                    cx.bus().notify(cx.context(), GO_ON, request);
                }
            }
            Err(error) => tracing::warn!(%error, "runs that wait for a budget are not woken; they look again by themselves"),
        }
    });
}

fn resting_session(turn: &Value) -> Option<&str> {
    turn.get("budget_wait")
        .filter(|wait| wait.is_object())
        .and_then(|_| turn.get("session_id")?.as_str())
}
