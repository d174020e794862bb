//! The Messages protocol, spoken by Anthropic and by servers that imitate it (contract 08 §5).
//!
//! One engine; what differs between vendors and models is a member of [`Quirks`].

mod cache;
mod decode;
mod request;
mod rows;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::failure::Failure;
use super::ids::Rule;
use super::protocol::{Call, Encoded, ModelFacts};
use crate::model::ThinkingLevel;

/// Lets the model think between calls too; only where it thinks within a budget.
const INTERLEAVED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("anthropic-beta"),
    HeaderValue::from_static("interleaved-thinking-2025-05-14"),
);

/// Before the data of reasoning that is hidden, where others have a signature. A real one never has a colon.
const REDACTED: &str = "redacted:";

/// Which ids of calls the protocol takes.
const IDS: Rule = Rule {
    max_chars: 64,
    is_allowed: |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'),
};

/// How a request asks for reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It does not.
    Unasked,
    /// With at most so many tokens.
    Budget(u64),
    /// As much as the model finds right, with this effort.
    Adaptive(&'static str),
}

/// How a vendor's form of the protocol differs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quirks {
    /// Whose reasoning is sent back as such; that of others is plain text.
    pub(super) provider: &'static str,
    /// How to ask a model for reasoning.
    pub(super) thinking: fn(&ModelFacts, Option<ThinkingLevel>) -> Thinking,
}

impl Quirks {
    /// Our request in the protocol's form.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(super) fn encode(self, call: &Call, model: &ModelFacts) -> Result<Encoded, Failure> {
        let request = request::encode(self, call, model)?;
        let names = Arc::new(request.names);
        let budgeted = matches!(request.thinking, Thinking::Budget(_));
        Ok(Encoded {
            headers: HeaderMap::from_iter(budgeted.then_some(INTERLEAVED)),
            body: request.body.into(),
            decoder: Box::new(move || Box::new(decode::Decoder::new(Arc::clone(&names)))),
        })
    }
}
