//! The one error type that crosses the bus.
//!
//! A failed call has a code and a message on the wire (contract 00 §2.6, §13). Functions of this program answer
//! `invocation_failed` with the contract's bare text unless the contract names another code; [`Error::code`] is our own,
//! finer name for logs, metrics and `docs/errors.md`.

use thiserror::Error as ThisError;

/// Result of anything that can fail on the bus.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum Error {
    /// The request is wrong; the text is the contract's.
    #[error("{0}")]
    Invalid(String),
    /// A request of an engine function does not fit its shape.
    #[error("Failed to deserialize input for {function}: {detail}")]
    Undecodable {
        /// The engine function.
        function: String,
        /// What does not fit, with its path.
        detail: String,
    },
    /// Nobody hosts this id.
    #[error("Function {0} not found")]
    FunctionNotFound(String),
    /// The caller's deadline passed; the handler may still be running.
    #[error("{function} timed out after {after_ms} ms")]
    Timeout {
        /// The callee.
        function: String,
        /// The caller's limit.
        after_ms: u64,
    },
    /// The callee or the process is going away.
    #[error("Invocation stopped")]
    Stopped,
    /// The link to the engine is down, or went down before the answer came: the outcome is unknown.
    #[error("engine disconnected")]
    Disconnected,
    /// The handler panicked; the text says where.
    #[error("{function} panicked: {detail}")]
    Panicked {
        /// The callee.
        function: String,
        /// The panic's message.
        detail: String,
    },
    /// The store answered an error, or could not be reached. Never read as "absent".
    #[error("{operation}: {cause}")]
    Store {
        /// What was tried, in the words of the owning contract.
        operation: String,
        /// Why it failed.
        cause: String,
    },
    /// A part of the world did not answer in a usable way (a worker, a provider, a file).
    #[error("{0}")]
    Unavailable(String),
    /// A turn step failed for a passing reason and may be repeated (contract 02 §2.1).
    #[error("{0}")]
    Transient(String),
    /// A registration the program itself got wrong: empty id, duplicate id, bad schema.
    #[error("cannot register {id}: {why}")]
    Registration {
        /// The id in question.
        id: String,
        /// What is wrong with it.
        why: String,
    },
    /// An error with a code of its own: of an engine function, or passed on unchanged from another worker.
    #[error("{message}")]
    Coded {
        /// Wire code.
        code: String,
        /// Wire message.
        message: String,
    },
}

impl Error {
    /// Shorthand for [`Error::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// The contract's text for a missing, empty or wrongly typed required string.
    pub fn missing_string(name: &str) -> Self {
        Self::Invalid(format!("missing required string field: {name}"))
    }

    /// Shorthand for [`Error::Store`].
    pub fn store(operation: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self::Store {
            operation: operation.into(),
            cause: cause.to_string(),
        }
    }

    /// Shorthand for [`Error::Coded`].
    pub fn coded(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Coded {
            code: code.into(),
            message: message.into(),
        }
    }

    /// What a failed operation on state or streams is for who asked for it. Whatever code an engine gives it: a store that
    /// failed may answer later. What is too large stays too large.
    #[must_use]
    pub fn of_store(self, operation: impl Into<String>) -> Self {
        match self {
            Self::Coded { code, message } if code != "payload_too_large" => Self::store(operation, message),
            error => error,
        }
    }

    /// Our stable name, one section each in `docs/errors.md`. Never reused, never renamed.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "request/invalid",
            Self::Undecodable { .. } => "request/undecodable",
            Self::FunctionNotFound(_) => "bus/function_not_found",
            Self::Timeout { .. } => "bus/timeout",
            Self::Stopped => "bus/stopped",
            Self::Disconnected => "bus/engine_disconnected",
            Self::Panicked { .. } => "bus/panicked",
            Self::Store { .. } => "state/unreadable",
            Self::Unavailable(_) => "dependency/unavailable",
            Self::Transient(_) => "turn/transient",
            Self::Registration { .. } => "bus/registration",
            Self::Coded { .. } => "remote/coded",
        }
    }

    /// The code a caller sees (contract 00 §13).
    pub fn wire_code(&self) -> &str {
        match self {
            Self::Invalid(_)
            | Self::Panicked { .. }
            | Self::Store { .. }
            | Self::Unavailable(_)
            | Self::Transient(_)
            | Self::Registration { .. } => "invocation_failed",
            Self::Undecodable { .. } => "deserialization_error",
            Self::FunctionNotFound(_) => "function_not_found",
            Self::Timeout { .. } => "TIMEOUT",
            Self::Stopped => "invocation_stopped",
            Self::Disconnected => "engine_disconnected",
            Self::Coded { code, .. } => code,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::Stopped
            | Self::Disconnected
            | Self::Store { .. }
            | Self::Unavailable(_)
            | Self::Transient(_) => true,
            Self::Invalid(_)
            | Self::Undecodable { .. }
            | Self::FunctionNotFound(_)
            | Self::Panicked { .. }
            | Self::Registration { .. }
            | Self::Coded { .. } => false,
        }
    }

    /// Whether nobody hosts the called id.
    pub fn is_function_not_found(&self) -> bool {
        self.wire_code() == "function_not_found"
    }

    /// Whether nobody hosts exactly this id. A function that ran may pass on that another one was missing.
    pub fn is_missing(&self, id: &str) -> bool {
        match self {
            Self::FunctionNotFound(missing) => missing == id,
            Self::Coded { code, message } => {
                code == "function_not_found" && *message == Self::FunctionNotFound(id.to_owned()).to_string()
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_coded_refusal_of_the_store_may_pass_unless_the_value_is_too_large() {
        let gone = Error::coded("function_not_found", "Function state::set not found");
        let passing = gone.of_store("state::set a");
        assert_eq!(
            passing,
            Error::store("state::set a", "Function state::set not found")
        );
        assert!(passing.is_retryable());
        let large = Error::coded("payload_too_large", "too large");
        assert_eq!(large.clone().of_store("state::set a"), large);
        assert_eq!(Error::Disconnected.of_store("state::set a"), Error::Disconnected);
    }

    #[test]
    fn a_missing_function_is_known_from_one_that_misses_another() {
        for missing in [
            Error::FunctionNotFound("a::b".into()),
            Error::coded("function_not_found", "Function a::b not found"),
        ] {
            assert!(missing.is_missing("a::b"), "{missing:?}");
            assert!(!missing.is_missing("a::c"), "{missing:?}");
        }
        assert!(!Error::invalid("Function a::b not found").is_missing("a::b"));
    }
}
