//! The conversation as every upstream wants it: each call answered right after the message that made it, nothing empty.
//!
//! Messages are shared JSON of any origin, so they are read tolerantly and by reference: what does not fit is left out,
//! it never fails a turn (contract 08 §5.3, §6.2 OURS).

mod results;

use std::borrow::Cow;
use std::collections::HashSet;

use results::Results;
use serde_json::Value;

use crate::model::RawMessage;
use crate::model::call::is_denied;

/// The answer to a call that has none; the words are relied on (contract 08 §5.3).
const INTERRUPTED: &str = "The function call was interrupted before completing; it has no result.";

/// Where a row of the user must be, and there is none.
pub(super) const CONTINUE: &str = "(continue)";
/// The text of an empty result: some servers refuse empty ones.
pub(super) const NO_OUTPUT: &str = "(no output)";
/// Instead of an image the model cannot take: an omission the user can see.
pub(super) const NO_IMAGE: &str = "[image left out: this model is not known to take images]";

/// One entry, in wire order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry<'a> {
    /// Speech of the user.
    User(Vec<Part<'a>>),
    /// Speech, reasoning and calls of the model.
    Assistant(Vec<Part<'a>>),
    /// The answer to a call of the assistant entry before it.
    Answer(Answer<'a>),
}

/// A piece of an entry; texts are never empty.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part<'a> {
    Text(Cow<'a, str>),
    Image {
        mime: &'a str,
        data: &'a str,
    },
    Thinking {
        text: &'a str,
        signature: Option<&'a str>,
        /// Who reasoned; empty when nobody says.
        provider: &'a str,
    },
    Call {
        id: Cow<'a, str>,
        name: &'a str,
        arguments: &'a Value,
    },
}

/// A result of a call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer<'a> {
    pub(super) call_id: Cow<'a, str>,
    /// Flat text with the denial marker; may be empty.
    pub(super) text: Cow<'a, str>,
    pub(super) images: Vec<Part<'a>>,
    pub(super) is_error: bool,
    /// There was no result; this one says so.
    pub(super) is_made_up: bool,
}

/// Reads and repairs a conversation.
pub(super) fn entries(messages: &[RawMessage]) -> Vec<Entry<'_>> {
    let mut results = Results::of(messages);
    let mut entries = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        match message.role() {
            "user" => {
                let parts = parts(message);
                if !parts.is_empty() {
                    entries.push(Entry::User(parts));
                }
            }
            "assistant" => {
                let (parts, answers) = assistant(message, at, &mut results);
                if !parts.is_empty() {
                    entries.push(Entry::Assistant(parts));
                    entries.extend(answers.into_iter().map(Entry::Answer));
                }
            }
            "function_result" if !results.used.contains(&at) => {
                entries.extend(orphan(message).map(|part| Entry::User(vec![part])));
            }
            _ => {}
        }
    }
    entries
}

/// An assistant message with the answers to its calls.
///
/// Speech of a failed message never goes upstream: it may be a gateway's error page. Its calls do when they were run.
fn assistant<'a>(
    message: &'a RawMessage,
    at: usize,
    results: &mut Results<'a>,
) -> (Vec<Part<'a>>, Vec<Answer<'a>>) {
    let failed = message.text_member("stop_reason") == Some("error");
    let mut kept = Vec::new();
    let mut answers = Vec::new();
    let mut seen = HashSet::new();
    for part in parts(message) {
        let Part::Call { id, name, arguments } = part else {
            if !failed {
                kept.push(part);
            }
            continue;
        };
        let id = if id.is_empty() {
            Cow::Owned(format!("call_{at}_{}", seen.len()))
        } else {
            id
        };
        if !seen.insert(id.clone()) {
            continue;
        }
        let answer = results.claim(&id, at);
        if failed && answer.is_none() {
            continue;
        }
        answers.push(match answer {
            Some(result) => read_answer(id.clone(), result),
            None => Answer {
                call_id: id.clone(),
                text: Cow::Borrowed(INTERRUPTED),
                images: Vec::new(),
                is_error: true,
                is_made_up: true,
            },
        });
        kept.push(Part::Call { id, name, arguments });
    }
    (kept, answers)
}

fn blocks(message: &RawMessage) -> &[Value] {
    match message.object().get("content") {
        Some(Value::Array(blocks)) => blocks,
        _ => &[],
    }
}

fn parts(message: &RawMessage) -> Vec<Part<'_>> {
    if let Some(text) = message.text_member("content") {
        return text_part(text).into_iter().collect();
    }
    let provider = message.text_member("provider").unwrap_or_default();
    let parts = blocks(message).iter().filter_map(|block| part(block, provider));
    parts.collect()
}

fn text_part(text: &str) -> Option<Part<'_>> {
    (!text.is_empty()).then_some(Part::Text(Cow::Borrowed(text)))
}

fn part<'a>(block: &'a Value, provider: &'a str) -> Option<Part<'a>> {
    let text = |key: &str| block.get(key).and_then(Value::as_str);
    match text("type")? {
        "text" => text_part(text("text")?),
        "image" => Some(Part::Image {
            mime: text("mime")?,
            data: text("data").filter(|data| !data.is_empty())?,
        }),
        "thinking" => Some(Part::Thinking {
            text: text("text")?,
            signature: text("signature"),
            provider,
        }),
        "function_call" => Some(Part::Call {
            id: Cow::Borrowed(text("id").unwrap_or_default()),
            name: text("function_id").filter(|name| !name.is_empty())?,
            arguments: block.get("arguments").unwrap_or(&Value::Null),
        }),
        _ => None,
    }
}

fn read_answer<'a>(call_id: Cow<'a, str>, result: &'a RawMessage) -> Answer<'a> {
    let (texts, images): (Vec<_>, Vec<_>) = parts(result)
        .into_iter()
        .filter(|part| matches!(part, Part::Text(_) | Part::Image { .. }))
        .partition(|part| matches!(part, Part::Text(_)));
    Answer {
        call_id,
        text: flat(joined(&texts), result.object().get("details")),
        images,
        is_error: result.object().get("is_error") == Some(&Value::Bool(true)),
        is_made_up: false,
    }
}

/// The text form of contract 01 §3, as `model::call::flat_text` makes it of typed blocks.
fn flat<'a>(body: Cow<'a, str>, details: Option<&Value>) -> Cow<'a, str> {
    match details.filter(|details| is_denied(details)) {
        Some(details) => Cow::Owned(format!("[PERMISSION_DENIED]\n{details}\n\n{body}")),
        None => body,
    }
}

/// All texts, one per line.
pub(super) fn joined<'a>(parts: &[Part<'a>]) -> Cow<'a, str> {
    let mut texts = parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text),
        Part::Image { .. } | Part::Thinking { .. } | Part::Call { .. } => None,
    });
    let first = texts.next().cloned().unwrap_or_default();
    texts.fold(first, |mut all, text| {
        let all_owned = all.to_mut();
        all_owned.push('\n');
        all_owned.push_str(text);
        all
    })
}

/// A result whose call is gone, for example after a compaction.
fn orphan(message: &RawMessage) -> Option<Part<'_>> {
    let answer = read_answer(Cow::Borrowed(""), message);
    if answer.text.is_empty() {
        return None;
    }
    let name = message.text_member("function_id").unwrap_or("a function");
    let text = format!("[Result of an earlier call of {name}]\n{}", answer.text);
    Some(Part::Text(Cow::Owned(text)))
}

#[cfg(test)]
mod tests;
