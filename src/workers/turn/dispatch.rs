//! Calls the target of an agent's call and turns what happens into a result (contract 02 §8.4).

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use regex::Regex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Turns;
use crate::bus::{CallOptions, Cx};
use crate::error::{Error, Result};
use crate::model::{FunctionCall, FunctionId, FunctionResult};

const CONTRACT_MS: u64 = 5_000;
const INTROSPECTION: &str = "engine::functions::info";
/// Pause before a function of a worker that may be on its way back is looked for again.
const RETRY_LOOKUP: Duration = Duration::from_millis(250);

/// Runs one call. `idempotency_key` travels beside the payload, which reaches the target untouched. `None`: the run was
/// stopped, and the target is no function of this process that could be waited for.
pub(super) async fn call(
    cx: &Cx<Turns>,
    call: FunctionCall,
    idempotency_key: String,
    stop: CancellationToken,
) -> Option<FunctionResult> {
    let here = cx.bus().hosts(&call.function_id);
    let work = to_the_end(cx, call, idempotency_key, stop.clone());
    if here {
        return Some(work.await);
    }
    stop.run_until_cancelled(work).await
}

async fn to_the_end(
    cx: &Cx<Turns>,
    call: FunctionCall,
    idempotency_key: String,
    stop: CancellationToken,
) -> FunctionResult {
    let limit_ms = cx.config().turn.call_timeout_ms;
    let metadata = json!({
        "idempotency_key": idempotency_key,
        "session_id": cx.context().baggage.session_id.as_deref(),
        "function_call_id": call.id,
    });
    let ask = || {
        let options = CallOptions::timeout_ms(limit_ms)
            .with_metadata(metadata.clone())
            .with_cancel(stop.clone());
        cx.invoke(&call.function_id, call.arguments.clone(), options)
    };
    match while_booting(cx.state(), |error| error.is_missing(&call.function_id), ask).await {
        Ok(value) => FunctionResult::from_value(value),
        Err(error) => {
            let mut result = classify(&call.function_id, &error);
            if result.details.get("error") == Some(&json!("invalid_arguments")) {
                add_contract(cx, &call.function_id, &mut result).await;
            }
            result
        }
    }
}

/// Asks; after a restart, while the workers of the last life come back one by one, asks again about what `is_early`.
pub(super) async fn while_booting<T, F>(
    turns: &Turns,
    is_early: impl Fn(&Error) -> bool,
    ask: impl Fn() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    loop {
        match ask().await {
            Err(error) if is_early(&error) && turns.is_booting() => tokio::time::sleep(RETRY_LOOKUP).await,
            outcome => return outcome,
        }
    }
}

/// A failed call as the model sees it.
fn classify(function: &FunctionId, error: &Error) -> FunctionResult {
    let message = error.to_string();
    if error.is_function_not_found() || message.contains("function_not_found") {
        return FunctionResult::error(json!({
            "error": "function_not_found", "function": function, "hint": hint(function),
        }));
    }
    if let Error::Timeout { .. } = error {
        return FunctionResult::error_code(
            "timeout",
            function,
            format!("{message}. The outcome is unknown."),
        );
    }
    if let Some(structured) = structured(&message) {
        let mut details = serde_json::Map::from_iter([("error".to_owned(), json!("handler_error"))]);
        details.extend(structured);
        return FunctionResult::error(Value::Object(details));
    }
    if is_bad_arguments(error, &message) {
        return FunctionResult::error(json!({
            "error": "invalid_arguments",
            "function": function,
            "message": "The arguments do not fit this function. Pass a JSON object that matches its schema; see `contract`.",
            "detail": message,
        }));
    }
    FunctionResult::error(json!({
        "error": "call_failed", "function": function, "code": error.wire_code(), "message": message,
    }))
}

/// Puts the contract of the function into an `invalid_arguments` result, when the engine knows it.
async fn add_contract(cx: &Cx<Turns>, function: &FunctionId, result: &mut FunctionResult) {
    if &**function == INTROSPECTION {
        return;
    }
    let request = json!({ "function_id": function });
    let Ok(mut reply) = cx
        .invoke(INTROSPECTION, request, CallOptions::timeout_ms(CONTRACT_MS))
        .await
    else {
        return;
    };
    let contract = match reply.get_mut("details") {
        Some(details) if !details.is_null() => details.take(),
        Some(_) | None => reply,
    };
    if contract.is_null() {
        return;
    }
    let mut details = result.details.clone();
    details["contract"] = contract;
    *result = FunctionResult::error(details);
}

