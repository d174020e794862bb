//! `session-tree::compactions`: all compactions of a session, oldest first (contract 06 §4.11).

use super::index::Index;
use super::request;
use super::sessions::Sessions;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::session::{CompactionsResponse, SessionRef};

/// `session-tree::compactions`.
#[derive(Debug)]
pub struct Compactions;

impl Function for Compactions {
    const ID: &'static str = "session-tree::compactions";
    const DESCRIPTION: &'static str =
        "Return all compaction entries for a session, sorted by timestamp ascending";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    type State = Sessions;
    type Request = SessionRef;
    type Response = CompactionsResponse;

    async fn call(cx: &Cx<Sessions>, request: SessionRef) -> Result<CompactionsResponse> {
        request::session(&request.session_id)?;
        let slot = cx.state().slot(&request.session_id);
        let entries = slot.read(cx, &request.session_id, Index::compactions).await?;
        Ok(CompactionsResponse { entries })
    }
}
