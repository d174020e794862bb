//! `run::abort`: stop a session's run, whatever it is doing (contract 02 §3.1). One id beyond the 86.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Turns;
use super::actor::Input;
use super::record::{APPROVALS, TurnRecord};
use super::session::Session;
use super::start::check_session_id;
use super::stop::{Answer, Ask};
use crate::bus::{Cx, Function, Write};
use crate::error::{Error, Result};
use crate::model::{SessionId, TurnState};

/// How often the process that has a run in hand looks for such a wish by itself; the state trigger is faster.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// `run::abort`.
#[derive(Debug)]
pub(super) struct Abort;

/// Request of `run::abort`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// The session.
    pub(super) session_id: SessionId,
}

/// Response of `run::abort`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// The session.
    pub(super) session_id: SessionId,
    /// Whether a run is stopped by this; false when there is none.
    pub(super) aborted: bool,
    /// The state at that moment; null for an unknown session.
    pub(super) state: Option<TurnState>,
}

impl Function for Abort {
    const ID: &'static str = "run::abort";
    const DESCRIPTION: &'static str = "Stop the current run of a session.";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    const CLIENT: bool = true;
    type State = Turns;
    type Request = Request;
    type Response = Response;

    async fn call(cx: &Cx<Turns>, request: Request) -> Result<Response> {
        check_session_id(&request.session_id)?;
        let (reply, answer) = oneshot::channel();
        let ask = Ask {
            run: None,
            reply: Some(reply),
        };
        cx.state()
            .actors
            .submit(cx, &request.session_id, Input::Abort(ask));
        let Answer { aborted, state } = answer.await.unwrap_or(Err(Error::Stopped))?;
        Ok(Response {
            session_id: request.session_id,
            aborted,
            state,
        })
    }
}

/// The run that a stored wish is about. Wishes stand beside the decisions on single calls, in the same scope, under the
/// session's bare id: `{decision: "aborted", run_id}`.
pub(super) fn run_of(row: &Value) -> Option<String> {
    row.get("run_id").and_then(Value::as_str).map(str::to_owned)
}

/// Leaves the wish in state, for the process that has the run in hand: it is woken as by a decision, and whoever takes the
/// session over finds the row. A wish that came from there is not written again: it would wake this process for ever.
pub(super) async fn forward(session: &Session, record: &TurnRecord) -> Result<Answer> {
    if session.stop.is_waited_for() {
        let row = json!({ "decision": "aborted", "reason": null, "run_id": record.run() });
        session.cx.scope(APPROVALS).set(&session.id, &row).await?;
    }
    Ok(Answer {
        aborted: true,
        state: Some(record.state),
    })
}

/// The write that removes a wish once it is fulfilled.
pub(super) fn used_wish(session: &SessionId) -> Write {
    Write::StateDelete {
        scope: APPROVALS.into(),
        key: session.to_string(),
    }
}

/// Looks for a wish that others left.
pub(super) async fn look(session: &Session) -> Result<()> {
    let row = session.cx.scope(APPROVALS).get(&session.id).await?;
    if let Some(run) = row.as_ref().and_then(run_of) {
        session.stop.ask(Ask::about(run));
    }
    Ok(())
}

/// Looks again and again until the guard is dropped.
pub(super) fn watch(session: &Session) -> DropGuard {
    let over = CancellationToken::new();
    let (cx, id, stopped) = (session.cx.clone(), session.id.clone(), over.clone());
    session.cx.spawn(async move {
        while stopped
            .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
            .await
            .is_some()
        {
            match cx.scope(APPROVALS).get(&id).await {
                Ok(row) => row
                    .as_ref()
                    .and_then(run_of)
                    .into_iter()
                    .for_each(|run| wake(&cx, &id, run)),
                Err(error) => tracing::warn!(session_id = %id, %error, "wishes to stop not looked for"),
            }
        }
    });
    over.drop_guard()
}

/// Tells the session's actor that a run is to stop.
pub(super) fn wake(cx: &Cx<Turns>, session: &SessionId, run: String) {
    cx.state()
        .actors
        .submit(cx, session, Input::Abort(Ask::about(run)));
}
