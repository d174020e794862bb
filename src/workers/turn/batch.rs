//! From the calls of an assistant message to a batch, and from a finished batch to what comes next (contract 02 §6.1,
//! §6.4). Pure.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::prompt::AGENT_TRIGGER;
use super::work::{PreparedCall, Work};
use crate::model::{AssistantMessage, CallId, ContentBlock, FunctionCall, FunctionResult, StopReason};
use crate::rules::inner_call;

/// Longest call id that is kept: it becomes part of a state key.
const MAX_CALL_ID_BYTES: usize = 256;

/// Makes call ids usable as keys: unique within the message, not empty, without `/`. Replaced in the stored message, so
/// that provider, transcript, approvals and results all speak of the same id.
pub(super) fn repair_call_ids(message: &mut AssistantMessage, turn: u64) {
    let mut seen: HashSet<CallId> = HashSet::new();
    let mut position = 0;
    for block in &mut message.content {
        let ContentBlock::FunctionCall { id, .. } = block else {
            continue;
        };
        position += 1;
        let base = match id.as_str() {
            text if text.is_empty() || text.len() > MAX_CALL_ID_BYTES => format!("call-{turn}-{position}"),
            text => text.replace('/', "_"),
        };
        let mut candidate = CallId::from(base.as_str());
        let mut n = 1;
        while seen.contains(&candidate) {
            n += 1;
            candidate = format!("{base}-{n}").into();
        }
        seen.insert(candidate.clone());
        *id = candidate;
    }
}

/// Prepares the calls of a message, in content order.
pub(super) fn prepare(message: &AssistantMessage) -> Work {
    let prepared = message
        .calls()
        .map(|(id, name, arguments)| prepare_call(id, name, arguments, message.stop_reason))
        .collect();
    Work {
        prepared,
        ..Work::default()
    }
}

fn prepare_call(id: &CallId, name: &str, arguments: &Value, stop_reason: StopReason) -> PreparedCall {
    let synthetic = |target: &str, payload: Value, result| PreparedCall::Synthetic {
        call: FunctionCall {
            id: id.clone(),
            function_id: target.into(),
            arguments: payload,
        },
        result,
    };
    if name != AGENT_TRIGGER {
        return synthetic(name, arguments.clone(), missing_function());
    }
    if arguments.is_null() {
        return synthetic(AGENT_TRIGGER, json!({}), unreadable_arguments(stop_reason));
    }
    let (target, payload) = inner_call(arguments.clone());
    if target.is_empty() {
        return synthetic(AGENT_TRIGGER, payload, missing_function());
    }
    PreparedCall::Dispatch {
        call: FunctionCall {
            id: id.clone(),
            function_id: target.into(),
            arguments: payload,
        },
    }
}

fn missing_function() -> FunctionResult {
    FunctionResult::error(json!({
        "error": "missing_function",
        "message": "agent_trigger needs a non-empty string \"function\": the id of the function to call, \
                    such as \"engine::functions::list\".",
    }))
}

fn unreadable_arguments(stop_reason: StopReason) -> FunctionResult {
    let message = if stop_reason == StopReason::Length {
        "The arguments were cut off by the output limit before they were complete. Send a smaller call."
    } else {
        "The arguments are not valid JSON. Send one JSON object with \"function\" and \"payload\"."
    };
    FunctionResult::error_code("invalid_arguments", AGENT_TRIGGER, message)
}

impl Work {
    /// Whether every call has its result.
    pub(super) fn is_complete(&self) -> bool {
        self.prepared
            .iter()
            .all(|prepared| self.executed.contains_key(&prepared.call().id))
    }

