//! `approval::resolve`: writes a person's decision on one waiting call (contract 03 §2.1).
//!
//! Exactly one state write; the turn is woken by its own trigger on the scope `approvals`. Whether a call waits at all is
//! not asked here: the turn honours only what is written after it found the call waiting. A client that says which call it
//! saw is told when another one waits under that id.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::State;
use super::change::Outcome;
use super::checked::{self, Checked, Readable};
use crate::bus::{CallOptions, Cx, Function};
use crate::error::Result;
use crate::model::{CallId, SessionId};

/// State scope of the decisions, by `<session>/<call>`.
pub(super) const DECISIONS: &str = "approvals";

/// Limit of the look at what waits, milliseconds.
const LOOK_MS: u64 = 2_000;

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
    /// `call_hash` of the call as the person saw it in the list of waiting calls; without it the decision is for the call
    /// that waits under the id.
    pub(super) call_hash: Option<String>,
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
            reason: optional_text(members, "reason")?,
            call_hash: optional_text(members, "call_hash")?,
        })
    }
}

fn optional_text(members: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{name} must be a string")),
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
        let mut row = json!({ "decision": request.decision, "reason": request.reason });
        if let Some(seen) = &request.call_hash {
            if another_call_waits(cx, &request, seen).await {
                return Ok(Outcome::failed("call_changed"));
            }
            row["call_hash"] = seen.as_str().into();
        }
        let key = format!("{}/{}", request.session_id, request.function_call_id);
        Ok(match cx.scope(DECISIONS).set(&key, &row).await {
            Ok(_) => Outcome::done(),
            Err(error) => {
                tracing::warn!(key, %error, "decision not stored");
                Outcome::failed("resume_failed")
            }
        })
    }
}

/// Whether a call waits under that id that is not the one that was seen. The turn checks again when it applies the decision;
/// asking here only lets the person know.
async fn another_call_waits(cx: &Cx<State>, request: &Request, seen: &str) -> bool {
    let of_session = json!({ "session_id": request.session_id });
    let view = cx
        .invoke("turn::get_state", of_session, CallOptions::timeout_ms(LOOK_MS))
        .await
        .unwrap_or_default();
    let waiting = view.get("awaiting_approval").and_then(Value::as_array);
    waiting.into_iter().flatten().any(|call| {
        call.get("function_call_id").and_then(Value::as_str) == Some(&*request.function_call_id)
            && call
                .get("call_hash")
                .and_then(Value::as_str)
                .is_some_and(|hash| hash != seen)
    })
}
