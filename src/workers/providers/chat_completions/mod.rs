//! The Chat Completions protocol, spoken by OpenAI and by servers that imitate it (contract 08 §6).
//!
//! One engine; what differs between vendors is a member of [`Quirks`].

mod decode;
mod request;
mod slots;
mod vendor;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, HeaderMap};

pub use vendor::{Local, Vendor};

use super::access::Access;
use super::failure::Failure;
use super::protocol::{Call, Encoded, ModelFacts};
use crate::model::ThinkingLevel;

/// Effort parameter for a model: id, what the catalog knows of its thinking, the level of the run, the default word.
pub type Effort = fn(&str, Option<bool>, Option<ThinkingLevel>, Option<&str>) -> Option<&'static str>;

/// How a vendor's form of the protocol differs (contract 08 §6, §7).
#[derive(Debug, Clone, Copy, Default)]
pub struct Quirks {
    /// Assistant rows carry `reasoning_content`. OpenAI never gets it.
    pub sends_reasoning: bool,
    /// Rows with calls must carry it when the model thinks: Kimi refuses them without, whoever made the calls.
    pub calls_need_reasoning: bool,
    /// Tool rows carry `is_error`; OpenAI refuses unknown members.
    pub sends_is_error: bool,
    /// Some chat templates need a user row: `(continue)` is added at the end when there is none.
    pub needs_user_row: bool,
    /// Whether and how `reasoning_effort` is sent.
    pub effort: Option<Effort>,
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
