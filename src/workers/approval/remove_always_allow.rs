//! `approval::remove_always_allow`: takes a function off the list that mode `auto` honours (contract 03 §2.5).

use serde_json::Value;

use super::State;
use super::change::{Answer, GrantRequest, change_list};
use super::checked::Checked;
use super::settings::Record;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::FunctionId;

/// See the module.
#[derive(Debug)]
pub(super) struct RemoveAlwaysAllow;

impl Function for RemoveAlwaysAllow {
    const ID: &'static str = "approval::remove_always_allow";
    const DESCRIPTION: &'static str = "Remove a function id from the per-session always-allow list.";
    const CLIENT: bool = true;
    type State = State;
    type Request = Checked<GrantRequest>;
    type Response = Answer;

    fn decode(payload: Value) -> Result<Self::Request> {
        Ok(Checked::of(payload))
    }

    async fn call(cx: &Cx<State>, request: Self::Request) -> Result<Answer> {
        let edit = |record: &mut Record, id: &FunctionId, _| {
            let before = record.always_allow.len();
            record.always_allow.retain(|entry| entry.function_id != *id);
            record.always_allow.len() != before
        };
        Ok(change_list(cx, request, edit).await)
    }
}
