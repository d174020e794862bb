//! What the functions `turn::<state>` take and answer, and how they reach the session's actor (contract 02 §2.1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::actor::Input;
use super::{Turns, start};
use crate::bus::{Cx, Function};
use crate::error::{Error, Result};
use crate::model::{SessionId, TurnState};

/// Request of the step functions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct StepRequest {
    /// The session.
    pub(super) session_id: SessionId,
}

/// Response of the step functions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct StepReply {
    /// Always true: a failed step is an error or a transition to `failed`.
    pub(super) ok: bool,
    /// True when nothing was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) skipped: Option<bool>,
    /// `stale`: the session is in another state; `running`: its step is under way or about to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// State before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from_state: Option<TurnState>,
    /// State after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to_state: Option<TurnState>,
}

impl StepReply {
    pub(super) fn skipped(reason: &str) -> Self {
        Self {
            ok: true,
            skipped: Some(true),
            reason: Some(reason.to_owned()),
            ..Self::default()
        }
    }

    pub(super) fn done(from: TurnState, to: TurnState) -> Self {
        Self {
            ok: true,
            from_state: Some(from),
            to_state: Some(to),
            ..Self::default()
        }
    }
}

/// The handler of every step function: one input of the session's actor.
pub(super) async fn run<F>(cx: &Cx<Turns>, session: SessionId, state: TurnState) -> Result<StepReply>
where
    F: Function<State = Turns>,
{
    debug_assert!(
        F::ID.ends_with(state.as_str()),
        "{} runs {}",
        F::ID,
        state.as_str()
    );
    start::check_session_id(&session)?;
    let (reply, answer) = oneshot::channel();
    cx.state()
        .actors
        .submit(cx, &session, Input::Step { state, reply });
    answer.await.unwrap_or(Err(Error::Stopped))
}
