//! The conversation in the form of the Messages protocol (contract 08 §5.3): user and assistant in turn, beginning and
//! ending with the user; each call answered at the start of the next row; nothing empty.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{IDS, Quirks, REDACTED};
use crate::workers::providers::conversation::{Answer, CONTINUE, Entry, NO_IMAGE, NO_OUTPUT, Part};
use crate::workers::providers::ids::Ids;
use crate::workers::providers::names::Names;
use crate::workers::providers::protocol::ModelFacts;

/// Instead of an image the protocol has no type for.
const ODD_IMAGE: &str = "[image left out: only JPEG, PNG, GIF and WebP can be sent]";
const IMAGE_TYPES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// One row.
#[derive(Debug, Serialize)]
pub(super) struct Row<'a> {
    pub(super) role: Role,
    pub(super) content: Vec<Block<'a>>,
    /// Of an assistant: no call in it waits for its result.
    #[serde(skip)]
    pub(super) is_stable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    User,
    Assistant,
}

/// A piece of a row.
#[derive(Debug, Serialize)]
pub(super) struct Block<'a> {
    #[serde(flatten)]
    pub(super) kind: Kind<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<CacheControl>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Kind<'a> {
    Text {
        text: Cow<'a, str>,
    },
    Image {
        source: Source<'a>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: String,
        name: &'a str,
        input: Cow<'a, Value>,
    },
    ToolResult {
        tool_use_id: String,
        content: Content<'a>,
        is_error: bool,
    },
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    Text(Cow<'a, str>),
    Blocks(Vec<Block<'a>>),
}

#[derive(Debug, Serialize)]
pub(super) struct Source<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    media_type: &'a str,
    data: &'a str,
}

/// Upstream keeps what comes up to and including this place.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct CacheControl {
    #[serde(rename = "type")]
    kind: &'static str,
}

pub(super) const EPHEMERAL: CacheControl = CacheControl { kind: "ephemeral" };

impl<'a> From<Kind<'a>> for Block<'a> {
    fn from(kind: Kind<'a>) -> Self {
        Self {
            kind,
            cache_control: None,
        }
    }
}

impl Block<'_> {
    /// Reasoning, shown or hidden.
    pub(super) fn is_thinking(&self) -> bool {
        matches!(self.kind, Kind::Thinking { .. } | Kind::RedactedThinking { .. })
    }

    fn is_result(&self) -> bool {
        matches!(self.kind, Kind::ToolResult { .. })
    }
}

/// The rows of a conversation.
pub(super) fn rows<'a>(
    quirks: Quirks,
    model: &ModelFacts,
    entries: &[Entry<'a>],
    names: &'a Names,
) -> Vec<Row<'a>> {
    let sees = model.supports_vision != Some(false);
    let mut ids = Ids::new(IDS);
    let mut rows = Rows::default();
    for entry in entries {
        match entry {
            Entry::User(parts) => {
                let blocks = parts.iter().filter_map(|part| shown(part, sees));
                rows.add(Role::User, blocks.collect());
            }
            Entry::Assistant(parts) => {
                ids.begin();
                let blocks = parts
                    .iter()
                    .filter_map(|part| said(quirks, part, names, &mut ids));
                rows.add(Role::Assistant, blocks.collect());
            }
            Entry::Answer(answer) => {
                if answer.is_made_up {
                    rows.unsettle();
                }
                rows.add(Role::User, vec![result(answer, &ids, sees)]);
            }
        }
    }
    rows.between_users()
}

/// Whether the newest round of calls began without reasoning, as after a change of provider or level. Within such a round
/// a budget for reasoning is refused.
pub(super) fn continues_without_thinking(rows: &[Row<'_>]) -> bool {
    let is_speech = |row: &Row<'_>| row.role == Role::User && !row.content.iter().all(Block::is_result);
    let begins = rows.iter().rposition(is_speech).map_or(0, |at| at + 1);
    let first = rows.get(begins).and_then(|row| row.content.first());
    first.is_some_and(|block| !block.is_thinking())
}

#[derive(Default)]
struct Rows<'a>(Vec<Row<'a>>);

