//! Holds every text to the rules of contract 02 §9 and §8.5.

mod rules;

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

const VOICES: [Voice; 4] = [Voice::Anthropic, Voice::Gpt, Voice::Kimi, Voice::Default];
const MODES: [AgentMode; 3] = [AgentMode::Plan, AgentMode::Ask, AgentMode::Agent];

/// One line, lower case: how a text is wrapped is of no interest here.
fn normal(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase()
}

fn headings(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# ")).collect()
}

/// The arguments of `agent_trigger` shown as examples.
fn examples(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.find('{').and_then(|start| line.get(start..)))
        .filter_map(|json| serde_json::from_str::<Value>(json).ok())
        .collect()
}

#[test]
fn the_first_line_says_what_the_model_is() {
    for voice in VOICES {
        let first = voice.identity().lines().next();
        assert!(
            first.is_some_and(|line| line.starts_with("You are an iii agent worker")),
            "{voice:?}: {first:?}"
        );
    }
}

#[test]
fn every_voice_has_its_own_form() {
    assert_eq!(
        headings(Voice::Anthropic.identity()),
        [
            "How iii works",
            "Discovery",
            "Tool usage policy",
            "Error handling",
            "Building on iii",
            "Security",
            "Presenting your work"
        ]
    );
    assert_eq!(
        Voice::Anthropic.identity().matches("<example>").count(),
        Voice::Anthropic.identity().matches("</example>").count()
    );
    assert!(Voice::Anthropic.identity().contains("<example>"));

    let gpt = headings(Voice::Gpt.identity());
    assert_eq!(gpt.get(..2), Some(["Persistence", "Autonomy"].as_slice()));

    let kimi = headings(Voice::Kimi.identity());
    assert!(kimi.contains(&"Tool use"));
    assert_eq!(kimi.last(), Some(&"Reminders"));

    let default = headings(Voice::Default.identity());
    assert_eq!(default.first(), Some(&"Procedure"));
    assert_eq!(default.last(), Some(&"Final checklist"));
    assert!(Voice::Default.identity().contains("# Procedure\n\n1. "));
    for other in [Voice::Anthropic, Voice::Gpt, Voice::Kimi] {
        assert!(
            Voice::Default.identity().len() < other.identity().len(),
            "small models get the shortest text, not {other:?}"
        );
    }
}

#[test]
fn the_examples_are_json_and_only_the_wrong_one_has_a_string_payload() {
    for voice in VOICES {
        let kinds: Vec<_> = examples(voice.identity())
            .iter()
            .map(|call| (call["function"].is_string(), call["payload"].is_object()))
            .collect();
        assert_eq!(kinds, [(true, false), (true, true), (true, true)], "{voice:?}");
    }
}

#[test]
fn c02_case_07_an_override_is_the_whole_prompt() {
    for text in ["custom", " ", "custom\n"] {
        for voice in VOICES {
            assert_eq!(build(text, Some(AgentMode::Plan), voice), text);
            assert_eq!(build(text, None, voice), text);
        }
    }
}

#[test]
fn c02_case_07_the_mode_paragraph_precedes_the_identity() {
    let table = [
        (
            AgentMode::Plan,
            "You are in plan mode. ",
            include_str!("../prompts/mode_plan.md"),
        ),
        (
            AgentMode::Ask,
            "You are in ask mode. ",
            include_str!("../prompts/mode_ask.md"),
        ),
        (
            AgentMode::Agent,
            "You are in agent mode. ",
            include_str!("../prompts/mode_agent.md"),
        ),
    ];
    for (mode, start, paragraph) in table {
        let prompt = build("", Some(mode), Voice::Kimi);
        assert!(prompt.starts_with(start), "{mode:?}");
        let expected = format!("{paragraph}\n{}", include_str!("../prompts/kimi.md"));
        assert_eq!(prompt, expected.trim_end(), "{mode:?}");
    }
}

