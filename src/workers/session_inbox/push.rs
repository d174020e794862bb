//! `session-inbox::push`: adds an item to a queue (contract 06 §5.1).

use serde_json::Value;

use super::inboxes::Inboxes;
use super::request;
use crate::bus::{Cx, Function, decode};
use crate::error::{Error, Result};
use crate::model::api::session::{InboxPushRequest, InboxPushed, inbox_hold};

/// `session-inbox::push`.
#[derive(Debug)]
pub struct Push;

impl Function for Push {
    const ID: &'static str = "session-inbox::push";
    const DESCRIPTION: &'static str = "Append an item to a session-scoped inbox.";
    const REQUIRED: &'static [&'static str] = request::REQUIRED;
    type State = Inboxes;
    type Request = InboxPushRequest;
    type Response = InboxPushed;

    fn decode(payload: Value) -> Result<InboxPushRequest> {
        if payload.get("item").is_none() {
            decode::<Value>(payload, Self::REQUIRED, false)?;
            return Err(Error::invalid("missing required field: item"));
        }
        decode(payload, Self::REQUIRED, false)
    }

    async fn call(cx: &Cx<Inboxes>, request: InboxPushRequest) -> Result<InboxPushed> {
        let key = request::key(&request.session_id, &request.name)?;
        request::item(&request.item)?;
        let _no_run_ends_meanwhile = cx.bus().hold(&inbox_hold(&request.session_id)).await;
        let inbox = Inboxes::open(cx, key).await;
        let length = inbox
            .push(&request.session_id, &request.name, request.item)
            .await?;
        Ok(InboxPushed {
            ok: true,
            length: Some(length),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn c06_case_33_what_is_missing_is_named_in_order() {
        let refusal = |payload| Push::decode(payload).unwrap_err().to_string();
        for payload in [
            Value::Null,
            json!({"item": 1}),
            json!(["n", "s", 1]),
            json!({"name": "", "session_id": ""}),
        ] {
            assert_eq!(refusal(payload), "missing required string field: name");
        }
        assert_eq!(
            refusal(json!({"name": "n"})),
            "missing required string field: session_id"
        );
        assert_eq!(
            refusal(json!({"name": "n", "session_id": "s"})),
            "missing required field: item"
        );
        let request = Push::decode(json!({"name": "n", "session_id": "s", "item": null})).unwrap();
        assert_eq!(request.item, Value::Null);
    }
}
