//! What travels beside the payload of a call.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use crate::telemetry::ids_of;

/// Ids that group traces; every nested call inherits them (contract 01 §8.8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baggage {
    /// `iii.session.id`.
    pub session_id: Option<Arc<str>>,
    /// `iii.message.id`.
    pub message_id: Option<Arc<str>>,
    /// The other members as they came, such as `iii.tag.kind=chat`; passed on unread.
    pub others: Option<Arc<str>>,
}

const SESSION: &str = "iii.session.id";
const MESSAGE: &str = "iii.message.id";
/// Rewritten for each call (contract 00 §11.2).
const FUNCTION: &str = "iii.function.id";

impl Baggage {
    /// Reads the text of a W3C `baggage` header. Members without `=` are left out.
    pub fn parse(text: &str) -> Self {
        let mut baggage = Self::default();
        let mut others = Vec::new();
        for member in text.split(',').map(str::trim) {
            let Some((key, value)) = member.split_once('=') else {
                continue;
            };
            let value = value.split(';').next().unwrap_or(value);
            match key.trim() {
                SESSION => baggage.session_id = unescaped(value),
                MESSAGE => baggage.message_id = unescaped(value),
                FUNCTION => {}
                _ => others.push(member),
            }
        }
        if !others.is_empty() {
            baggage.others = Some(others.join(",").into());
        }
        baggage
    }

    /// The text for a call of this function; `None` when there is nothing to carry.
    pub fn render(&self, function_id: &str) -> Option<String> {
        if *self == Self::default() {
            return None;
        }
        let ids = [
            (SESSION, self.session_id.as_deref()),
            (MESSAGE, self.message_id.as_deref()),
            (FUNCTION, Some(function_id)),
        ];
        let mut members: Vec<String> = ids
            .into_iter()
            .filter_map(|(key, value)| Some(format!("{key}={}", escaped(value?))))
            .collect();
        members.extend(self.others.as_deref().map(str::to_owned));
        Some(members.join(","))
    }
}

/// Percent-encodes what a baggage value must not hold; `:` and `/` stay readable.
fn escaped(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/@+*!$&'()".contains(&byte);
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if is_plain(byte) {
            text.push(char::from(byte));
        } else {
            text.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 15)]);
        }
    }
    text
}

fn hex_digit(value: u8) -> char {
    char::from_digit(value.into(), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

/// The text that was percent-encoded; what is no valid escape stays. Empty counts as absent.
fn unescaped(value: &str) -> Option<Arc<str>> {
    let bytes = value.trim().as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let code = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = code {
            plain.push(high * 16 + low);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            plain.push(first);
            rest = tail;
        }
    }
    let text = String::from_utf8(plain).ok()?;
    (!text.is_empty()).then(|| text.into())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Context of the call being handled; nested calls inherit trace, baggage and cancellation.
#[derive(Debug, Clone, Default)]
pub struct CallContext {
    /// Trace grouping.
    pub baggage: Baggage,
    /// Per-invocation metadata, such as an idempotency key.
    pub metadata: Option<Arc<Value>>,
    /// W3C trace parent as the caller sent it.
    pub traceparent: Option<Arc<str>>,
    /// Set when the caller asked for the call to stop; handlers of long work watch it.
    pub cancel: Option<CancellationToken>,
    /// The caller commits soon; writes may be left here. Never inherited.
    pub batch: Option<Batch>,
}

impl CallContext {
    /// Resolves when the caller wants the call stopped; never without a token.
    pub async fn cancelled(&self) {
        match &self.cancel {
            Some(token) => token.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// The ids named in a payload replace the inherited ones (contract 01 §8.8).
    pub(super) fn with_ids_of(mut self, payload: &Value) -> Self {
        let (session_id, message_id) = ids_of(payload);
        if let Some(id) = session_id {
            self.baggage.session_id = Some(id.into());
        }
        if let Some(id) = message_id {
            self.baggage.message_id = Some(id.into());
        }
        self
    }

    /// The context of a nested call: same trace, other metadata.
    pub(super) fn nested(&self, options: &CallOptions) -> Self {
        Self {
            baggage: self.baggage.clone(),
            metadata: options.metadata.clone(),
            traceparent: self.traceparent.clone(),
            cancel: options.cancel.clone().or_else(|| self.cancel.clone()),
            batch: options.batch.clone(),
        }
    }
}

/// How one call is made.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    /// Deadline of the caller; the configured default when absent. The handler goes on after it.
    pub timeout: Option<Duration>,
    /// Metadata for the callee.
    pub metadata: Option<Arc<Value>>,
    /// Cancels this call; else the caller's own token is inherited.
    pub cancel: Option<CancellationToken>,
    /// Where the callee may leave its writes, for the commit of the caller.
    pub batch: Option<Batch>,
}

impl CallOptions {
    /// A deadline.
    pub fn timeout_ms(ms: u64) -> Self {
        Self {
            timeout: Some(Duration::from_millis(ms)),
            ..Self::default()
        }
    }

    /// Adds metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Value) -> Self {
        self.metadata = Some(Arc::new(metadata));
        self
    }

    /// Offers a batch.
    #[must_use]
    pub fn with_batch(mut self, batch: &Batch) -> Self {
        self.batch = Some(batch.clone());
        self
    }

    /// Adds a cancel token.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancellationToken) -> Self {
        self.cancel = Some(cancel);
        self
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn baggage_survives_a_hop_and_names_the_function() {
        let text =
            "iii.session.id=s%201%2C, iii.function.id=old::one,iii.tag.kind=chat;p=1,junk,iii.message.id=m";
        let baggage = Baggage::parse(text);
        assert_eq!(
            baggage,
            Baggage {
                session_id: Some("s 1,".into()),
                message_id: Some("m".into()),
                others: Some("iii.tag.kind=chat;p=1".into()),
            }
        );
        let rendered = baggage.render("a::b").unwrap();
        assert_eq!(
            rendered,
            "iii.session.id=s%201%2C,iii.message.id=m,iii.function.id=a::b,iii.tag.kind=chat;p=1"
        );
        assert_eq!(Baggage::parse(&rendered), baggage);
    }

    #[test]
    fn odd_baggage_does_no_harm() {
        assert_eq!(Baggage::parse(""), Baggage::default());
        assert_eq!(Baggage::parse("iii.session.id=,=,;,%").session_id, None);
        assert_eq!(
            Baggage::parse("iii.session.id=100%,x").session_id.as_deref(),
            Some("100%")
        );
        assert_eq!(Baggage::parse("iii.session.id=%ff").session_id, None);
        assert_eq!(Baggage::default().render("f"), None);
    }
}
