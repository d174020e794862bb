//! `session-tree::fork`: a new session with the path to an entry (contract 06 §4.8). Messages only: permission settings, inboxes
//! and budgets of the source stay its own, so the new session begins with the defaults.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::copies::{Source, copies};
use super::entry::{Body, SessionEntry};
use super::path;
use super::request;
use super::sessions::Sessions;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::session::SessionRef;
use crate::model::{EntryId, SessionId, lenient};

/// Longest path that is copied when the caller asks for a collapsed fork.
const COLLAPSE_BEYOND: usize = 50;

/// `session-tree::fork`.
#[derive(Debug)]
pub struct Fork;

/// Request of [`Fork`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// The session to fork. It is not changed; its permission settings, inboxes and budgets are not copied.
    pub source_session_id: SessionId,
    /// Last entry of the new session; any entry of the source.
    pub from_entry_id: EntryId,
    /// Put one summary in the place of a path of more than 50 entries, as older releases did: the model then sees nothing
    /// of it.
    #[serde(
        default,
        skip_serializing_if = "std::ops::Not::not",
        deserialize_with = "lenient::or_default"
    )]
    pub collapse: bool,
}

impl Function for Fork {
    const ID: &'static str = "session-tree::fork";
    const DESCRIPTION: &'static str = "Fork a session at a given entry into a new session id";
    const REQUIRED: &'static [&'static str] = &["source_session_id", "from_entry_id"];
    type State = Sessions;
    type Request = Request;
    type Response = SessionRef;

    async fn call(cx: &Cx<Sessions>, request: Request) -> Result<SessionRef> {
        request::source(&request.source_session_id)?;
        request::text("from_entry_id", &request.from_entry_id)?;
        let from = &request.from_entry_id;
        let source = Source::read(cx, &request.source_session_id, |index| {
            if !index.contains(from) {
                return Err(request::entry_not_found(from));
            }
            let mut entries: Vec<_> = index.path(Some(from)).cloned().collect();
            path::sort(&mut entries);
            Ok(entries)
        })
        .await?;
        let new_id = || cx.uuid().into();
        let entries = if request.collapse && source.entries.len() > COLLAPSE_BEYOND {
            let count = source.entries.len();
            vec![collapsed(&request, count, new_id(), cx.now_ms())]
        } else {
            copies(&source.entries, new_id)
        };
        source.make(cx, "fork", entries).await
    }
}

fn collapsed(request: &Request, count: usize, id: EntryId, now_ms: i64) -> SessionEntry {
    let (session, from) = (&request.source_session_id, &request.from_entry_id);
    let body = Body::BranchSummary {
        summary: format!("Forked from session {session} at entry {from}: {count} entries collapsed."),
        from_id: from.clone(),
    };
    SessionEntry::new(id, None, now_ms, body)
}
