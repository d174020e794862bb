//! `harness::trigger`: the browser starts a turn; the payload goes to `run::start` (contract 04 §1, 11 §3.3).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Harness;
use crate::bus::{self, CallOptions, Cx, Function, unwrap_body};
use crate::error::{Error, Result};
use crate::model::api::Contract;
use crate::model::api::run::{Kickoff, StartRequest};

/// `run::start` answers at once; the limit is the original's.
const TIMEOUT_MS: u64 = 600_000;

/// `harness::trigger`.
#[derive(Debug)]
pub(super) struct Trigger;

/// Request of `harness::trigger`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// For tracing only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    /// For tracing only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    /// An earlier form named the target; only `run::start` is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function_id: Option<String>,
    /// The request of `run::start`.
    payload: StartRequest,
}

/// Response of `harness::trigger`, shaped like an HTTP reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// 200, or 409 when the session is busy.
    status_code: u16,
    /// Always the JSON content type.
    headers: BTreeMap<String, String>,
    /// The answer of `run::start`, as it came.
    body: Value,
}

impl Function for Trigger {
    const ID: &'static str = "harness::trigger";
    const DESCRIPTION: &'static str =
        "Browser kickoff: forward payload to run::start. Used by console/web over the iii-browser-sdk.";
    const CLIENT: bool = true;
    type State = Harness;
    type Request = Request;
    type Response = Response;

    fn decode(payload: Value) -> Result<Request> {
        read(bus::decode(payload, &[], false)?)
    }

    async fn call(cx: &Cx<Harness>, request: Request) -> Result<Response> {
        let body = cx
            .call_with::<Kickoff>(request.payload, CallOptions::timeout_ms(TIMEOUT_MS))
            .await?;
        let busy = body.get("started") == Some(&Value::Bool(false));
        Ok(Response {
            status_code: if busy { 409 } else { 200 },
            headers: BTreeMap::from([("content-type".into(), "application/json".into())]),
            body,
        })
    }
}

