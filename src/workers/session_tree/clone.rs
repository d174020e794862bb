//! `session-tree::clone`: a new session with all entries of another one (contract 06 §4.9). Messages only: permission settings,
//! inboxes and budgets of the source stay its own, so the new session begins with the defaults.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::copies::{Source, copies};
use super::request;
use super::sessions::Sessions;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::SessionId;
use crate::model::api::session::SessionRef;

/// `session-tree::clone`.
#[derive(Debug)]
pub struct CloneSession;

/// Request of [`CloneSession`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// The session to copy. It is not changed; its permission settings, inboxes and budgets are not copied.
    pub source_session_id: SessionId,
}

impl Function for CloneSession {
    const ID: &'static str = "session-tree::clone";
    const DESCRIPTION: &'static str = "Duplicate a session with re-mapped ids";
    const REQUIRED: &'static [&'static str] = &["source_session_id"];
    type State = Sessions;
    type Request = Request;
    type Response = SessionRef;

    async fn call(cx: &Cx<Sessions>, request: Request) -> Result<SessionRef> {
        request::source(&request.source_session_id)?;
        let source = Source::read(cx, &request.source_session_id, |index| {
            Ok(index.entries().to_vec())
        })
        .await?;
        let entries = copies(&source.entries, || cx.uuid().into());
        source.make(cx, "clone", entries).await
    }
}