    /// Whether every result asks to end the run; an empty batch does not.
    pub(super) fn all_terminate(&self) -> bool {
        !self.prepared.is_empty()
            && self.prepared.iter().all(|prepared| {
                self.executed
                    .get(&prepared.call().id)
                    .is_some_and(|executed| executed.result.terminate)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FunctionId;
    use pretty_assertions::assert_eq;

    fn assistant(calls: &[(&str, &str, Value)]) -> AssistantMessage {
        let mut message = AssistantMessage::empty("p", "m", 1);
        message.stop_reason = StopReason::FunctionCall;
        message.content = calls
            .iter()
            .map(|(id, name, arguments)| ContentBlock::FunctionCall {
                id: (*id).into(),
                function_id: FunctionId::from(*name),
                arguments: arguments.clone(),
            })
            .collect();
        message
    }

    #[test]
    fn ids_too_long_for_a_key_are_replaced() {
        let (long, kept) = ("x".repeat(257), "y".repeat(256));
        let mut message = assistant(&[
            (&kept, "f", json!({})),
            (&long, "f", json!({})),
            ("", "f", json!({})),
        ]);
        repair_call_ids(&mut message, 3);
        let ids: Vec<&str> = message.calls().map(|(id, ..)| id.as_str()).collect();
        assert_eq!(ids, [kept.as_str(), "call-3-2", "call-3-3"]);
    }

    fn one(name: &str, arguments: Value) -> PreparedCall {
        prepare(&assistant(&[("c", name, arguments)])).prepared.remove(0)
    }

    fn error_of(prepared: &PreparedCall) -> &str {
        match prepared {
            PreparedCall::Synthetic { result, .. } => result.details["error"].as_str().unwrap_or_default(),
            PreparedCall::Dispatch { .. } | PreparedCall::PreApproved { .. } => "",
        }
    }

    #[test]
    fn c02_case_16_a_wrapped_call_is_unwrapped() {
        let call = FunctionCall {
            id: "c".into(),
            function_id: "shell::run".into(),
            arguments: json!({"x": 1}),
        };
        assert_eq!(
            one(
                "agent_trigger",
                json!({"function": "shell::run", "payload": {"x": 1}})
            ),
            PreparedCall::Dispatch { call }
        );
    }

    #[test]
    fn c02_case_17_and_18_calls_without_a_target_get_their_result_at_once() {
        for (name, arguments) in [
            ("agent_trigger", json!({})),
            ("agent_trigger", json!({"function": ""})),
            ("agent_trigger", json!({"function": 7})),
            ("agent_trigger", json!("text")),
            ("agent_trigger", json!([1])),
            ("shell::run", json!({"x": 1})),
        ] {
            let prepared = one(name, arguments);
            assert_eq!(error_of(&prepared), "missing_function", "{prepared:?}");
        }
    }

    #[test]
    fn c02_case_19_payloads_given_as_text() {
        let payload = |value: Value| match one("agent_trigger", json!({"function": "f", "payload": value})) {
            PreparedCall::Dispatch { call } => call.arguments,
            other => panic!("{other:?}"),
        };
        assert_eq!(payload(json!("{\"a\":1}")), json!({"a": 1}));
        assert_eq!(payload(json!(" [1] ")), json!([1]));
        assert_eq!(payload(json!("hello")), json!("hello"));
        assert_eq!(payload(json!("{broken")), json!("{broken"));
        let whole = one(
            "agent_trigger",
            json!("{\"function\":\"f\",\"payload\":{\"a\":1}}"),
        );
        assert_eq!(whole.call().arguments, json!({"a": 1}));
    }

    #[test]
    fn unreadable_arguments_are_reported_and_a_cut_one_names_the_limit() {
        let mut message = assistant(&[("c", "agent_trigger", Value::Null)]);
        assert_eq!(error_of(&prepare(&message).prepared[0]), "invalid_arguments");
        message.stop_reason = StopReason::Length;
        match &prepare(&message).prepared[0] {
            PreparedCall::Synthetic { result, .. } => {
                assert!(
                    result.details["message"]
                        .as_str()
                        .unwrap()
                        .contains("output limit")
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn call_ids_become_usable_keys() {
        let mut message = assistant(&[
            ("", "f", json!({})),
            ("a/b", "f", json!({})),
            ("a", "f", json!({})),
            ("a", "f", json!({})),
        ]);
        repair_call_ids(&mut message, 3);
        let ids: Vec<_> = message.calls().map(|(id, ..)| id.to_string()).collect();
        assert_eq!(ids, ["call-3-1", "a_b", "a", "a-2"]);
    }
}
