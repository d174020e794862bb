//! `approval::clear_settings`: drops a session's settings when its conversation is deleted (contract 03 §2.7).

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::change::Outcome;
use super::checked::{self, Checked, Readable};
use super::settings::{Record, SCOPE};
use super::{State, wake};
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::SessionId;

/// See the module.
#[derive(Debug)]
pub(super) struct ClearSettings;

/// What it takes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct Request {
    /// The session, without `/`.
    pub(super) session_id: SessionId,
}

impl Readable for Request {
    fn read(members: &Map<String, Value>) -> Result<Self, String> {
        let session_id = checked::key(members, "session_id")?.into();
        Ok(Self { session_id })
    }
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
        let Request { session_id } = match request {
            Ok(request) => request,
            Err(problem) => return Ok(Outcome::failed(problem)),
        };
        let _guard = cx.bus().hold(&super::settings_hold(&session_id)).await;
        // A stored null would make a later update of a field fail without a word, so the row goes.
        Ok(match cx.scope(SCOPE).delete(&session_id).await {
            Ok(_) => {
                let settings = Record::default().settings(cx.state().default_mode());
                wake::settings_changed(cx, &session_id, &settings);
                Outcome::done()
            }
            Err(error) => Outcome::failed(error.to_string()),
        })
    }
}
