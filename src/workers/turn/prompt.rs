//! What every run tells its model: the system prompt (contract 02 §9) and the one tool (§8.5).
//!
//! Both are the same bytes for the same input (no clock, no randomness, no environment), so providers can cache the prefix of a
//! session. The texts are the files of `prompts/`; the four identity prompts say the same in different voices, and
//! the tests below hold each of them to the full list of rules.

use serde_json::json;

use crate::model::api::run::AgentMode;
use crate::model::{AgentFunction, ExecutionMode};
use crate::rules;

/// Name of the one tool a model gets.
pub(super) const AGENT_TRIGGER: &str = rules::AGENT_TRIGGER;

/// The voice of the identity prompt: families of models follow different forms best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    /// Markdown sections with example blocks.
    Anthropic,
    /// Persistence and autonomy first.
    Gpt,
    /// Imperative, with closing reminders.
    Kimi,
    /// A numbered procedure and a final checklist, for small local models.
    Default,
}

impl Voice {
    /// The voice for a routed provider id; providers from elsewhere get the Anthropic one.
    pub(super) fn for_provider(provider: &str) -> Self {
        match provider {
            "openai" => Self::Gpt,
            "kimi" => Self::Kimi,
            "lmstudio" | "llamacpp" => Self::Default,
            _ => Self::Anthropic,
        }
    }

    fn identity(self) -> &'static str {
        match self {
            Self::Anthropic => include_str!("prompts/anthropic.md"),
            Self::Gpt => include_str!("prompts/gpt.md"),
            Self::Kimi => include_str!("prompts/kimi.md"),
            Self::Default => include_str!("prompts/default.md"),
        }
        .trim_end()
    }
}

/// The system prompt of a run: `system_prompt_override` verbatim unless it is empty, else the paragraph of the mode
/// (if any), a blank line and the identity prompt.
pub(super) fn build(system_prompt_override: &str, mode: Option<AgentMode>, voice: Voice) -> String {
    if !system_prompt_override.is_empty() {
        return system_prompt_override.to_owned();
    }
    let identity = voice.identity();
    match mode {
        None => identity.to_owned(),
        Some(mode) => format!("{}\n\n{identity}", paragraph(mode)),
    }
}

fn paragraph(mode: AgentMode) -> &'static str {
    match mode {
        AgentMode::Plan => include_str!("prompts/mode_plan.md"),
        AgentMode::Ask => include_str!("prompts/mode_ask.md"),
        AgentMode::Agent => include_str!("prompts/mode_agent.md"),
    }
    .trim_end()
}

/// The one tool: it calls any function on the bus.
pub(super) fn agent_trigger() -> AgentFunction {
    AgentFunction {
        name: AGENT_TRIGGER.to_owned(),
        description: "Call any function on the iii bus. `function` is the target id; `payload` holds its arguments \
            as a JSON object, never as a JSON-encoded string. The result is what the function returns, or an error \
            that says how the call failed."
            .to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {
                "function": {
                    "type": "string",
                    "description": "Id of the target function, its parts joined by `::`, such as `engine::functions::list`."
                },
                "payload": {
                    "type": "object",
                    "description": "Arguments of the target function as its request schema defines them; `{}` when \
                        it takes none. A long text is one string field of this object."
                }
            },
            "required": ["function"]
        }),
        label: Some(AGENT_TRIGGER.to_owned()),
        execution_mode: Some(ExecutionMode::Parallel),
        prepare_arguments_supported: Some(false),
    }
}

#[cfg(test)]
mod tests;