fn read(payload: Value) -> Result<Request> {
    let mut object = match payload {
        Value::Object(object) if object.contains_key("payload") => object,
        other => unwrap_body(other),
    };
    match object.remove("function_id") {
        None | Some(Value::Null) => {}
        Some(Value::String(id)) if id == Kickoff::ID => {}
        Some(other) => {
            return Err(Error::invalid(format!(
                "function_id can only be \"{}\", not {}",
                Kickoff::ID,
                shortened(&other)
            )));
        }
    }
    let Some(Value::Object(inner)) = object.remove("payload") else {
        return Err(Error::invalid(
            "invalid harness::trigger request: payload must be an object, the request of run::start",
        ));
    };
    let text = |member: Option<Value>| match member {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    Ok(Request {
        session_id: text(object.remove("session_id")),
        message_id: text(object.remove("message_id")),
        function_id: None,
        payload: start_request(inner)?,
    })
}

/// Checks the whole payload, so that one answer names all that is wrong with it.
fn start_request(payload: Map<String, Value>) -> Result<StartRequest> {
    let complaints = complaints(&payload);
    if !complaints.is_empty() {
        return Err(invalid_payload(&complaints.join(", ")));
    }
    // Optional members may be null here: browsers send what they have.
    let payload: Map<String, Value> = payload
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect();
    serde_path_to_error::deserialize(Value::Object(payload)).map_err(|error| {
        let path = error.path().to_string();
        invalid_payload(&format!(
            "{path} is not accepted ({})",
            bus::plain(&error.into_inner())
        ))
    })
}

fn invalid_payload(what: &str) -> Error {
    Error::invalid(format!("invalid run::start payload: {what}"))
}

fn complaints(payload: &Map<String, Value>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, may_be_empty) in [("session_id", false), ("provider", true), ("model", true)] {
        match payload.get(name) {
            None | Some(Value::Null) => complaints.push(format!("{name} is missing")),
            Some(Value::String(text)) if text.is_empty() && !may_be_empty => {
                complaints.push(format!("{name} is empty"));
            }
            Some(Value::String(_)) => {}
            Some(_) => complaints.push(format!("{name} must be a string")),
        }
    }
    for name in ["message_id", "system_prompt"] {
        if !matches!(payload.get(name), None | Some(Value::Null | Value::String(_))) {
            complaints.push(format!("{name} must be a string"));
        }
    }
    if !matches!(
        payload.get("max_turns"),
        None | Some(Value::Null | Value::Number(_))
    ) {
        complaints.push("max_turns must be a number".into());
    }
    let known_mode = payload
        .get("mode")
        .is_none_or(|mode| mode.is_null() || matches!(mode.as_str(), Some("plan" | "ask" | "agent")));
    if !known_mode {
        complaints.push("mode must be plan, ask or agent".into());
    }
    if !matches!(
        payload.get("messages"),
        None | Some(Value::Null | Value::Array(_))
    ) {
        complaints.push("messages must be an array".into());
    }
    complaints
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn payload() -> Value {
        json!({"session_id": "s", "provider": "p", "model": "x", "messages": []})
    }

    fn error(request: Value) -> String {
        read(request).unwrap_err().to_string()
    }

    #[test]
    fn c04_case_01_defaults_are_filled_in_and_unknown_members_dropped() {
        let request = json!({"session_id": "s", "message_id": "m", "payload": {
            "session_id": "s", "provider": "p", "model": "x", "image": "python", "idle_timeout_secs": 300,
            "message_id": null, "mode": null, "thinking_level": "loud", "budget_id": "b",
        }});
        assert_eq!(
            serde_json::to_value(read(request).unwrap().payload).unwrap(),
            json!({"session_id": "s", "provider": "p", "model": "x", "messages": [], "system_prompt": "",
                   "budget_id": "b"})
        );
    }

    #[test]
    fn c04_case_02_03_one_sentence_names_all_bad_members() {
        assert_eq!(
            error(json!({"payload": {"provider": "p"}})),
            "invalid run::start payload: session_id is missing, model is missing"
        );
        assert_eq!(
            error(
                json!({"payload": {"session_id": "", "provider": 1, "model": null, "message_id": 4,
                                     "system_prompt": [], "max_turns": "3", "mode": "fast", "messages": {}}})
            ),
            "invalid run::start payload: session_id is empty, provider must be a string, model is missing, \
             message_id must be a string, system_prompt must be a string, max_turns must be a number, \
             mode must be plan, ask or agent, messages must be an array"
        );
        assert_eq!(
            error(
                json!({"payload": {"session_id": "s", "provider": "p", "model": "m",
                                     "messages": [{"role": "user", "content": []}, {"role": "god", "content": []}]}})
            ),
            "invalid run::start payload: messages[1] is not accepted (invalid message: unknown role `god`)"
        );
        for request in [
            json!({}),
            json!({"payload": "x"}),
            json!("x"),
            json!([]),
            payload(),
        ] {
            assert_eq!(
                error(request),
                "invalid harness::trigger request: payload must be an object, the request of run::start"
            );
        }
    }

    #[test]
    fn the_body_form_is_accepted() {
        let plain = read(json!({ "payload": payload() })).unwrap();
        assert_eq!(read(json!({"body": {"payload": payload()}})).unwrap(), plain);
        assert_eq!(
            read(json!({"payload": payload(), "body": {"payload": {}}})).unwrap(),
            plain
        );
    }

    #[test]
    fn only_run_start_can_be_the_target() {
        read(json!({"function_id": "run::start", "payload": payload()})).unwrap();
        for id in [json!("state::set"), json!(""), json!(7), json!({})] {
            let expected = format!("function_id can only be \"run::start\", not {id}");
            assert_eq!(error(json!({"function_id": id, "payload": payload()})), expected);
        }
    }

    #[test]
    fn c11_case_07_thinking_level_is_accepted() {
        let mut inner = payload();
        inner["thinking_level"] = json!("high");
        let request = read(json!({ "payload": inner })).unwrap();
        assert_eq!(
            serde_json::to_value(request.payload).unwrap()["thinking_level"],
            "high"
        );
    }
}
