//! `session-tree::messages`: the messages of a path, oldest first (contract 06 §4.5).

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
        let leaf = request.branch_leaf.as_ref();
        let slot = cx.state().slot(&request.session_id);
        let messages = slot
            .read(cx, &request.session_id, |index| index.messages(leaf))
            .await?;
        Ok(MessagesResponse { messages })
    }
}
