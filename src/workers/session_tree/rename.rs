//! `session-tree::rename`: another name for people. One id beyond the 86 (contract 06 weakness 13).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::meta::SessionMeta;
use super::request;
use super::sessions::Sessions;
use super::slot::Meta;
use crate::bus::{Cx, Function};
use crate::error::{Error, Result};
use crate::model::SessionId;
use crate::model::api::session::SessionRef;

/// `session-tree::rename`.
#[derive(Debug)]
pub struct Rename;

/// Request of [`Rename`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// The session.
    pub session_id: SessionId,
    /// Its new name.
    pub display_name: String,
}

impl Function for Rename {
    const ID: &'static str = "session-tree::rename";
    const DESCRIPTION: &'static str = "Give a session another display name.";
    const REQUIRED: &'static [&'static str] = &["session_id", "display_name"];
    const CLIENT: bool = true;
    type State = Sessions;
    type Request = Request;
    type Response = SessionRef;

    async fn call(cx: &Cx<Sessions>, request: Request) -> Result<SessionRef> {
        request::session(&request.session_id)?;
        request::text("display_name", &request.display_name)?;
        let session_id = request.session_id;
        let slot = cx.state().slot(&session_id);
        let _writer = slot.write().await;
        match slot.load_meta(cx, &session_id).await? {
            Meta::Known(meta) => {
                // A name is no change of the conversation: its place in the list stays.
                let meta = SessionMeta {
                    display_name: Some(request.display_name),
                    ..SessionMeta::clone(&meta)
                };
                slot.create(cx, meta).await?;
                Ok(SessionRef { session_id })
            }
            Meta::Missing | Meta::Unknown => Err(request::session_not_found(&session_id)),
            Meta::Unreadable => Err(Error::Unavailable(format!(
                "the row of session {session_id} cannot be read"
            ))),
        }
    }
}
