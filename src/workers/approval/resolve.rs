//! `approval::resolve`: writes a person's decision on one waiting call (contract 03 §2.1).
//!
//! Exactly one state write; the turn is woken by its own trigger on the scope `approvals`. Whether a call waits at all is
//! not asked here: the turn honours only what is written after it found the call waiting.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::State;
use super::change::Outcome;
use super::checked::{self, Checked, Readable};
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::{CallId, SessionId};

/// State scope of the decisions, by `<session>/<call>`.
const SCOPE: &str = "approvals";

/// See the module.
#[derive(Debug)]
pub(super) struct Resolve;

/// What a person may decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Decision {
    /// Run the call.
    Allow,
    /// Do not run it, go on without.
    Deny,
    /// The same, with other words for the model.
    Aborted,
}

/// What it takes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct Request {
    /// The session, without `/`.
    pub(super) session_id: SessionId,
    /// The call, without `/`.
    pub(super) function_call_id: CallId,
    /// The decision.
    pub(super) decision: Decision,
    /// In the person's own words.
    pub(super) reason: Option<String>,
}

impl Readable for Request {
    fn read(members: &Map<String, Value>) -> Result<Self, String> {
        Ok(Self {
            session_id: checked::key(members, "session_id")?.into(),
            function_call_id: checked::key(members, "function_call_id")?.into(),
            decision: match members.get("decision").and_then(Value::as_str) {
                Some("allow") => Decision::Allow,
                Some("deny") => Decision::Deny,
                Some("aborted") => Decision::Aborted,
                _ => return Err("decision must be one of allow, deny, aborted".into()),
            },
            reason: match members.get("reason") {
                None | Some(Value::Null) => None,
                Some(Value::String(reason)) => Some(reason.clone()),
                Some(_) => return Err("reason must be a string".into()),
            },
        })
    }
}

impl Function for Resolve {
    const ID: &'static str = "approval::resolve";
    const DESCRIPTION: &'static str = "Flip an approval to allow or deny. Persists the decision to the approvals scope to wake the parked turn.";
    const CLIENT: bool = true;
    type State = State;
    type Request = Checked<Request>;
    type Response = Outcome;

    fn decode(payload: Value) -> Result<Self::Request> {
        Ok(Checked::of(payload))
    }

    async fn call(cx: &Cx<State>, Checked(request): Self::Request) -> Result<Outcome> {
        let request = match request {
            Ok(request) => request,
            Err(problem) => {
                tracing::debug!(problem, "decision refused");
                return Ok(Outcome::failed("invalid_payload"));
            }
        };
        let key = format!("{}/{}", request.session_id, request.function_call_id);
        let row = json!({ "decision": request.decision, "reason": request.reason });
        Ok(match cx.scope(SCOPE).set(&key, &row).await {
            Ok(_) => Outcome::done(),
            Err(error) => {
                tracing::warn!(key, %error, "decision not stored");
                Outcome::failed("resume_failed")
            }
        })
    }
}
