//! `engine::workers::register`: what a worker says of itself (contract 00 §1.5).

use serde::Deserialize;
use serde_json::Value;

use super::frame::Namespace;
use crate::bus::embedded::input;
use crate::bus::embedded::peer::WorkerFacts;
use crate::error::Result;
use crate::model::lenient;

/// The function that takes it. The listener answers for it, because it knows whose connection it is.
pub(super) const REGISTER: &str = "engine::workers::register";

/// Longest name and description that are kept.
const MAX_CHARS: usize = 280;

/// The request; other members are not kept.
#[derive(Deserialize)]
struct Facts {
    #[serde(default, deserialize_with = "lenient::optional")]
    runtime: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    version: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    name: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    description: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    os: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    pid: Option<u32>,
    #[serde(default, deserialize_with = "lenient::optional")]
    isolation: Option<String>,
    #[serde(default)]
    namespace: Namespace,
}

/// What a worker says of itself, and where it wants to be.
pub(super) struct Said {
    pub(super) facts: WorkerFacts,
    pub(super) namespace: Namespace,
}

/// Reads the request of a worker that connects from this address.
///
/// # Errors
/// [`crate::error::Error::Undecodable`] for what is no object.
pub(super) fn read(payload: Value, ip_address: &str) -> Result<Said> {
    let said: Facts = input(REGISTER, payload)?;
    let facts = WorkerFacts {
        name: said.name.as_deref().and_then(clean),
        description: said.description.as_deref().and_then(clean),
        version: said.version,
        runtime: said.runtime.unwrap_or_else(|| "unknown".to_owned()),
        os: said.os,
        pid: said.pid,
        isolation: said.isolation,
        ip_address: Some(ip_address.to_owned()),
    };
    Ok(Said {
        facts,
        namespace: said.namespace,
    })
}

/// Without control and bidirectional marks, trimmed and cut; nothing left counts as absent.
fn clean(text: &str) -> Option<String> {
    let is_mark = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let kept: String = text.chars().filter(|c| !is_mark(*c)).collect();
    let cut: String = kept.trim().chars().take(MAX_CHARS).collect();
    (!cut.is_empty()).then_some(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned() {
        assert_eq!(clean(" a\u{202e}b\u{7}\n "), Some("ab".to_owned()));
        assert_eq!(clean(" \u{200f}\t"), None);
        assert_eq!(clean(&"é".repeat(300)), Some("é".repeat(280)));
    }
}
