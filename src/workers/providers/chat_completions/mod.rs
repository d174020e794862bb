//! The Chat Completions protocol, spoken by OpenAI and by servers that imitate it (contract 08 §6).
//!
//! One engine; what differs between vendors is a member of [`Quirks`].

mod decode;
mod request;
mod slots;
mod vendor;

#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, HeaderMap};

pub use vendor::{Local, Probe, Vendor};

use super::access::Access;
use super::failure::Failure;
use super::protocol::{Call, Encoded, ModelFacts};
use crate::model::ThinkingLevel;

/// Effort parameter for a model: id, what the catalog knows of its thinking, the level of the run, the default word.
pub type Effort = fn(&str, Option<bool>, Option<ThinkingLevel>, Option<&str>) -> Option<&'static str>;

/// How a vendor's form of the protocol differs (contract 08 §6, §7).
#[derive(Debug, Clone, Copy, Default)]
pub struct Quirks {
    /// Which assistant rows carry `reasoning_content`.
    pub reasoning: Reasoning,
    /// Tool rows carry `is_error`; OpenAI refuses unknown members.
    pub sends_is_error: bool,
    /// Some chat templates need a user row: `(continue)` is added at the end when there is none.
    pub needs_user_row: bool,
    /// Whether and how `reasoning_effort` is sent.
    pub effort: Option<Effort>,
    /// Longest id of a call that is taken, characters; `None`: ids go back as they came.
    pub max_id_chars: Option<usize>,
}

/// Which assistant rows carry `reasoning_content`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reasoning {
    /// None: OpenAI has no such member.
    #[default]
    Never,
    /// Those where there is some.
    WhereKnown,
    /// Those, and while the model thinks all with calls: Kimi refuses them without, whoever made the calls.
    WithEveryCall,
}

impl Quirks {
    /// Our request in the protocol's form.
    pub(super) fn encode(self, call: &Call, model: &ModelFacts) -> Result<Encoded, Failure> {
        let (body, names) = request::body(self, call, model)?;
        let names = Arc::new(names);
        Ok(Encoded {
            headers: HeaderMap::new(),
            body: body.into(),
            decoder: Box::new(move || Box::new(decode::Decoder::new(Arc::clone(&names)))),
        })
    }
}

/// `Authorization: Bearer …`, when there is a credential.
pub(super) fn bearer(access: &Access) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    if let Some(secret) = &access.secret {
        headers.insert(AUTHORIZATION, secret.bearer()?);
    }
    Ok(headers)
}
