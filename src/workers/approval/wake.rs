//! Wakes sessions whose waiting calls may be allowed now (contract 03 weakness 3).

use serde_json::{Value, json};

use super::State;
use crate::bus::{CallContext, Cx};
use crate::error::Result;
use crate::model::SessionId;
use crate::model::api::approval::{Mode, Settings};

/// Looks again at the calls that wait for approval in a session (contract 02 §6.3); harmless when there are none.
const LOOK_AGAIN: &str = "turn::function_awaiting_approval";

/// State scope of the turns, by session.
const TURNS: &str = "turn_state";

/// The settings of a session are now these.
pub(super) fn settings_changed(cx: &Cx<State>, session_id: &SessionId, settings: &Settings) {
    if settings.mode != Mode::Manual || !settings.approved_always.is_empty() {
        look_again(cx, session_id);
    }
}

/// The default mode is now this one: it holds for every session that never chose one.
///
/// # Errors
/// Nobody was woken, because the sessions could not be read.
pub(super) async fn default_changed(cx: &Cx<State>, mode: Mode) -> Result<()> {
    if mode == Mode::Manual {
        return Ok(());
    }
    let turns = cx.scope(TURNS).list().await?;
    for session_id in turns.iter().filter_map(waiting_session) {
        look_again(cx, &session_id.into());
    }
    Ok(())
}

fn waiting_session(turn: &Value) -> Option<&str> {
    let waits = turn
        .get("state")
        .is_some_and(|state| state == "function_awaiting_approval");
    waits.then(|| turn.get("session_id")?.as_str()).flatten()
}

fn look_again(cx: &Cx<State>, session_id: &SessionId) {
    // The caller's metadata and cancel token are none of the turn's business.
    let context = CallContext {
        baggage: cx.context().baggage.clone(),
        traceparent: cx.context().traceparent.clone(),
        ..CallContext::default()
    };
    cx.bus()
        .notify(&context, LOOK_AGAIN, json!({ "session_id": session_id }));
}
