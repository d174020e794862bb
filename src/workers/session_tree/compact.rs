//! `session-tree::compact`: adds a compaction, which stands for what is before it (contract 06 §4.10).

use serde_json::Value;

use super::append::{Append, New, is_usable};
use super::entry::Body;
use super::request;
use super::sessions::Sessions;
use crate::bus::{Cx, Function};
use crate::error::{Error, Result};
use crate::model::api::session::{CompactRequest, EntryRef};

/// `session-tree::compact`.
#[derive(Debug)]
pub struct Compact;

impl Function for Compact {
    const ID: &'static str = "session-tree::compact";
    const DESCRIPTION: &'static str = "Append a Compaction entry summarising the active path";
    const REQUIRED: &'static [&'static str] = &["session_id", "summary"];
    type State = Sessions;
    type Request = CompactRequest;
    type Response = EntryRef;

    async fn call(cx: &Cx<Sessions>, request: CompactRequest) -> Result<EntryRef> {
        request::session(&request.session_id)?;
        request::text("summary", &request.summary)?;
        let tail_start_id = request.tail_start_id.filter(|id| !id.is_empty());
        if tail_start_id.as_ref().is_some_and(|id| !is_usable(id)) {
            return Err(Error::invalid("invalid tail_start_id: not the id of an entry"));
        }
        let details = Value::Object(request.details.unwrap_or_default());
        request::depth("details", &details)?;
        let new = New {
            session_id: request.session_id,
            parent_id: request.parent_id,
            entry_id: None,
            metadata: None,
            body: Body::Compaction {
                summary: request.summary,
                tokens_before: request.tokens_before.map_or_else(|| 0.into(), Value::Number),
                tail_start_id,
                details,
            },
        };
        Append::add(cx, new).await
    }
}
