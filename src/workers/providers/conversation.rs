//! The conversation as every upstream wants it: each call answered right after the message that made it, nothing empty.
//!
//! Messages are shared JSON of any origin, so they are read tolerantly and by reference: what does not fit is left out,
//! it never fails a turn (contract 08 §5.3, §6.2 OURS).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::model::RawMessage;
use crate::model::call::is_denied;

/// The answer to a call that has none; the words are relied on (contract 08 §5.3).
const INTERRUPTED: &str = "The function call was interrupted before completing; it has no result.";

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
            },
        });
        kept.push(Part::Call { id, name, arguments });
    }
    (kept, answers)
}

/// Results by call id, with their places. Some servers use the same ids again in each turn, so a call owns only the results up to
/// the next assistant message that uses its id; of several the last one counts.
struct Results<'a> {
    messages: &'a [RawMessage],
    places: HashMap<&'a str, Vec<usize>>,
    calls: HashMap<&'a str, Vec<usize>>,
    used: HashSet<usize>,
}

impl<'a> Results<'a> {
    fn of(messages: &'a [RawMessage]) -> Self {
        let mut results: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut calls: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, message) in messages.iter().enumerate() {
            match message.role() {
                "function_result" => {
                    if let Some(id) = message
                        .text_member("function_call_id")
                        .filter(|id| !id.is_empty())
                    {
                        results.entry(id).or_default().push(at);
                    }
                }
                "assistant" => {
                    for block in blocks(message) {
                        if let Some(id) = call_id(block) {
                            calls.entry(id).or_default().push(at);
                        }
                    }
                }
                _ => {}
            }
        }
        Self {
            messages,
            places: results,
            calls,
            used: HashSet::new(),
        }
    }

    fn claim(&mut self, id: &str, at: usize) -> Option<&'a RawMessage> {
        let next_use = self
            .calls
            .get(id)
            .and_then(|places| places.iter().find(|place| **place > at))
            .copied()
            .unwrap_or(usize::MAX);
        let places = self.places.get(id)?;
        let mut own = places.iter().filter(|place| (at..next_use).contains(*place));
        self.used.extend(own.clone());
        let last = match own.next_back() {
            Some(last) => *last,
            // Before its call: an odd order, but the only answer there is.
            None => *places
                .iter()
                .find(|place| !self.used.contains(place) && **place < at)?,
        };
        self.used.insert(last);
        self.messages.get(last)
    }
}

fn blocks(message: &RawMessage) -> &[Value] {
    match message.object().get("content") {
        Some(Value::Array(blocks)) => blocks,
        _ => &[],
    }
}

fn call_id(block: &Value) -> Option<&str> {
    (block.get("type")?.as_str()? == "function_call")
        .then(|| block.get("id")?.as_str())
        .flatten()
}

fn parts(message: &RawMessage) -> Vec<Part<'_>> {
    if let Some(text) = message.text_member("content") {
        return text_part(text).into_iter().collect();
    }
    blocks(message).iter().filter_map(part).collect()
}

fn text_part(text: &str) -> Option<Part<'_>> {
    (!text.is_empty()).then_some(Part::Text(Cow::Borrowed(text)))
}

fn part(block: &Value) -> Option<Part<'_>> {
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
mod tests {
    use super::*;
    use crate::model::call::flat_text;
    use crate::model::{AgentMessage, ContentBlock};
    use pretty_assertions::assert_eq;
    use serde_json::json;

    /// Entries in short: `u:text`, `a:text+calls`, `r:id=text`.
    fn short(messages: Value) -> Vec<String> {
        let Value::Array(items) = messages else {
            panic!("an array")
        };
        let messages: Vec<_> = items.into_iter().filter_map(RawMessage::stored).collect();
        let show = |parts: &[Part]| {
            let shown = parts.iter().map(|part| match part {
                Part::Text(text) => text.to_string(),
                Part::Image { mime, .. } => format!("<{mime}>"),
                Part::Thinking { text, .. } => format!("({text})"),
                Part::Call { id, .. } => format!("!{id}"),
            });
            shown.collect::<Vec<_>>().join("+")
        };
        entries(&messages)
            .iter()
            .map(|entry| match entry {
                Entry::User(parts) => format!("u:{}", show(parts)),
                Entry::Assistant(parts) => format!("a:{}", show(parts)),
                Entry::Answer(answer) => format!("r:{}={}", answer.call_id, answer.text),
            })
            .collect()
    }

