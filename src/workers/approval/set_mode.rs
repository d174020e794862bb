//! `approval::set_mode`: sets the permission mode of a session (contract 03 §2.3).

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::State;
use super::change::{Answer, change};
use super::checked::{self, Checked, Readable};
use super::settings::read_mode;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::SessionId;
use crate::model::api::approval::Mode;

/// See the module.
#[derive(Debug)]
pub(super) struct SetMode;

/// What it takes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct Request {
    /// The session, without `/`.
    pub(super) session_id: SessionId,
    /// The mode from now on.
    pub(super) mode: Mode,
}

impl Readable for Request {
    fn read(members: &Map<String, Value>) -> Result<Self, String> {
        Ok(Self {
            session_id: checked::key(members, "session_id")?.into(),
            mode: members
                .get("mode")
                .and_then(Value::as_str)
                .and_then(read_mode)
                .ok_or("mode must be one of manual, auto, full")?,
        })
    }
}

impl Function for SetMode {
    const ID: &'static str = "approval::set_mode";
    const DESCRIPTION: &'static str = "Set the permission mode (manual | auto | full) for a session.";
    const CLIENT: bool = true;
    type State = State;
    type Request = Checked<Request>;
    type Response = Answer;

    fn decode(payload: Value) -> Result<Self::Request> {
        Ok(Checked::of(payload))
    }

    async fn call(cx: &Cx<State>, Checked(request): Self::Request) -> Result<Answer> {
        let Request { session_id, mode } = match request {
            Ok(request) => request,
            Err(problem) => return Ok(Answer::failed(problem)),
        };
        let now_ms = cx.now_ms().max(0);
        Ok(change(cx, &session_id, |record| {
            record.mode = Some(mode);
            record.mode_set_at = now_ms;
            true
        })
        .await)
    }
}
