//! What the summariser is asked (contract 10 §7.4, §7.5). Pure.
//!
//! The request always fits: what is too long loses tool outputs first, the oldest first, then long texts, then the oldest
//! messages (weakness 4, field lesson K4).

use std::borrow::Cow;

use serde_json::Value;

use crate::model::RawMessage;
use crate::model::api::compaction::Limits;

const NEW: &str = "Create a new anchored summary of the conversation that the user gives you, so that another model can go on \
with the work from the summary alone.";

const UPDATE: &str = "Update the anchored summary below with the conversation that the user gives you. Keep what is still true, \
drop what is stale, and merge the new facts.";

const TEMPLATE: &str = "Answer with exactly this structure:

<template>
## Goal
- what the user wants

## Constraints & Preferences
- requirements, choices and tastes of the user

## Progress
### Done
- what is finished
### In Progress
- what is under way
### Blocked
- what is stuck, and why

## Key Decisions
- decision and reason

## Tool Calls Made
- function, target, outcome

## Next Steps
- what to do next, in order

## Critical Context
- facts without which the work cannot go on

## Relevant Files
- path: why it matters
</template>

Rules:
- Keep every section, in this order; an empty one says \"(none)\".
- Terse bullets, no paragraphs.
- Keep paths, commands, error texts and identifiers verbatim.
- Do not mention the summary or that the conversation was compacted.
- Do not echo the template tags.";

const INSTRUCTION: &str = "Summarise this conversation.";
const IMAGE: &str = "[image stripped]";
const TRUNCATED: &str = "... [truncated]";
const LEFT_OUT: &str = "[output left out]";

/// Bytes of text that are one token at least, in any language.
const BYTES_PER_TOKEN: usize = 3;

/// Bytes that stay of a text at least when all do not fit.
const GLIMPSE: usize = 200;

/// What a model can take for a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    /// Bytes of system prompt and conversation.
    pub(super) bytes: usize,
    /// Tokens of the answer, where the window is too small to leave that to the provider.
    pub(super) answer: Option<u64>,
}

/// The part of a window that a summary request may fill: all but what is reserved, or half of a small window.
pub(super) fn space(limit: Limits, reserved: u64) -> Space {
    let input = if limit.input == 0 {
        limit.context
    } else {
        limit.input
    };
    let output = limit.output.min(limit.context / 4);
    let free = input.saturating_sub(reserved).min(limit.context - output);
    let half = input / 2;
    let answer = (free < half).then_some((input - half) / 2);
    let bytes = usize::try_from(free.max(half)).unwrap_or(usize::MAX);
    Space {
        bytes: bytes.saturating_mul(BYTES_PER_TOKEN),
        answer,
    }
}

/// The system prompt. A previous summary gets at most a third of the bytes.
pub(super) fn system(previous: Option<&str>, bytes: usize) -> String {
    match previous {
        None => format!("{NEW}\n\n{TEMPLATE}"),
        Some(previous) => {
            let previous = head_of(previous, bytes / 3);
            format!("{UPDATE}\n<previous-summary>\n{previous}\n</previous-summary>\n\n{TEMPLATE}")
        }
    }
}

/// The conversation as one text of at most so many bytes, but for its frame. Outputs of functions are cut at `output_chars`.
pub(super) fn conversation(head: &[&RawMessage], output_chars: usize, bytes: usize) -> String {
    let mut pieces: Vec<Piece> = head
        .iter()
        .map(|message| Piece::of(message, output_chars))
        .collect();
    let frame = [INSTRUCTION, "", "<conversation>"];
    let close = "</conversation>";
    let framed: usize = frame.iter().chain([&close]).map(|line| line.len() + 1).sum();
    let left_out = fit(&mut pieces, bytes.saturating_sub(framed));
    let mut lines: Vec<Cow<'_, str>> = frame.map(Cow::Borrowed).into();
    if left_out > 0 {
        lines.extend([Cow::Borrowed(""), note(left_out).into()]);
    }
    for piece in pieces {
        lines.extend([String::new().into(), format!("[{}]", piece.role).into()]);
        lines.extend(piece.lines.into_iter().map(Cow::Owned));
    }
    lines.push(close.into());
    lines.join("\n")
}