impl<'a> Rows<'a> {
    /// Neighbours of one role become one row.
    fn add(&mut self, role: Role, blocks: Vec<Block<'a>>) {
        if blocks.is_empty() {
            return;
        }
        match self.0.last_mut().filter(|row| row.role == role) {
            Some(row) => row.content.extend(blocks),
            None => self.0.push(Row {
                role,
                content: blocks,
                is_stable: true,
            }),
        }
    }

    /// A call of the newest assistant row has no result.
    fn unsettle(&mut self) {
        let newest = self.0.iter_mut().rev().find(|row| row.role == Role::Assistant);
        if let Some(row) = newest {
            row.is_stable = false;
        }
    }

    fn between_users(mut self) -> Vec<Row<'a>> {
        let is_user = |row: Option<&Row<'_>>| row.is_some_and(|row| row.role == Role::User);
        let go_on = || Row {
            role: Role::User,
            content: vec![text_block(CONTINUE)],
            is_stable: true,
        };
        if !is_user(self.0.first()) {
            self.0.insert(0, go_on());
        }
        if !is_user(self.0.last()) {
            self.0.push(go_on());
        }
        self.0
    }
}

fn text_block<'a>(text: impl Into<Cow<'a, str>>) -> Block<'a> {
    Kind::Text { text: text.into() }.into()
}

/// Blank text is refused upstream, and would be for ever.
fn text<'a>(text: &Cow<'a, str>) -> Option<Block<'a>> {
    (!text.trim().is_empty()).then(|| text_block(text.clone()))
}

/// A part that the user shows.
fn shown<'a>(part: &Part<'a>, sees: bool) -> Option<Block<'a>> {
    match part {
        Part::Text(content) => text(content),
        Part::Image { mime, data } => Some(image(mime, data, sees)),
        Part::Thinking { .. } | Part::Call { .. } => None,
    }
}

fn image<'a>(mime: &'a str, data: &'a str, sees: bool) -> Block<'a> {
    if !sees {
        return text_block(NO_IMAGE);
    }
    if !IMAGE_TYPES.contains(&mime) {
        return text_block(ODD_IMAGE);
    }
    let source = Source {
        kind: "base64",
        media_type: mime,
        data,
    };
    Kind::Image { source }.into()
}

/// A part that the model said.
fn said<'a>(quirks: Quirks, part: &Part<'a>, names: &'a Names, ids: &mut Ids) -> Option<Block<'a>> {
    match part {
        Part::Text(content) => text(content),
        Part::Image { .. } => None,
        Part::Thinking {
            text: thinking,
            signature,
            provider,
        } => {
            if !provider.is_empty() && *provider != quirks.provider {
                return text(&Cow::Borrowed(*thinking));
            }
            // Without the signature it is refused; changed or moved, too.
            let signature = signature.filter(|signature| !signature.is_empty())?;
            let kind = match signature.strip_prefix(REDACTED) {
                Some(data) => Kind::RedactedThinking { data },
                None => Kind::Thinking { thinking, signature },
            };
            Some(kind.into())
        }
        Part::Call { id, name, arguments } => {
            let kind = Kind::ToolUse {
                id: ids.give(id),
                name: names.encode(name),
                input: match arguments {
                    Value::Object(_) => Cow::Borrowed(*arguments),
                    _ => Cow::Owned(Value::Object(Map::new())),
                },
            };
            Some(kind.into())
        }
    }
}

fn result<'a>(answer: &Answer<'a>, ids: &Ids, sees: bool) -> Block<'a> {
    let images = answer.images.iter().filter_map(|part| shown(part, sees));
    let images: Vec<_> = images.collect();
    let content = match (text(&answer.text), images.is_empty()) {
        (Some(_), true) => Content::Text(answer.text.clone()),
        (None, true) => Content::Text(Cow::Borrowed(NO_OUTPUT)),
        (said, false) => Content::Blocks(said.into_iter().chain(images).collect()),
    };
    let kind = Kind::ToolResult {
        tool_use_id: ids.of(&answer.call_id),
        content,
        is_error: answer.is_error,
    };
    kind.into()
}
