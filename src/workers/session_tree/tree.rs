//! `session-tree::tree`: a whole session as nested nodes (contract 06 §4.6).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::nested;
use super::request;
use super::sessions::Sessions;
use crate::bus::{Cx, Function};
use crate::error::{Error, Result};
use crate::model::EntryId;
use crate::model::api::session::SessionRef;

/// `session-tree::tree`.
#[derive(Debug)]
pub struct Tree;

/// An entry and what was appended under it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TreeNode {
    /// The entry (contract 06 §1.3).
    pub entry: Value,
    /// In stored order.
    pub children: Vec<TreeNode>,
}

/// Response of [`Tree`]: the first root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Response {
    /// Its entry (contract 06 §1.3).
    pub entry: Value,
    /// In stored order.
    pub children: Vec<TreeNode>,
    /// True when the whole tree is nested deeper than a reply can be: nodes below level 40 are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
    /// When truncated: all entries of the session, in stored order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<Vec<Value>>,
    /// Other entries that are under none: roots, and those whose parent does not exist. Their nodes are not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_roots: Option<Vec<EntryId>>,
}

impl Function for Tree {
    const ID: &'static str = "session-tree::tree";
    const DESCRIPTION: &'static str = "Return the session tree as a nested TreeNode";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    type State = Sessions;
    type Request = SessionRef;
    type Response = Response;

    async fn call(cx: &Cx<Sessions>, request: SessionRef) -> Result<Response> {
        request::session(&request.session_id)?;
        let session = &request.session_id;
        let slot = cx.state().slot(session);
        // Shared entries; nesting them does not keep writers waiting.
        let entries = slot.read(cx, session, |index| index.entries().to_vec()).await?;
        if entries.is_empty() {
            return Err(Error::Invalid(format!("session {session} has no entries")));
        }
        nested::nest(&entries).ok_or_else(|| Error::Invalid(format!("session {session} has no root entry")))
    }
}