#[test]
fn c02_case_07_without_a_mode_the_prompt_is_the_identity() {
    for voice in VOICES {
        assert_eq!(build("", None, voice), voice.identity());
        assert!(build("", None, voice).starts_with("You are an iii agent worker"));
    }
}

#[test]
fn mode_paragraphs_ask_for_what_the_mode_is_about() {
    let table: [(AgentMode, &[&str]); 3] = [
        (
            AgentMode::Plan,
            &[
                "investigate first",
                "`agent_trigger`",
                "ask",
                "numbered plan",
                "todo list",
            ],
        ),
        (
            AgentMode::Ask,
            &[
                "directly",
                "one or two paragraphs",
                "only if the answer strictly needs it",
            ],
        ),
        (
            AgentMode::Agent,
            &[
                "autonomously",
                "until you have the answer",
                "error you cannot recover from",
            ],
        ),
    ];
    for (mode, phrases) in table {
        assert_eq!(paragraph(mode).lines().count(), 1, "{mode:?} is one paragraph");
        for phrase in phrases {
            assert!(
                normal(paragraph(mode)).contains(phrase),
                "{mode:?} lacks {phrase:?}"
            );
        }
    }
}

#[test]
fn the_routed_provider_chooses_the_voice() {
    let table = [
        ("anthropic", Voice::Anthropic),
        ("openai", Voice::Gpt),
        ("kimi", Voice::Kimi),
        ("lmstudio", Voice::Default),
        ("llamacpp", Voice::Default),
        ("groq", Voice::Anthropic),
    ];
    for (provider, expected) in table {
        assert_eq!(Voice::for_provider(provider), expected, "{provider}");
    }
}

#[test]
fn the_anthropic_prompt_is_long_enough_to_be_cached() {
    // Contract 08 §5.4: a system prompt gets its cache marker from 4096 characters on.
    assert!(build("", None, Voice::Anthropic).chars().count() >= 4096);
}

#[test]
fn c02_case_06_the_one_tool_requires_a_function() {
    let tool = agent_trigger();
    assert_eq!(
        (
            tool.name.as_str(),
            tool.label.as_deref(),
            tool.execution_mode,
            tool.prepare_arguments_supported
        ),
        (
            "agent_trigger",
            Some("agent_trigger"),
            Some(ExecutionMode::Parallel),
            Some(false)
        )
    );
    let schema = &tool.parameters;
    assert_eq!(schema["type"], "object");
    assert_eq!(schema["required"], json!(["function"]));
    let members: BTreeSet<_> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, member)| (name.as_str(), member["type"].as_str()))
        .collect();
    assert_eq!(
        members,
        BTreeSet::from([("function", Some("string")), ("payload", Some("object"))])
    );
    for phrase in [
        "any function on the",
        "JSON object, never",
        "JSON-encoded string",
        "what the function returns",
    ] {
        assert!(tool.description.contains(phrase), "{phrase:?}");
    }
}

#[test]
fn c02_case_06_the_tool_survives_its_wire_form() {
    let wire = serde_json::to_string(&agent_trigger()).unwrap();
    assert_eq!(
        serde_json::from_str::<AgentFunction>(&wire).unwrap(),
        agent_trigger()
    );
}

/// Four voices, three modes and none: a text that changes by accident shows here.
#[test]
fn c02_case_07_all_prompts() {
    let mut rows = Vec::new();
    for voice in VOICES {
        for mode in std::iter::once(None).chain(MODES.map(Some)) {
            let prompt = build("", mode, voice);
            let letters: u64 = prompt.bytes().map(u64::from).sum();
            let first = prompt.lines().next().unwrap_or_default();
            let begin: String = first.chars().take(60).collect();
            let name = format!("{voice:?} {mode:?}");
            let (lines, bytes) = (prompt.lines().count(), prompt.len());
            rows.push(format!(
                "{name:24} {lines:3} lines {bytes:5} bytes, sum {letters:6}: {begin}"
            ));
        }
    }
    insta::assert_snapshot!(rows.join("\n"));
}
