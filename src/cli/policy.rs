//! `policy check` and `policy explain`: what the program would make of a rule file, without running it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{Exit, complain, given, load, print};
use crate::config::LoadInput;
use crate::model::api::approval::{Constraint, Mode, Verdict};
use crate::rules::consult::{self, Outcome};
use crate::rules::{
    self, Explanation, Finding, Floor, LevelExplanation, ModeOutcome, RuleFile, RuleSet, parse_embedded,
};

#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Read a rule file, run the examples in it, and say everything that is wrong or odd about it.
    Check(CheckArgs),
    /// Say which rule decides a call and what each mode makes of it.
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The rule file; `permissions_path` of the configuration when left out.
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The function an agent calls.
    function: String,
    /// Its arguments as JSON, `-` to read them from stdin.
    #[arg(default_value = "{}", allow_hyphen_values = true)]
    arguments: String,
    /// The rule file; `permissions_path` of the configuration when left out.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

pub(super) fn run(command: Policy, input: &LoadInput) -> Result<Exit> {
    match command {
        Policy::Check(CheckArgs { file: Some(file) }) => check(&file),
        Policy::Check(CheckArgs { file: None }) => check(&load(input)?.config.permissions_path),
        Policy::Explain(args) => {
            let config = load(input)?.config;
            let file = args.file.clone().unwrap_or(config.permissions_path);
            explain(args, &file, &config.permissions.deny_floor)
        }
    }
}

fn check(path: &Path) -> Result<Exit> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            complain(&format!("{}: {error}", path.display()));
            return Ok(Exit::Unusable);
        }
    };
    let file = RuleFile::read(&text);
    let name = path.display();
    let told = |kind: &str, findings: &[Finding]| {
        findings.iter().try_for_each(|finding| match finding.line {
            Some(line) => print(&format!("{name}:{line}: {kind}: {}", finding.text)),
            None => print(&format!("{name}: {kind}: {}", finding.text)),
        })
    };
    told("warning", &file.warnings)?;
    match file.rules {
        Ok(rules) => {
            told("warning", &rules::review(&rules, &text))?;
            let (rules, examples) = (rules.len(), rules.examples());
            print(&format!("{name}: ok, {rules} rules, {examples} examples hold"))?;
            Ok(Exit::Done)
        }
        Err(error) => {
            told("error", &error.0)?;
            print(&format!(
                "{name}: refused; a running program keeps its rules, at a start there are none and every call needs a person"
            ))?;
            Ok(Exit::Unusable)
        }
    }
}

fn explain(args: ExplainArgs, path: &Path, deny_floor: &[Value]) -> Result<Exit> {
    let unusable = |problem: String| {
        complain(&problem);
        Ok(Exit::Unusable)
    };
    let payload: Value = match serde_json::from_str(&given(args.arguments)?) {
        Ok(payload) => payload,
        Err(error) => return unusable(format!("the arguments are not JSON: {error}")),
    };
    let floor = match Floor::compile(deny_floor) {
        Ok(floor) => floor,
        Err(error) => return unusable(format!("permissions.deny_floor: {error}")),
    };
    // As in the running program, a file that is not there has no rules.
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            complain(&format!(
                "{}: no such file, so there are no rules",
                path.display()
            ));
            String::new()
        }
        Err(error) => return unusable(format!("{}: {error}", path.display())),
    };
    let set = match RuleSet::parse(&text) {
        Ok(set) => set,
        Err(error) => return unusable(format!("{}: {error}", path.display())),
    };
    // A text that stands for an object is read as one, as when a model sends it.
    let explanation = rules::explain(&set, &floor, &args.function, &parse_embedded(payload));
    for line in lines(&explanation, &text) {
        print(&line)?;
    }
    Ok(Exit::Done)
}

fn lines(explanation: &Explanation, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (depth, level) in explanation.levels.iter().enumerate() {
        lines.extend(level_lines(
            if depth == 0 { "call" } else { "calls" },
            level,
            text,
        ));
    }
    let modes = explanation.modes.iter();
    lines.extend(modes.map(|mode| line(name(mode.mode), &outcomes(mode))));
    lines
}

fn line(head: &str, text: &str) -> String {
    format!("{head:<12}{text}")
}

fn level_lines(head: &str, level: &LevelExplanation, text: &str) -> Vec<String> {
    let payload = match &level.level.payload {
        Some(payload) => payload.to_string(),
        None => "with what an event brings".to_owned(),
    };
    let mut lines = vec![line(head, &format!("{} {payload}", level.level.function_id))];
    let place = |number: usize| match rules::line_of_rule(text, number) {
        Some(line) => format!("rule {number} (line {line})"),
        None => format!("rule {number}"),
    };
    for passed in &level.passed_over {
        let why = format!("{} `{}`: {}", place(passed.rule), passed.id, passed.why);
        lines.push(line("passed over", &why));
    }
    let by = level.rule.map(place).unwrap_or_default();
    lines.push(line(
        "rules say",
        &match &level.verdict {
            Verdict::Allow { rule_id } => format!("allow, by {by} `{rule_id}`"),
            Verdict::Deny {
                rule_id,
                matched_constraint: None,
                ..
            } => format!("deny, by {by} `{rule_id}`"),
            Verdict::Deny {
                rule_id,
                matched_constraint:
                    Some(Constraint {
                        field,
                        operator,
                        value,
                    }),
                ..
            } => format!("deny, by {by} `{rule_id}`: argument `{field}` {operator} {value}"),
            Verdict::NeedsApproval { .. } => "nothing, so a person is asked".into(),
        },
    ));
    lines.push(line(
        "for people",
        &match (level.is_closed, &level.floor) {
            (true, _) if consult::internal(&level.level.function_id) => {
                "no, and agents neither: only the program calls it".into()
            }
            (true, _) => "only, in every mode".into(),
            (false, Some(entry)) => format!("only, in every mode: on the deny floor as `{entry}`"),
            (false, None) => "no, agents may call it".into(),
        },
    ));
    lines
}

fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Manual => "manual",
        Mode::Auto => "auto",
        Mode::Full => "full",
    }
}

fn outcomes(mode: &ModeOutcome) -> String {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Runs => "runs".to_owned(),
        Outcome::Asks => "asks a person".to_owned(),
        Outcome::Denied(rule_id) => format!("denied by `{rule_id}`"),
    };
    let mut parts = vec![word(&mode.plain)];
    let lists = [
        (&mode.approved, "once approved always"),
        (&mode.listed, "when on the always-allow list"),
    ];
    for (outcome, when) in lists.into_iter().filter(|(outcome, _)| **outcome != mode.plain) {
        parts.push(format!("{} {when}", word(outcome)));
    }
    parts.join("; ")
}
