//! What the server answers, piece by piece.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::Semaphore;

use super::{Dialect, chat, messages};

/// One answer: a status, headers, and a body in steps.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    /// Before the headers are sent.
    pub(super) gate: Option<Gate>,
    pub(super) body: Body,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    /// A model's turn, written as the stream of the dialect that asks.
    Turn {
        parts: Vec<Part>,
        usage: Option<[u64; 3]>,
    },
    /// Bytes as given.
    Raw(Vec<Step>),
}

/// A part of a turn.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Thinks(String),
    Says { text: String, deltas: usize },
    Calls(Vec<[String; 3]>),
}

impl Part {
    fn bytes(&self) -> usize {
        match self {
            Self::Thinks(text) | Self::Says { text, .. } => text.len(),
            Self::Calls(calls) => calls.iter().flatten().map(String::len).sum(),
        }
    }
}

/// A step of a raw body.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends bytes, as a piece of their own.
    Send(Bytes),
    /// Waits until the gate is released.
    Wait(Gate),
    /// Breaks the connection in the middle of the body.
    Break,
    /// Sends the same bytes for ever.
    Forever(Bytes),
}

impl Step {
    /// Sends text.
    pub fn send(text: impl Into<Vec<u8>>) -> Self {
        Self::Send(text.into().into())
    }
}

/// A door that a test opens; each release lets one waiter through.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets one waiter through, now or later.
    pub fn release(&self) {
        self.0.add_permits(1);
    }

    pub(super) async fn wait(&self) {
        // The semaphore is never closed.
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

impl Reply {
    /// Text in so many deltas.
    pub fn says(text: impl Into<String>, deltas: usize) -> Self {
        Self::turn(Part::Says {
            text: text.into(),
            deltas,
        })
    }

    /// Calls: id, name, arguments as JSON text. The argument text comes in two pieces, as models send it.
    pub fn calls<'a>(calls: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> Self {
        let calls = calls
            .into_iter()
            .map(|(id, name, arguments)| [id, name, arguments].map(str::to_owned));
        Self::turn(Part::Calls(calls.collect()))
    }

    /// Reasoning; continue with [`Reply::then`].
    pub fn thinks(text: impl Into<String>) -> Self {
        Self::turn(Part::Thinks(text.into()))
    }

    /// A failure before any stream: status and body.
    pub fn fails(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::plain(status, body).with_header("content-type", "application/json")
    }

    /// Any body, as a stream.
    pub fn raw(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".into(), "text/event-stream".into())],
            gate: None,
            body: Body::Raw(steps.into_iter().collect()),
        }
    }

    /// No answer, not even headers, until the gate is released; then an empty answer.
    pub fn hangs(gate: Gate) -> Self {
        Self::says("", 0).after(gate)
    }

    /// A listing of models.
    pub fn models<'a>(ids: impl IntoIterator<Item = &'a str>) -> Self {
        let data: Vec<_> = ids
            .into_iter()
            .map(|id| json!({"id": id, "object": "model"}))
            .collect();
        Self::fails(200, json!({"object": "list", "data": data}).to_string())
    }

    /// Goes on with the parts of another turn.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        if let (
            Body::Turn { parts, usage },
            Body::Turn {
                parts: more,
                usage: later,
            },
        ) = (&mut self.body, next.body)
        {
            parts.extend(more);
            *usage = later.or(*usage);
        }
        self
    }

    /// Tokens reported at the end: prompt, completion, and how many of the prompt were cached. Else they are estimated.
    #[must_use]
    pub fn with_usage(mut self, prompt: u64, completion: u64, cached: u64) -> Self {
        if let Body::Turn { usage, .. } = &mut self.body {
            *usage = Some([prompt, completion, cached]);
        }
        self
    }

    /// Adds or replaces a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Sends nothing before the gate is released.
    #[must_use]
    pub fn after(mut self, gate: Gate) -> Self {
        self.gate = Some(gate);
        self
    }

    fn plain(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            gate: None,
            body: Body::Raw(vec![Step::send(body)]),
        }
    }

    fn turn(part: Part) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".into(), "text/event-stream".into())],
            gate: None,
            body: Body::Turn {
                parts: vec![part],
                usage: None,
            },
        }
    }

    /// The body's steps in a dialect, for the model that was asked; `prompt_bytes` is for the estimate of tokens.
    pub(super) fn steps(&self, dialect: Dialect, model: &str, prompt_bytes: usize) -> Vec<Step> {
        match &self.body {
            Body::Raw(steps) => steps.clone(),
            Body::Turn { parts, usage } => {
                let generated: usize = parts.iter().map(Part::bytes).sum();
                let usage = usage.unwrap_or_else(|| [tokens(prompt_bytes), tokens(generated), 0]);
                match dialect {
                    Dialect::ChatCompletions => chat::steps(parts, usage, model),
                    Dialect::Messages => messages::steps(parts, usage, model),
                }
            }
        }
    }
}

/// Rough, as everywhere: four bytes make a token.
fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(4)).unwrap_or(u64::MAX)
}

/// Cuts a text into at most `n` pieces of about the same number of characters.
pub(super) fn pieces(text: &str, n: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let size = chars.len().div_ceil(n.max(1)).max(1);
    chars.chunks(size).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_text_is_cut_into_the_asked_number_of_pieces() {
        assert_eq!(pieces("Hello", 2), ["Hel", "lo"]);
        assert_eq!(pieces("é😀", 5), ["é", "😀"]);
        assert_eq!(pieces("", 3), Vec::<String>::new());
        assert_eq!(pieces("ab", 0), ["ab"]);
    }
}
