//! `session-tree::create`: an empty session with an id of ours (contract 06 §4.1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::meta::SessionMeta;
use super::request;
use super::sessions::Sessions;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::session::SessionRef;
use crate::model::{SessionId, lenient};

/// `session-tree::create`.
#[derive(Debug)]
pub struct Create;

/// Request of [`Create`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// Name for people.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub display_name: Option<String>,
    /// Working directory.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub cwd: Option<String>,
}

impl Function for Create {
    const ID: &'static str = "session-tree::create";
    const DESCRIPTION: &'static str = "Create a new empty session record";
    type State = Sessions;
    type Request = Request;
    type Response = SessionRef;

    fn decode(payload: Value) -> Result<Request> {
        request::read(payload, Self::REQUIRED)
    }

    async fn call(cx: &Cx<Sessions>, request: Request) -> Result<SessionRef> {
        let session_id = SessionId::from(cx.uuid());
        let slot = cx.state().slot(&session_id);
        let _writer = slot.write().await;
        let now_ms = cx.state().change_time(cx.now_ms());
        let meta = SessionMeta {
            display_name: request.display_name,
            cwd: request.cwd,
            ..SessionMeta::new(session_id.clone(), 1, now_ms)
        };
        slot.create(cx, meta).await?;
        Ok(SessionRef { session_id })
    }
}
