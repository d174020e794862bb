//! Our request → the body of a Messages request (contract 08 §5.1 to §5.5).

use serde::Serialize;
use serde_json::Value;

use super::cache::{System, mark_rows, mark_tools, system};
use super::rows::{CacheControl, Row, continues_without_thinking, rows};
use super::{Quirks, Thinking};
use crate::model::ErrorKind;
use crate::workers::providers::conversation::entries;
use crate::workers::providers::failure::Failure;
use crate::workers::providers::names::Names;
use crate::workers::providers::protocol::{Call, ModelFacts};

/// Members in a fixed order, what changes least first: prompt caches compare text.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u64,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<ThinkingParameter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig>,
    tools: Vec<Tool<'a>>,
    system: System<'a>,
    messages: Vec<Row<'a>>,
}

/// A tool as it is offered.
#[derive(Debug, Serialize)]
pub(super) struct Tool<'a> {
    name: &'a str,
    description: &'a str,
    input_schema: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<CacheControl>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ThinkingParameter {
    Enabled {
        budget_tokens: u64,
    },
    /// Newer models leave the text out unless it is asked for.
    Adaptive {
        display: &'static str,
    },
}

#[derive(Serialize)]
struct OutputConfig {
    effort: &'static str,
}

/// A request as it goes out.
pub(super) struct Request {
    /// JSON text.
    pub(super) body: Vec<u8>,
    /// The names it uses.
    pub(super) names: Names,
    /// How it asks for reasoning.
    pub(super) thinking: Thinking,
}

pub(super) fn encode(quirks: Quirks, call: &Call, model: &ModelFacts) -> Result<Request, Failure> {
    let entries = entries(&call.messages);
    let names = Names::of_turn(call, &entries);
    let mut messages = rows(quirks, model, &entries, &names);
    let mut tools = tools(call, &names);
    if model.marks_cache {
        mark_rows(&mut messages);
        mark_tools(&mut tools);
    }
    let thinking = match (quirks.thinking)(model, call.thinking_level) {
        Thinking::Budget(_) if continues_without_thinking(&messages) => Thinking::Unasked,
        thinking => thinking,
    };
    let (parameter, output_config) = match thinking {
        Thinking::Unasked => (None, None),
        Thinking::Budget(budget_tokens) => (Some(ThinkingParameter::Enabled { budget_tokens }), None),
        Thinking::Adaptive(effort) => (
            Some(ThinkingParameter::Adaptive {
                display: "summarized",
            }),
            Some(OutputConfig { effort }),
        ),
    };
    let body = Body {
        model: &model.id,
        max_tokens: model.max_tokens,
        stream: true,
        thinking: parameter,
        output_config,
        tools,
        system: system(&call.system_prompt, model.marks_cache),
        messages,
    };
    let body = serde_json::to_vec(&body)
        .map_err(|error| Failure::new(ErrorKind::Permanent, format!("request: {error}")))?;
    Ok(Request {
        body,
        names,
        thinking,
    })
}

fn tools<'a>(call: &'a Call, names: &'a Names) -> Vec<Tool<'a>> {
    let tools = call.tools.iter().map(|tool| Tool {
        name: names.encode(&tool.name),
        description: &tool.description,
        input_schema: &tool.parameters,
        cache_control: None,
    });
    tools.collect()
}
