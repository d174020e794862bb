//! Our request → a Chat Completions body (contract 08 §6.1, §6.2).

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use super::{Quirks, Reasoning};
use crate::model::ErrorKind;
use crate::workers::providers::conversation::{
    Answer, CONTINUE, Entry, NO_IMAGE, NO_OUTPUT, Part, entries, joined,
};
use crate::workers::providers::failure::Failure;
use crate::workers::providers::ids::{Ids, Rule};
use crate::workers::providers::names::Names;
use crate::workers::providers::protocol::{Call, ModelFacts};

/// Where reasoning must be sent and there was none; an empty text would count as missing.
const NO_REASONING: &str = " ";

/// Members in a fixed order: prompt caches compare text.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_completion_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'a str>,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    messages: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct Tool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: ToolFunction<'a>,
}

#[derive(Serialize)]
struct ToolFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum Row<'a> {
    System {
        content: &'a str,
    },
    User {
        content: Content<'a>,
    },
    Assistant {
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reasoning_content: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall<'a>>,
    },
    Tool {
        tool_call_id: Cow<'a, str>,
        content: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<ContentPart<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ContentPart<'a> {
    Text { text: Cow<'a, str> },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Serialize)]
struct ImageUrl {
    url: String,
}

#[derive(Serialize)]
struct ToolCall<'a> {
    id: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: &'static str,
    function: CalledFunction<'a>,
}

#[derive(Serialize)]
struct CalledFunction<'a> {
    name: &'a str,
    arguments: String,
}

/// The body as JSON text, and the names it uses.
pub(super) fn body(quirks: Quirks, call: &Call, model: &ModelFacts) -> Result<(Vec<u8>, Names), Failure> {
    let entries = entries(&call.messages);
    let names = Names::of_turn(call, &entries);
    let body = Body {
        model: &model.id,
        max_completion_tokens: model.max_tokens,
        reasoning_effort: quirks.effort.and_then(|effort| {
            let default = model.default_effort.as_deref();
            effort(&model.id, model.supports_thinking, call.thinking_level, default)
        }),
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        tools: tools(call, &names),
        messages: rows(quirks, call, model, &entries, &names),
    };
    let json = serde_json::to_vec(&body)
        .map_err(|error| Failure::new(ErrorKind::Permanent, format!("request: {error}")))?;
    Ok((json, names))
}

fn tools<'a>(call: &'a Call, names: &'a Names) -> Vec<Tool<'a>> {
    let tools = call.tools.iter().map(|tool| Tool {
        kind: "function",
        function: ToolFunction {
            name: names.encode(&tool.name),
            description: &tool.description,
            parameters: &tool.parameters,
        },
    });
    tools.collect()
}

fn rows<'a>(
    quirks: Quirks,
    call: &'a Call,
    model: &ModelFacts,
    entries: &[Entry<'a>],
    names: &'a Names,
) -> Vec<Row<'a>> {
    let sees = model.supports_vision == Some(true);
    let mut ids = quirks.max_id_chars.map(|max_chars| {
        Ids::new(Rule {
            max_chars,
            is_allowed: |_| true,
        })
    });
    let mut rows = Vec::with_capacity(entries.len() + 2);
    if !call.system_prompt.is_empty() {
        rows.push(Row::System {
            content: &call.system_prompt,
        });
    }
    for entry in entries {
        match entry {
            Entry::User(parts) => rows.extend(user(parts, sees)),
            Entry::Assistant(parts) => rows.extend(assistant(quirks, model, parts, names, &mut ids)),
            Entry::Answer(answer) => rows.push(tool(quirks, answer, ids.as_ref())),
        }
    }
    let has_user = rows.iter().any(|row| matches!(row, Row::User { .. }));
    if quirks.needs_user_row && !has_user {
        let content = Content::Text(Cow::Borrowed(CONTINUE));
        rows.push(Row::User { content });
    }
    rows
}

/// Text alone stays one string, which every server takes; parts only when there is a picture to show.
fn user<'a>(parts: &[Part<'a>], sees: bool) -> Option<Row<'a>> {
    let has_image = parts.iter().any(|part| matches!(part, Part::Image { .. }));
    let shown: Vec<_> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Text(text) => Some(ContentPart::Text { text: text.clone() }),
            Part::Image { mime, data } if sees => Some(ContentPart::ImageUrl {
                image_url: ImageUrl {
                    url: format!("data:{mime};base64,{data}"),
                },
            }),
            Part::Image { .. } => Some(ContentPart::Text {
                text: Cow::Borrowed(NO_IMAGE),
            }),
            Part::Thinking { .. } | Part::Call { .. } => None,
        })
        .collect();
    if shown.is_empty() {
        return None;
    }
    if has_image && sees {
        return Some(Row::User {
            content: Content::Parts(shown),
        });
    }
    let texts: Vec<_> = shown
        .into_iter()
        .filter_map(|part| match part {
            ContentPart::Text { text } => Some(Part::Text(text)),
            ContentPart::ImageUrl { .. } => None,
        })
        .collect();
    Some(Row::User {
        content: Content::Text(joined(&texts)),
    })
}

/// A row with neither text nor calls is dropped: upstream refuses it, and would for ever.
fn assistant<'a>(
    quirks: Quirks,
    model: &ModelFacts,
    parts: &[Part<'a>],
    names: &'a Names,
    ids: &mut Option<Ids>,
) -> Option<Row<'a>> {
    if let Some(ids) = ids {
        ids.begin();
    }
    let text = joined(parts);
    let tool_calls: Vec<_> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Call { id, name, arguments } => Some(ToolCall {
                id: match ids {
                    Some(ids) => ids.give(id).into(),
                    None => id.clone(),
                },
                kind: "function",
                function: CalledFunction {
                    name: names.encode(name),
                    arguments: argument_text(arguments),
                },
            }),
            Part::Text(_) | Part::Image { .. } | Part::Thinking { .. } => None,
        })
        .collect();
    if text.is_empty() && tool_calls.is_empty() {
        return None;
    }
    let thoughts = parts.iter().filter_map(|part| match part {
        Part::Thinking { text, .. } => Some(*text),
        Part::Text(_) | Part::Image { .. } | Part::Call { .. } => None,
    });
    let mut thoughts: String = thoughts.collect();
    let thinks = model.supports_thinking == Some(true);
    let needed = quirks.reasoning == Reasoning::WithEveryCall;
    if thoughts.is_empty() && needed && thinks && !tool_calls.is_empty() {
        NO_REASONING.clone_into(&mut thoughts);
    }
    Some(Row::Assistant {
        content: (!text.is_empty()).then_some(text),
        reasoning_content: (quirks.reasoning != Reasoning::Never && !thoughts.is_empty()).then_some(thoughts),
        tool_calls,
    })
}

fn argument_text(arguments: &Value) -> String {
    if arguments.is_null() {
        "{}".to_owned()
    } else {
        arguments.to_string()
    }
}

fn tool<'a>(quirks: Quirks, answer: &Answer<'a>, ids: Option<&Ids>) -> Row<'a> {
    Row::Tool {
        tool_call_id: match ids {
            Some(ids) => ids.of(&answer.call_id).into(),
            None => answer.call_id.clone(),
        },
        content: match (answer.text.is_empty(), answer.images.is_empty()) {
            (false, _) => answer.text.clone(),
            (true, true) => Cow::Borrowed(NO_OUTPUT),
            (true, false) => Cow::Borrowed(NO_IMAGE),
        },
        is_error: (quirks.sends_is_error && answer.is_error).then_some(true),
    }
}
