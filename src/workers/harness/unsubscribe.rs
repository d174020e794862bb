//! `ui::unsubscribe`: a browser has seen enough of a session (contract 04 §2.2).

use serde_json::Value;

use super::Harness;
use super::subscribe::{Request, Response};
use crate::bus::{Cx, Function};
use crate::error::Result;

/// `ui::unsubscribe`.
#[derive(Debug)]
pub(super) struct Unsubscribe;

impl Function for Unsubscribe {
    const ID: &'static str = "ui::unsubscribe";
    const DESCRIPTION: &'static str =
        "Remove a browser's subscription to a session (or its all-sessions sub if session_id is null).";
    const CLIENT: bool = true;
    type State = Harness;
    type Request = Request;
    type Response = Response;

    fn decode(payload: Value) -> Result<Request> {
        Request::read(payload)
    }

    async fn call(cx: &Cx<Harness>, request: Request) -> Result<Response> {
        let total_browsers = cx
            .state()
            .bridge
            .unsubscribe(&request.browser_id, &request.member());
        Ok(Response {
            ok: true,
            total_browsers,
        })
    }
}
