//! `session-inbox::drain`: takes all items out of a queue at once (contract 06 §5.3).

use super::inboxes::Inboxes;
use super::request;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::session::{InboxItems, InboxRef};

/// `session-inbox::drain`.
#[derive(Debug)]
pub struct Drain;

impl Function for Drain {
    const ID: &'static str = "session-inbox::drain";
    const DESCRIPTION: &'static str = "Atomically read and clear all items in a session-scoped inbox.";
    const REQUIRED: &'static [&'static str] = request::REQUIRED;
    type State = Inboxes;
    type Request = InboxRef;
    type Response = InboxItems;

    async fn call(cx: &Cx<Inboxes>, request: InboxRef) -> Result<InboxItems> {
        let key = request::key(&request.session_id, &request.name)?;
        let inbox = Inboxes::open(cx, key).await;
        let items = match &cx.context().batch {
            Some(batch) if cx.bus().transport().is_exclusive() => inbox.drain_with(batch).await?,
            // Elsewhere others may add an item before a batch is stored, and it would be lost.
            Some(_) | None => inbox.drain().await?,
        };
        Ok(InboxItems { items })
    }
}
