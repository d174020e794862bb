//! `session-tree::append_synthetic`: adds a user message that no person wrote (contract 06 §4.4).

use serde_json::json;

use super::append::{Append, New, check};
use super::entry::Body;
use super::request;
use super::sessions::Sessions;
use crate::bus::{Cx, Function};
use crate::error::{Error, Result};
use crate::model::RawMessage;
use crate::model::api::session::{AppendSyntheticRequest, EntryRef};

/// `session-tree::append_synthetic`.
#[derive(Debug)]
pub struct AppendSynthetic;

impl Function for AppendSynthetic {
    const ID: &'static str = "session-tree::append_synthetic";
    const DESCRIPTION: &'static str = "Append a synthetic user-role message entry to a session";
    const REQUIRED: &'static [&'static str] = &["session_id", "text"];
    type State = Sessions;
    type Request = AppendSyntheticRequest;
    type Response = EntryRef;

    async fn call(cx: &Cx<Sessions>, request: AppendSyntheticRequest) -> Result<EntryRef> {
        request::session(&request.session_id)?;
        request::text("text", &request.text)?;
        if let Some(metadata) = &request.metadata {
            request::depth("metadata", metadata)?;
        }
        let content = json!([{ "type": "text", "text": request.text }]);
        let message = json!({ "role": "user", "content": content, "timestamp": cx.now_ms() });
        let message = RawMessage::new(message).map_err(Error::Invalid)?;
        check(&message)?;
        let new = New {
            session_id: request.session_id,
            parent_id: request.parent_id,
            entry_id: None,
            metadata: request.metadata,
            body: Body::Message(message),
        };
        Append::add(cx, new).await
    }
}
