//! `approval::clear_settings`: drops a session's settings when its conversation is deleted (contract 03 §2.7).
//!
//! Decisions on its calls go too, where the caller names them (weakness 15).

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::change::Outcome;
use super::checked::{self, Checked, Readable};
use super::resolve::DECISIONS;
use super::settings::{Record, SCOPE};
use super::{State, wake};
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::{CallId, SessionId};

/// See the module.
#[derive(Debug)]
pub(super) struct ClearSettings;

/// What it takes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct Request {
    /// The session, without `/`.
    pub(super) session_id: SessionId,
    /// Calls of a session that is gone; decisions on them go too, and the wish to stop its run.
    pub(super) function_call_ids: Option<Vec<CallId>>,
}

impl Readable for Request {
    fn read(members: &Map<String, Value>) -> Result<Self, String> {
        Ok(Self {
            session_id: checked::key(members, "session_id")?.into(),
            function_call_ids: call_ids(members.get("function_call_ids"))?,
        })
    }
}

fn call_ids(value: Option<&Value>) -> Result<Option<Vec<CallId>>, String> {
    let usable = |id: &&str| !id.is_empty() && !id.contains('/');
    match value {
        None | Some(Value::Null) => Some(None),
        Some(Value::Array(ids)) => ids
            .iter()
            .map(|id| id.as_str().filter(usable).map(CallId::from))
            .collect::<Option<_>>()
            .map(Some),
        Some(_) => None,
    }
    .ok_or_else(|| "function_call_ids must be a list of call ids".to_owned())
}

impl Function for ClearSettings {
    const ID: &'static str = "approval::clear_settings";
    const DESCRIPTION: &'static str = "Clear the per-session approval settings on conversation deletion.";
    const CLIENT: bool = true;
    type State = State;
    type Request = Checked<Request>;
    type Response = Outcome;

    fn decode(payload: Value) -> Result<Self::Request> {
        Ok(Checked::of(payload))
    }

    async fn call(cx: &Cx<State>, Checked(request): Self::Request) -> Result<Outcome> {
        let Request {
            session_id,
            function_call_ids,
        } = match request {
            Ok(request) => request,
            Err(problem) => return Ok(Outcome::failed(problem)),
        };
        let _guard = cx.bus().hold(&super::settings_hold(&session_id)).await;
        // A stored null would make a later update of a field fail without a word, so the row goes.
        let cleared = match cx.scope(SCOPE).delete(&session_id).await {
            Ok(_) => clear_decisions(cx, &session_id, function_call_ids).await,
            Err(error) => Err(error),
        };
        Ok(match cleared {
            Ok(()) => {
                let settings = Record::default().settings(cx.state().default_mode());
                wake::settings_changed(cx, &session_id, &settings);
                Outcome::done()
            }
            Err(error) => Outcome::failed(error.to_string()),
        })
    }
}

/// An engine's state lists values without their keys, so only the rows of calls that are named can be found.
async fn clear_decisions(cx: &Cx<State>, session_id: &SessionId, calls: Option<Vec<CallId>>) -> Result<()> {
    let Some(calls) = calls else { return Ok(()) };
    let decisions = cx.scope(DECISIONS);
    decisions.delete(session_id).await?;
    for call in calls {
        decisions.delete(&format!("{session_id}/{call}")).await?;
    }
    Ok(())
}
