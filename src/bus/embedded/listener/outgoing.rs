//! What the engine sends to a worker (contract 00 §1.3). Absent is preferred over null.

use serde::Serialize;
use serde_json::Value;

use super::frame::{InvocationResult, RegisterTrigger, TriggerRegistrationResult};

/// A message to a worker.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Outgoing<'a> {
    WorkerRegistered {
        worker_id: &'a str,
        reattach_token: &'a str,
    },
    RegisterTrigger(RegisterTrigger),
    TriggerRegistrationResult(TriggerRegistrationResult),
    UnregisterTrigger {
        id: &'a str,
        trigger_type: &'a str,
    },
    InvokeFunction {
        invocation_id: String,
        function_id: &'a str,
        data: &'a Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        traceparent: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        baggage: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'a Value>,
    },
    InvocationResult(InvocationResult),
    /// The worker is not taken: it must not come again as it is.
    RegistrationRejected {
        code: &'static str,
        namespace: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        worker_name: Option<&'a str>,
        owner_worker_id: &'a str,
    },
    Pong,
}

impl Outgoing<'_> {
    /// The text of the frame.
    ///
    /// # Errors
    /// Never for these shapes; the writer reports it all the same.
    pub(super) fn text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    const ID: &str = "6a1f9d53-4a8e-4b6e-9a3f-0f2f6c1d7e11";

    #[test]
    fn absent_is_preferred_over_null() {
        let result = Outgoing::InvocationResult(InvocationResult {
            invocation_id: ID.parse().unwrap(),
            function_id: "f".into(),
            result: None,
            error: None,
            traceparent: None,
            baggage: None,
        });
        assert_eq!(
            result.text().unwrap(),
            format!(r#"{{"type":"invocationresult","invocation_id":"{ID}","function_id":"f"}}"#)
        );
        let call = Outgoing::InvokeFunction {
            invocation_id: ID.into(),
            function_id: "f",
            data: &json!(null),
            traceparent: None,
            baggage: None,
            metadata: None,
        };
        assert_eq!(
            call.text().unwrap(),
            format!(r#"{{"type":"invokefunction","invocation_id":"{ID}","function_id":"f","data":null}}"#)
        );
        assert_eq!(Outgoing::Pong.text().unwrap(), r#"{"type":"pong"}"#);
    }
}