fn note(left_out: usize) -> String {
    format!("[{left_out} earlier messages left out]")
}

/// A message as the summariser reads it.
#[derive(Debug)]
struct Piece {
    role: String,
    lines: Vec<String>,
}

impl Piece {
    fn of(message: &RawMessage, output_chars: usize) -> Self {
        Self {
            role: message.role().to_owned(),
            lines: lines(message, output_chars),
        }
    }

    fn is_output(&self) -> bool {
        self.role == "function_result"
    }

    /// Bytes with an empty line and the role.
    fn size(&self) -> usize {
        let lines: usize = self.lines.iter().map(|line| line.len() + 1).sum();
        lines + self.role.len() + 4
    }

    /// Cuts lines that are longer than a glimpse, until so many bytes are gone.
    fn shorten(&mut self, mut over: usize) {
        for line in &mut self.lines {
            let before = line.len();
            let keep = before.saturating_sub(over + TRUNCATED.len()).max(GLIMPSE);
            if over > 0 && keep + TRUNCATED.len() < before {
                line.truncate(line.floor_char_boundary(keep));
                line.push_str(TRUNCATED);
                over = over.saturating_sub(before - line.len());
            }
        }
    }
}

/// Text blocks, pictures as a word, calls with their arguments. Outputs are cut.
fn lines(message: &RawMessage, output_chars: usize) -> Vec<String> {
    let is_output = message.role() == "function_result";
    let cut = |text: &str| {
        let text = if is_output {
            truncated(text, output_chars)
        } else {
            text.into()
        };
        text.into_owned()
    };
    let blocks = match message.object().get("content") {
        Some(Value::Array(blocks)) => blocks,
        None | Some(Value::Null) => return Vec::new(),
        // Custom messages of older releases (weakness 12).
        Some(Value::String(text)) => return vec![cut(text)],
        Some(other) => return vec![cut(&other.to_string())],
    };
    let line = |block: &Value| {
        let text = |key: &str| block.get(key).and_then(Value::as_str);
        match text("type")? {
            "text" => Some(cut(text("text")?)),
            "image" => Some(IMAGE.to_owned()),
            "function_call" => {
                let arguments = block.get("arguments").unwrap_or(&Value::Null);
                Some(format!("[tool_call] {} {arguments}", text("function_id")?))
            }
            _ => None,
        }
    };
    blocks.iter().filter_map(line).collect()
}

fn truncated(text: &str, chars: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars) {
        Some((end, _)) => Cow::Owned(text.get(..end).unwrap_or_default().to_owned() + TRUNCATED),
        None => Cow::Borrowed(text),
    }
}

/// Makes pieces fit; answers how many of the oldest were left out.
fn fit(pieces: &mut Vec<Piece>, bytes: usize) -> usize {
    let mut size: usize = pieces.iter().map(Piece::size).sum();
    let mut change = |piece: &mut Piece, how: &dyn Fn(&mut Piece, usize)| {
        if size > bytes {
            let over = size - bytes;
            size -= piece.size();
            how(piece, over);
            size += piece.size();
        }
    };
    for piece in pieces.iter_mut().filter(|piece| piece.is_output()) {
        let is_long = piece.lines.iter().map(String::len).sum::<usize>() > LEFT_OUT.len();
        if is_long {
            change(piece, &|piece, _| piece.lines = vec![LEFT_OUT.to_owned()]);
        }
    }
    for piece in pieces.iter_mut().filter(|piece| piece.role != "user") {
        change(piece, &Piece::shorten);
    }
    for piece in pieces.iter_mut() {
        change(piece, &Piece::shorten);
    }
    if size <= bytes {
        return 0;
    }
    let bytes = bytes.saturating_sub(note(pieces.len()).len() + 2);
    let mut left_out = 0;
    while size > bytes && left_out < pieces.len() {
        size -= pieces.get(left_out).map_or(0, Piece::size);
        left_out += 1;
    }
    pieces.drain(..left_out);
    left_out
}

/// The beginning of a text, cut between characters.
fn head_of(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
