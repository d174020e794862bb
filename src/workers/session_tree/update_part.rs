//! `session-tree::update_part`: other content for one function result (contract 06 §4.13).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pruned;
use super::request;
use super::sessions::Sessions;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::session::PartUpdate;
use crate::model::{EntryId, SessionId, lenient};

/// `session-tree::update_part`.
#[derive(Debug)]
pub struct UpdatePart;

/// Request of [`UpdatePart`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// The session.
    pub session_id: SessionId,
    /// Entry of the function result.
    pub entry_id: EntryId,
    /// Its new text; `[output pruned]` when absent, `null` or not a string.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub output: Option<String>,
    /// Goes into its `details`, `null` included.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::present"
    )]
    pub compacted_at: Option<Value>,
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
        request::text("entry_id", &request.entry_id)?;
        let update = PartUpdate {
            entry_id: request.entry_id,
            output: request.output,
            compacted_at: request.compacted_at,
        };
        let updated = pruned::apply(cx, &request.session_id, &[update]).await?;
        Ok(Response { ok: true, updated })
    }
}
