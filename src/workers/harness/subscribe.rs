//! `ui::subscribe`: a browser wants the events of one session, or of all (contract 04 §2.1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Harness;
use super::subscriptions::Member;
use crate::bus::{self, Cx, Function, unwrap_body};
use crate::error::{Error, Result};

/// Longer ids are refused: they end up in function ids and in memory for as long as the browser lives.
const LONGEST_ID_BYTES: usize = 1024;

/// `ui::subscribe`.
#[derive(Debug)]
pub(super) struct Subscribe;

/// Request of `ui::subscribe` and `ui::unsubscribe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// Id that the browser minted for this page load; not empty.
    pub(super) browser_id: String,
    /// One session; null, or anything that is not a string, stands for all of them.
    #[serde(default)]
    pub(super) session_id: Option<String>,
    /// Ours: true asks for the events of the session's current turn, so that a page opened in the middle of one can show it.
    /// They come first, in order, as the same pushes; deltas are merged. Nothing for all sessions, nor for a browser that
    /// listens to the session already.
    #[serde(default)]
    pub(super) replay: bool,
}

/// Response of `ui::subscribe` and `ui::unsubscribe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// Always true.
    pub(super) ok: bool,
    /// Reachable browsers with at least one subscription.
    pub(super) total_browsers: usize,
}

impl Request {
    /// Reads the payload of either function.
    pub(super) fn read(payload: Value) -> Result<Self> {
        let payload: Value = bus::decode(payload, &[], false)?;
        let mut object = unwrap_body(payload);
        let browser_id = match object.remove("browser_id") {
            Some(Value::String(id)) if !id.is_empty() => id,
            _ => return Err(Error::invalid("missing browser_id")),
        };
        let session_id = match object.remove("session_id") {
            Some(Value::String(id)) if id.is_empty() => {
                return Err(Error::invalid(
                    "session_id must not be empty; use null for all sessions",
                ));
            }
            Some(Value::String(id)) => Some(id),
            _ => None,
        };
        let replay = object.remove("replay") == Some(Value::Bool(true));
        for (name, id) in [
            ("browser_id", Some(&browser_id)),
            ("session_id", session_id.as_ref()),
        ] {
            if id.is_some_and(|id| id.len() > LONGEST_ID_BYTES) {
                return Err(Error::invalid(format!(
                    "{name} is longer than {LONGEST_ID_BYTES} bytes"
                )));
            }
        }
        Ok(Self {
            browser_id,
            session_id,
            replay,
        })
    }

    pub(super) fn member(&self) -> Member {
        match &self.session_id {
            Some(session) => Member::Session(session.as_str().into()),
            None => Member::All,
        }
    }
}

impl Function for Subscribe {
    const ID: &'static str = "ui::subscribe";
    const DESCRIPTION: &'static str =
        "Register a browser's interest in a session (or all sessions if session_id is null).";
    const CLIENT: bool = true;
    type State = Harness;
    type Request = Request;
    type Response = Response;

    fn decode(payload: Value) -> Result<Request> {
        Request::read(payload)
    }

    async fn call(cx: &Cx<Harness>, request: Request) -> Result<Response> {
        // Nobody checks that the session belongs to the caller, so at least it is on record (contract 04 weakness 9).
        tracing::info!(
            browser = request.browser_id,
            session = request.session_id.as_deref().unwrap_or("(all)"),
            "browser subscribes"
        );
        let (browser, member) = (&request.browser_id, request.member());
        let total_browsers = cx
            .state()
            .bridge
            .subscribe(cx.bus(), browser, member, request.replay)?;
        Ok(Response {
            ok: true,
            total_browsers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn read(payload: Value) -> Result<(String, Member), String> {
        Request::read(payload)
            .map(|request| (request.browser_id.clone(), request.member()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn c04_case_07_anything_but_a_string_means_all_sessions() {
        for session in [json!(null), json!(7), json!({}), json!(["s"])] {
            let payload = json!({"body": {"browser_id": "b1", "session_id": session}});
            assert_eq!(read(payload), Ok(("b1".into(), Member::All)));
        }
        assert_eq!(read(json!({"browser_id": "b1"})), Ok(("b1".into(), Member::All)));
    }

    #[test]
    fn c04_case_08_missing_browser_id() {
        for payload in [
            json!({"session_id": "s1"}),
            json!({"browser_id": ""}),
            json!({"browser_id": 5}),
            json!({"browser_id": null}),
            json!({"body": {}, "browser_id": "b"}),
            json!(null),
            json!("b1"),
            json!([1]),
        ] {
            assert_eq!(read(payload), Err("missing browser_id".into()));
        }
    }

    #[test]
    fn hostile_ids() {
        assert_eq!(
            read(json!({"browser_id": "b", "session_id": ""})),
            Err("session_id must not be empty; use null for all sessions".into())
        );
        let odd = "b::'; \u{0}\n🦀/../%";
        assert_eq!(
            read(json!({"browser_id": odd})),
            Ok((odd.to_owned(), Member::All))
        );
        let long = "x".repeat(LONGEST_ID_BYTES + 1);
        assert_eq!(
            read(json!({"browser_id": long})),
            Err("browser_id is longer than 1024 bytes".into())
        );
        assert_eq!(
            read(json!({"browser_id": "b", "session_id": long})),
            Err("session_id is longer than 1024 bytes".into())
        );
    }
}
