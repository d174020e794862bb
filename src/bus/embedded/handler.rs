//! What the engine's own functions have in common: reading the input, answering.

use futures::FutureExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bus::{CallContext, CallFuture};
use crate::error::{Error, Result};

/// An answer that is an error already.
pub(in crate::bus::embedded) fn failed<T: Send + 'static>(error: Error) -> CallFuture<T> {
    futures::future::ready(Err(error)).boxed()
}

/// An answer that is there already.
pub(in crate::bus::embedded) fn answer(outcome: Result<Value>) -> CallFuture {
    futures::future::ready(outcome).boxed()
}

/// Reads the input of an engine function.
///
/// # Errors
/// [`Error::Undecodable`], also for every payload that is no object.
pub(in crate::bus::embedded) fn input<T: DeserializeOwned>(function: &str, payload: Value) -> Result<T> {
    let undecodable = |detail: String| Error::Undecodable {
        function: function.to_owned(),
        detail,
    };
    // A shape would read an array by position, and rules on its members would see none.
    if payload.is_array() {
        return Err(undecodable("invalid type: array, expected an object".to_owned()));
    }
    serde_json::from_value(payload).map_err(|error| undecodable(error.to_string()))
}

/// Reads the input of an engine function, except for one member that may be large and is taken as it is.
///
/// # Errors
/// [`Error::Undecodable`]; the member (or one of its other names) must be there, `null` included.
pub(in crate::bus::embedded) fn input_and<T: DeserializeOwned>(
    function: &str,
    mut payload: Value,
    member: &[&str],
) -> Result<(T, Value)> {
    let taken = member
        .iter()
        .find_map(|name| payload.as_object_mut()?.shift_remove(*name));
    let rest = input(function, payload)?;
    let value = taken.ok_or_else(|| Error::Undecodable {
        function: function.to_owned(),
        detail: format!("missing field `{}`", member.first().copied().unwrap_or_default()),
    })?;
    Ok((rest, value))
}

/// Gives a failure of the store the code of its function (contract 00 §4, §5).
pub(in crate::bus::embedded) fn with_code(code: &'static str) -> impl Fn(Error) -> Error {
    move |error| match error {
        Error::Store { .. } => Error::coded(code, error.to_string()),
        other => other,
    }
}

/// What of a caller's context travels on to the handlers of an event.
pub(in crate::bus::embedded) fn carried(context: &CallContext) -> CallContext {
    CallContext {
        baggage: context.baggage.clone(),
        metadata: None,
        traceparent: context.traceparent.clone(),
        cancel: None,
        batch: None,
    }
}
