//! `session-tree::delete`: removes a session and all that the program keeps of it. One id beyond the 86 (contract 06
//! weakness 13).

use futures::future::join;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::beside::Beside;
use super::idle;
use super::index::Index;
use super::request;
use super::sessions::Sessions;
use super::slot::Meta;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::session::SessionRef;

/// `session-tree::delete`.
#[derive(Debug)]
pub struct Delete;

/// Response of [`Delete`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Response {
    /// Whether there was a session.
    pub deleted: bool,
    /// Entries removed.
    pub entry_count: usize,
}

impl Function for Delete {
    const ID: &'static str = "session-tree::delete";
    const DESCRIPTION: &'static str =
        "Delete a session and all that is kept of it; refused while a run of it is at work.";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    const CLIENT: bool = true;
    type State = Sessions;
    type Request = SessionRef;
    type Response = Response;

    async fn call(cx: &Cx<Sessions>, request: SessionRef) -> Result<Response> {
        request::session(&request.session_id)?;
        let session = request.session_id;
        let slot = cx.state().slot(&session);
        let _writer = slot.write().await;
        // Asked as the only writer: a run that begins later finds an empty session, and begins a new one.
        idle::check(cx, &session, "it can be deleted once the run is over").await?;
        let (loaded, meta) = join(slot.load(cx, &session), slot.load_meta(cx, &session)).await;
        loaded?;
        let entry_count = slot.ask(Index::len)?;
        let deleted = entry_count > 0 || !matches!(meta?, Meta::Missing);
        // Also without a session: an earlier attempt may have come so far.
        let beside = Beside::of(cx, &session).await?;
        let removed = slot.remove(cx, &session, beside.writes(&session)).await;
        beside.settle(removed.is_ok());
        removed?;
        Ok(Response { deleted, entry_count })
    }
}
