//! Whether a session is at work, as the turn machine tells.

use serde_json::json;

use super::sessions::Sessions;
use crate::bus::{CallOptions, Cx};
use crate::error::{Error, Result};
use crate::model::{SessionId, TurnStateView};

const STATE_MS: u64 = 5_000;

/// Refuses what must not happen to a session whose run is not over. Without a turn machine nobody is at work.
pub(super) async fn check(cx: &Cx<Sessions>, session: &SessionId, refused: &str) -> Result<()> {
    let request = json!({ "session_id": session });
    let options = CallOptions::timeout_ms(STATE_MS);
    let view = match cx.invoke("turn::get_state", request, options).await {
        Err(error) if error.is_function_not_found() => return Ok(()),
        view => view?,
    };
    let view: Option<TurnStateView> =
        serde_json::from_value(view).map_err(|why| Error::Unavailable(format!("turn::get_state: {why}")))?;
    if view.is_some_and(|view| !view.state.is_terminal()) {
        return Err(Error::Transient(format!(
            "session {session} is at work: {refused}"
        )));
    }
    Ok(())
}
