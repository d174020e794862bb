//! `session-tree::update_parts`: other content for many function results at once (contract 06 §4.14).

use super::pruned;
use super::request;
use super::sessions::Sessions;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::session::{UpdatePartsRequest, UpdatedParts};

/// `session-tree::update_parts`.
#[derive(Debug)]
pub struct UpdateParts;

impl Function for UpdateParts {
    const ID: &'static str = "session-tree::update_parts";
    const DESCRIPTION: &'static str =
        "Batch replace content of multiple function_result message entries. Loads entries once.";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    type State = Sessions;
    type Request = UpdatePartsRequest;
    type Response = UpdatedParts;

    async fn call(cx: &Cx<Sessions>, request: UpdatePartsRequest) -> Result<UpdatedParts> {
        request::session(&request.session_id)?;
        let updated = pruned::apply(cx, &request.session_id, &request.items).await?;
        Ok(UpdatedParts { updated })
    }
}
