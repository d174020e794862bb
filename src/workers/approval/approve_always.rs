//! `approval::approve_always`: remembers a person's "approve always" (contract 03 §2.6).
//! It decides no call that waits now; clients resolve that one as well.

use serde_json::Value;

use super::State;
use super::change::{Answer, GrantRequest, change_list};
use super::checked::Checked;
use super::settings::grant;
use crate::bus::{Cx, Function};
use crate::error::Result;

/// See the module.
#[derive(Debug)]
pub(super) struct ApproveAlways;

impl Function for ApproveAlways {
    const ID: &'static str = "approval::approve_always";
    const DESCRIPTION: &'static str = "Remember an \"approve always\" decision for this session — the function id stops prompting in every mode. Idempotent.";
    const CLIENT: bool = true;
    type State = State;
    type Request = Checked<GrantRequest>;
    type Response = Answer;

    fn decode(payload: Value) -> Result<Self::Request> {
        Ok(Checked::of(payload))
    }

    async fn call(cx: &Cx<State>, request: Self::Request) -> Result<Answer> {
        Ok(change_list(cx, request, |record, id, now_ms| {
            grant(&mut record.approved_always, id, now_ms)
        })
        .await)
    }
}
