//! `session-inbox::clear`: removes all queues of a session. One id beyond the 86: it goes with `session-tree::delete`.

use super::inboxes::Inboxes;
use super::request;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::session::{InboxCleared, SessionRef, inbox_hold};

/// `session-inbox::clear`.
#[derive(Debug)]
pub struct Clear;

impl Function for Clear {
    const ID: &'static str = "session-inbox::clear";
    const DESCRIPTION: &'static str = "Remove all inboxes of a session and what is in them.";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    type State = Inboxes;
    type Request = SessionRef;
    type Response = InboxCleared;

    async fn call(cx: &Cx<Inboxes>, request: SessionRef) -> Result<InboxCleared> {
        request::session(&request.session_id)?;
        let alone = cx.bus().hold(&inbox_hold(&request.session_id)).await;
        Inboxes::clear(cx, &request.session_id, alone).await?;
        Ok(InboxCleared { ok: true })
    }
}
