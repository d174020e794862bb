//! `session-tree::messages`: the messages of a path, oldest first (contract 06 §4.5).

use super::index::Index;
use super::page;
use super::recent;
use super::request;
use super::sessions::Sessions;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::session::{MessagesRequest, MessagesResponse};

/// `session-tree::messages`.
#[derive(Debug)]
pub struct Messages;

impl Function for Messages {
    const ID: &'static str = "session-tree::messages";
    const DESCRIPTION: &'static str =
        "Load every AgentMessage on the active path of a session, paired with its entry_id, oldest first";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    type State = Sessions;
    type Request = MessagesRequest;
    type Response = MessagesResponse;

    async fn call(cx: &Cx<Sessions>, request: MessagesRequest) -> Result<MessagesResponse> {
        request::session(&request.session_id)?;
        let slot = cx.state().slot(&request.session_id);
        slot.read(cx, &request.session_id, |index| answer(index, &request))
            .await?
    }
}

fn answer(index: &Index, request: &MessagesRequest) -> Result<MessagesResponse> {
    let leaf = request.branch_leaf.as_ref();
    if request.after_compaction {
        let (messages, recent) = recent::recent(index, leaf);
        return Ok(MessagesResponse {
            messages,
            next_before: None,
            recent: Some(recent),
        });
    }
    let limit = request::whole(request.limit.as_ref()).unwrap_or(usize::MAX);
    let before = request.before.as_ref();
    page::page(index, leaf, before, limit)
        .ok_or_else(|| request::entry_not_found(before.map_or("", |before| before)))
}
