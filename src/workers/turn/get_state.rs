//! `turn::get_state`: the view of a session's run, for clients after a reload (contract 02 §10).

use super::Turns;
use super::record::{RECORDS, TurnRecord};
use super::step::StepRequest;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::TurnStateView;

/// `turn::get_state`.
#[derive(Debug)]
pub(super) struct GetState;

impl Function for GetState {
    const ID: &'static str = "turn::get_state";
    const DESCRIPTION: &'static str = "Read the current turn_state record for a session. Returns null if the session is unknown. UI clients use this on page reload to recover any in-progress modals (e.g. function_awaiting_approval) without reading iii state directly.";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    const CLIENT: bool = true;
    type State = Turns;
    type Request = StepRequest;
    type Response = Option<TurnStateView>;

    async fn call(cx: &Cx<Turns>, request: StepRequest) -> Result<Option<TurnStateView>> {
        let stored = cx.scope(RECORDS).get(&request.session_id).await?;
        Ok(TurnRecord::read(stored).map(|record| record.view()))
    }
}
