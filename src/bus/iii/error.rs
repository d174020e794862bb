//! Errors, from the SDK to ours and back (contract 00 §2.6, §13).

use std::time::Duration;

use iii_sdk::Error as SdkError;

use crate::error::Error;

/// What a failed call of ours is for its caller. Code and message of the other side stay as they are.
pub(super) fn from_sdk(function: &str, limit: Duration, error: SdkError) -> Error {
    match error {
        SdkError::Remote { code, message, .. } => match code.as_str() {
            "invocation_stopped" => Error::Stopped,
            _ => Error::coded(code, message),
        },
        SdkError::Timeout => Error::Timeout {
            function: function.to_owned(),
            after_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        },
        SdkError::NotConnected | SdkError::WebSocket(_) | SdkError::RegistrationRejected { .. } => {
            Error::Disconnected
        }
        SdkError::Runtime(why) | SdkError::Handler(why) | SdkError::Serde(why) => Error::Unavailable(why),
    }
}

/// What a failed handler of ours answers. Always with a code, else the SDK would put words in front of the message; with
/// an empty trace, else it would take one of its own thread, symbols and all, for each error.
pub(super) fn to_sdk(error: &Error) -> SdkError {
    SdkError::Remote {
        code: error.wire_code().to_owned(),
        message: error.to_string(),
        stacktrace: Some(String::new()),
    }
}