    fn user(text: &str) -> Value {
        json!({"role": "user", "content": [{"type": "text", "text": text}], "timestamp": 1})
    }

    fn calls(ids: &[&str]) -> Value {
        let blocks: Vec<_> = ids
            .iter()
            .map(|id| json!({"type": "function_call", "id": id, "function_id": "agent_trigger", "arguments": {}}))
            .collect();
        json!({"role": "assistant", "content": blocks, "stop_reason": "function_call", "timestamp": 1})
    }

    fn result(id: &str, text: &str) -> Value {
        json!({"role": "function_result", "function_call_id": id, "function_id": "f", "timestamp": 1,
            "content": [{"type": "text", "text": text}], "details": {}, "is_error": false})
    }

    #[test]
    fn c08_case_6_repeated_results_the_latest_wins() {
        let seen = short(json!([
            user("q"),
            calls(&["a", "b", "c"]),
            result("a", "a1"),
            result("b", "b1"),
            result("a", "a2"),
            result("c", "c1"),
            result("b", "b2")
        ]));
        assert_eq!(seen, ["u:q", "a:!a+!b+!c", "r:a=a2", "r:b=b2", "r:c=c1"]);
    }

    #[test]
    fn c08_case_7_and_8_unanswered_calls_get_an_answer() {
        let seen = short(json!([user("q1"), calls(&["x"]), user("q2")]));
        assert_eq!(seen[..2], ["u:q1", "a:!x"]);
        assert!(seen[2].starts_with("r:x=") && seen[2].contains("interrupted before completing"));
        assert_eq!(seen[3], "u:q2");
    }

    #[test]
    fn late_results_move_up_and_orphans_become_user_text() {
        let seen = short(json!([
            result("gone", "old"),
            calls(&["x"]),
            user("meanwhile"),
            result("x", "done")
        ]));
        let expected = [
            "u:[Result of an earlier call of f]\nold",
            "a:!x",
            "r:x=done",
            "u:meanwhile",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn ids_that_a_server_uses_again_stay_with_their_own_turn() {
        let seen = short(json!([
            calls(&["call_0"]),
            result("call_0", "one"),
            calls(&["call_0"]),
            result("call_0", "two")
        ]));
        assert_eq!(seen, ["a:!call_0", "r:call_0=one", "a:!call_0", "r:call_0=two"]);
    }

    #[test]
    fn empty_odd_and_failed_messages_are_left_out() {
        let seen = short(json!([
            {"role": "user", "content": []},
            {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "new"}, 7]},
            {"role": "user", "content": "plain"},
            {"role": "custom", "custom_type": "x", "content": [{"type": "text", "text": "no"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "502 page"}], "stop_reason": "error"},
            {"role": "assistant", "content": [], "stop_reason": "end"},
            {"role": "robot", "content": "x"},
            {"content": "x"},
            {"role": "assistant", "content": [{"type": "function_call", "id": "", "function_id": "f"},
                {"type": "function_call", "id": "a"}, {"type": "text", "text": "said"}]}
        ]));
        assert_eq!(
            seen,
            [
                "u:plain".to_owned(),
                "a:!call_8_0+said".to_owned(),
                format!("r:call_8_0={INTERRUPTED}")
            ]
        );
    }

    #[test]
    fn the_calls_of_a_failed_message_stay_only_when_they_were_run() {
        let mut failed = calls(&["a", "b"]);
        failed["stop_reason"] = json!("error");
        assert_eq!(short(json!([failed, result("b", "ran")])), ["a:!b", "r:b=ran"]);
    }

    #[test]
    fn c08_case_9_denials_have_the_form_of_contract_01() {
        let message = json!({"role": "function_result", "function_call_id": "c", "function_id": "f", "is_error": true,
            "content": [{"type": "text", "text": "no"}, {"type": "text", "text": "way"}],
            "details": {"status": "denied", "denied_by": "user"}, "timestamp": 1});
        let raw = RawMessage::new(message).unwrap();
        let Some(AgentMessage::FunctionResult(typed)) = raw.typed() else {
            panic!("a function result")
        };
        let answer = read_answer(Cow::Borrowed("c"), &raw);
        assert_eq!(answer.text, flat_text(&typed.content, &typed.details));
        assert_eq!(
            answer.text,
            "[PERMISSION_DENIED]\n{\"status\":\"denied\",\"denied_by\":\"user\"}\n\nno\nway"
        );
        assert_eq!(typed.content[0], ContentBlock::text("no"));
    }
}
