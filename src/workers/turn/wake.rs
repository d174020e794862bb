//! The optional second wake of a step over a named queue, `turn.wake_queue` (contract 02 §1.2).

use std::time::Duration;

use serde_json::json;

use super::session::Session;
use crate::model::TurnState;

const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);

/// Enqueues a hand-over to the step of a state. The actor goes on by itself and does not wait for this; the queued wake
/// is answered as stale when it is already further. A queue that does not take it is reported, never fatal.
pub(super) fn hand_over(session: &Session, to: TurnState) {
    let steppable = !to.is_terminal() && to != TurnState::FunctionAwaitingApproval;
    let Some(queue) = session.cx.config().turn.wake_queue.clone().filter(|_| steppable) else {
        return;
    };
    let (cx, id) = (session.cx.clone(), session.id.clone());
    session.cx.spawn(async move {
        let function = format!("turn::{}", to.as_str());
        let payload = json!({ "session_id": id });
        for attempt in 1..=ATTEMPTS {
            match cx
                .bus()
                .enqueue(cx.context(), &queue, &function, payload.clone())
                .await
            {
                Ok(_) => return,
                Err(error) => tracing::warn!(session_id = %id, queue, attempt, %error, "wake not enqueued"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
}