/// The error object that a worker put into its message: the message itself, or the first balanced object in it.
fn structured(message: &str) -> Option<serde_json::Map<String, Value>> {
    let candidate = first_object(message)?;
    match serde_json::from_str(candidate).ok()? {
        Value::Object(object)
            if object.get("code").is_some_and(Value::is_string)
                && object.get("message").is_some_and(Value::is_string) =>
        {
            Some(object)
        }
        _ => None,
    }
}

fn first_object(text: &str) -> Option<&str> {
    let start = text.find('{')?;
    let (mut depth, mut in_string, mut escaped) = (0_u32, false, false);
    for (offset, byte) in text.bytes().enumerate().skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    return text.get(start..=offset);
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether the target could not read its arguments. Codes first; texts only where a code says "the handler failed".
fn is_bad_arguments(error: &Error, message: &str) -> bool {
    static TEXTS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let texts = r"(?i)serialization error|missing field|missing required|invalid type|invalid value|unknown (field|variant)|did not match any variant|\bexpected\b.{1,80}\b(found|but got)\b";
        Regex::new(texts).ok()
    });
    matches!(error.wire_code(), "deserialization_error" | "serialization_error")
        || (error.wire_code() == "invocation_failed"
            && TEXTS.as_ref().is_some_and(|texts| texts.is_match(message)))
}

/// What to try instead of an id that nobody hosts.
fn hint(function: &str) -> String {
    let parts: Vec<&str> = function.split('/').collect();
    let suggestion = match parts.as_slice() {
        [_] => {
            return "No worker hosts this function. Check the id against engine::functions::list.".into();
        }
        [worker, "skills", again, rest @ ..] if worker == again && !rest.is_empty() => {
            Some(format!("{worker}::{}", rest.join("::")))
        }
        [worker, name] if *name != "index" && !worker.is_empty() && !name.is_empty() => {
            Some(format!("{worker}::{name}"))
        }
        _ => None,
    };
    match suggestion {
        Some(id) => format!("This looks like the id of a skill. Did you mean `{id}`?"),
        None => "Skill ids are not function ids. Function ids use `::`; see engine::functions::list.".into(),
    }
}

/// Time a call took, whole milliseconds.
pub(super) fn duration_ms(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn details(error: &Error) -> Value {
        let result = classify(&"w::f".into(), error);
        assert!(result.is_error());
        assert_eq!(
            result.content[0].as_text(),
            Some(result.details.to_string().as_str())
        );
        result.details
    }

    #[test]
    fn c02_case_25_hints_for_unknown_functions() {
        let suggested = |id: &str| {
            hint(id)
                .split_once("Did you mean `")
                .map(|(_, tail)| tail.to_owned())
        };
        assert_eq!(suggested("misspelled"), None);
        assert_eq!(
            suggested("sandbox/skills/sandbox/create"),
            Some("sandbox::create`?".into())
        );
        assert_eq!(suggested("sandbox/create"), Some("sandbox::create`?".into()));
        assert_eq!(suggested("sandbox/index"), None);
        assert_eq!(suggested("some/odd/three"), None);
        assert_eq!(
            details(&Error::FunctionNotFound("w::f".into()))["error"],
            "function_not_found"
        );
    }

    #[test]
    fn c02_case_26_a_structured_error_is_passed_on() {
        let message =
            r#"invocation_failed: handler error: {"code":"S211","message":"m","fix":{"k":"{"}} tail"#;
        assert_eq!(
            details(&Error::invalid(message)),
            json!({"error": "handler_error", "code": "S211", "message": "m", "fix": {"k": "{"}})
        );
    }

    #[test]
    fn c02_case_27_bad_arguments_are_told_from_failures() {
        let bad = |error: &Error| details(error)["error"] == "invalid_arguments";
        assert!(bad(&Error::invalid(
            "serialization error: missing field \"path\""
        )));
        assert!(bad(&Error::missing_string("path")));
        assert!(bad(&Error::Undecodable {
            function: "f".into(),
            detail: "x".into()
        }));
        assert!(!bad(&Error::invalid(
            "expected the order to be paid, but it was not"
        )));
        assert!(!bad(&Error::coded("S1", "missing field")));
    }

    #[test]
    fn failures_and_timeouts_are_not_denials() {
        let timeout = details(&Error::Timeout {
            function: "w::f".into(),
            after_ms: 5,
        });
        assert_eq!(timeout["error"], "timeout");
        assert_eq!(
            details(&Error::coded("S9", "disk full")),
            json!({"error": "call_failed", "function": "w::f", "code": "S9", "message": "disk full"})
        );
    }
}
