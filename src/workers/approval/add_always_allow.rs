//! `approval::add_always_allow`: puts a function on the list that mode `auto` honours (contract 03 §2.4).

use serde_json::Value;

use super::State;
use super::change::{Answer, GrantRequest, change_list};
use super::checked::Checked;
use super::settings::grant;
use crate::bus::{Cx, Function};
use crate::error::Result;

/// See the module.
#[derive(Debug)]
pub(super) struct AddAlwaysAllow;

impl Function for AddAlwaysAllow {
    const ID: &'static str = "approval::add_always_allow";
    const DESCRIPTION: &'static str =
        "Append a function id to the per-session always-allow list (idempotent).";
    const CLIENT: bool = true;
    type State = State;
    type Request = Checked<GrantRequest>;
    type Response = Answer;

    fn decode(payload: Value) -> Result<Self::Request> {
        Ok(Checked::of(payload))
    }

    async fn call(cx: &Cx<State>, request: Self::Request) -> Result<Answer> {
        Ok(change_list(cx, request, |record, id, now_ms| {
            grant(&mut record.always_allow, id, now_ms)
        })
        .await)
    }
}
