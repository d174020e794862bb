//! What upstream is asked to cache (contract 08 §5.4): system prompt, tools, and the conversation up to the last message
//! that will not change any more. At most three marks; the protocol allows four.

use serde::Serialize;

use super::request::Tool;
use super::rows::{CacheControl, EPHEMERAL, Role, Row};

/// Shorter than this, caching saves nothing; characters.
const THRESHOLD: usize = 4096;

/// The system prompt.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum System<'a> {
    Text(&'a str),
    Marked([Marked<'a>; 1]),
}

#[derive(Debug, Serialize)]
pub(super) struct Marked<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'a str,
    cache_control: CacheControl,
}

/// The system prompt, with a mark when it is long.
pub(super) fn system(prompt: &str, is_on: bool) -> System<'_> {
    if is_on && prompt.chars().count() >= THRESHOLD {
        System::Marked([Marked {
            kind: "text",
            text: prompt,
            cache_control: EPHEMERAL,
        }])
    } else {
        System::Text(prompt)
    }
}

/// Marks the last tool when they are long together.
pub(super) fn mark_tools(tools: &mut [Tool<'_>]) {
    let lengths = tools.iter().map(|tool| {
        let json = serde_json::to_string(tool).unwrap_or_default();
        json.chars().count()
    });
    if lengths.sum::<usize>() >= THRESHOLD
        && let Some(last) = tools.last_mut()
    {
        last.cache_control = Some(EPHEMERAL);
    }
}

/// Marks the end of the newest assistant row whose calls are all answered.
pub(super) fn mark_rows(rows: &mut [Row<'_>]) {
    let newest = rows
        .iter_mut()
        .rev()
        .find(|row| row.role == Role::Assistant && row.is_stable);
    let last = newest.and_then(|row| row.content.iter_mut().rev().find(|block| !block.is_thinking()));
    if let Some(block) = last {
        block.cache_control = Some(EPHEMERAL);
    }
}
