//! `session-inbox::peek`: reads a queue without changing it (contract 06 §5.2).

use super::inboxes::Inboxes;
use super::request;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::session::{InboxItems, InboxRef};

/// `session-inbox::peek`.
#[derive(Debug)]
pub struct Peek;

impl Function for Peek {
    const ID: &'static str = "session-inbox::peek";
    const DESCRIPTION: &'static str = "Read all items in a session-scoped inbox without mutating.";
    const REQUIRED: &'static [&'static str] = request::REQUIRED;
    type State = Inboxes;
    type Request = InboxRef;
    type Response = InboxItems;

    async fn call(cx: &Cx<Inboxes>, request: InboxRef) -> Result<InboxItems> {
        let key = request::key(&request.session_id, &request.name)?;
        let items = Inboxes::open(cx, key).await.items().await?;
        Ok(InboxItems { items })
    }
}
