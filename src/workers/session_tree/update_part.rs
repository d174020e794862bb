//! `session-tree::update_part`: other content for one function result (contract 06 §4.13).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pruned;
use super::request;
use super::sessions::Sessions;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::SessionId;
use crate::model::api::session::PartUpdate;

/// `session-tree::update_part`.
#[derive(Debug)]
pub struct UpdatePart;

/// Request of [`UpdatePart`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// The session.
    pub session_id: SessionId,
    /// The function result and what becomes of it.
    #[serde(flatten)]
    pub update: PartUpdate,
}

/// Response of [`UpdatePart`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Response {
    /// Always true.
    pub ok: bool,
    /// 1 when the entry was rewritten, 0 when there is no such function result.
    pub updated: usize,
}

impl Function for UpdatePart {
    const ID: &'static str = "session-tree::update_part";
    const DESCRIPTION: &'static str =
        "Replace content of a function_result message entry with compacted output";
    const REQUIRED: &'static [&'static str] = &["session_id", "entry_id"];
    type State = Sessions;
    type Request = Request;
    type Response = Response;

    async fn call(cx: &Cx<Sessions>, request: Request) -> Result<Response> {
        request::session(&request.session_id)?;
        request::text("entry_id", &request.update.entry_id)?;
        let updated = pruned::apply(cx, &request.session_id, &[request.update]).await?;
        Ok(Response { ok: true, updated })
    }
}
