//! `session-tree::export_html`: a path as one page to keep and to read (contract 06 §4.7).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::html;
use super::request;
use super::sessions::Sessions;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::{EntryId, SessionId, lenient};

/// `session-tree::export_html`.
#[derive(Debug)]
pub struct ExportHtml;

/// Request of [`ExportHtml`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// The session.
    pub session_id: SessionId,
    /// Leaf of the wanted path; the active one when absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub branch_leaf: Option<EntryId>,
}

/// Response of [`ExportHtml`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Response {
    /// One document with everything it needs, and nothing that runs.
    pub html: String,
}

impl Function for ExportHtml {
    const ID: &'static str = "session-tree::export_html";
    const DESCRIPTION: &'static str = "Render the active path as a self-contained HTML document";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    type State = Sessions;
    type Request = Request;
    type Response = Response;

    async fn call(cx: &Cx<Sessions>, request: Request) -> Result<Response> {
        request::session(&request.session_id)?;
        let session = &request.session_id;
        let leaf = request.branch_leaf.as_ref();
        let slot = cx.state().slot(session);
        // Shared entries; writing the page does not keep writers waiting.
        let path: Vec<_> = slot
            .read(cx, session, |index| index.path(leaf).cloned().collect())
            .await?;
        Ok(Response {
            html: html::document(session, &path),
        })
    }
}
