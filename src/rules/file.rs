//! Reading the rule file: all of it, or nothing (contract 03 §3.2).

use serde_json::{Map, Value};
use thiserror::Error as ThisError;

use super::glob::IdPattern;
use super::pattern::Pattern;
use super::rule::{Action, FieldTest, Rule, Test};
use crate::yaml::{self, YamlError};

/// Why a rule file is refused.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum RuleFileError {
    /// The text is no YAML.
    #[error("not readable as YAML: {0}")]
    Yaml(#[from] YamlError),
    /// An entry is no rule.
    #[error("rule {index}{}: {problem}", id.as_ref().map(|id| format!(" (`{id}`)")).unwrap_or_default())]
    Rule {
        /// Place in the list, counted from 1.
        index: usize,
        /// Rule id or function, where there is one.
        id: Option<String>,
        /// What is wrong, with the field.
        problem: String,
    },
}

/// The rules of a file's text.
pub(super) fn parse(text: &str) -> Result<Vec<Rule>, RuleFileError> {
    entries(&yaml::parse(text)?)
}

/// The rules of a parsed document. One without a list `rules` has none.
pub(super) fn entries(document: &Value) -> Result<Vec<Rule>, RuleFileError> {
    let Some(Value::Array(entries)) = document.get("rules") else {
        return Ok(Vec::new());
    };
    each(entries, |entry| match entry {
        Value::String(text) => from_text(text),
        Value::Object(object) => {
            let action = match object.get("action").and_then(Value::as_str) {
                Some("allow") => Action::Allow,
                Some("deny") => Action::Deny,
                _ => return Err("action must be `allow` or `deny`".into()),
            };
            from_object(object, action)
        }
        other => Err(not_a_rule(other)),
    })
}

/// Entries of the deny floor: as in a rule file, without an action, all of them denials.
pub(super) fn floor_entries(entries: &[Value]) -> Result<Vec<Rule>, RuleFileError> {
    each(entries, |entry| match entry {
        Value::String(text) if text.starts_with('!') => {
            Err("entries are denials already, without `!`".into())
        }
        Value::String(text) => plain(text, Action::Deny),
        Value::Object(object) if object.get("action").is_some_and(|action| action != "deny") => {
            Err("entries have no action, they are denials".into())
        }
        Value::Object(object) => from_object(object, Action::Deny),
        other => Err(not_a_rule(other)),
    })
}

fn each(
    entries: &[Value],
    read: impl Fn(&Value) -> Result<Rule, String>,
) -> Result<Vec<Rule>, RuleFileError> {
    let numbered = entries.iter().zip(1..);
    numbered
        .map(|(entry, index)| {
            read(entry).map_err(|problem| RuleFileError::Rule {
                index,
                id: name_of(entry),
                problem,
            })
        })
        .collect()
}

fn not_a_rule(entry: &Value) -> String {
    let kind = match entry {
        Value::Null => "empty, or a text beginning with `!` that needs quotes",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::Array(_) => "a list",
        Value::String(_) | Value::Object(_) => "of the wrong kind",
    };
    format!("a rule is a text or an object, this is {kind}")
}

fn name_of(entry: &Value) -> Option<String> {
    let text = |name| {
        entry
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    text("rule_id").or_else(|| text("function")).map(str::to_owned)
}

/// `a::b` allows, `!a::b` denies.
fn from_text(text: &str) -> Result<Rule, String> {
    match text.strip_prefix('!') {
        Some(function) => plain(function, Action::Deny),
        None => plain(text, Action::Allow),
    }
}

fn plain(function: &str, action: Action) -> Result<Rule, String> {
    if function.is_empty() {
        return Err("no function id".into());
    }
    Ok(Rule {
        id: function.into(),
        function: IdPattern::new(function),
        action,
        tests: Vec::new(),
    })
}

fn from_object(object: &Map<String, Value>, action: Action) -> Result<Rule, String> {
    let function = object
        .get("function")
        .and_then(Value::as_str)
        .ok_or("function must be a text")?;
    let mut rule = plain(function, action)?;
    if let Some(id) = object.get("rule_id").and_then(Value::as_str)
        && !id.is_empty()
    {
        rule.id = id.into();
    }
    rule.tests = match object.get("args") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(fields)) => tests(fields)?,
        Some(_) => return Err("args must be an object of constraints".into()),
    };
    Ok(rule)
}

fn tests(fields: &Map<String, Value>) -> Result<Vec<FieldTest>, String> {
    let mut tests = fields
        .iter()
        .map(|(field, constraint)| {
            let test = test(constraint).map_err(|problem| format!("args.{field}: {problem}"))?;
            Ok(FieldTest {
                field: field.as_str().into(),
                test,
            })
        })
        .collect::<Result<Vec<_>, String>>()?;
    tests.sort_by(|a, b| a.field.cmp(&b.field));
    Ok(tests)
}

fn test(constraint: &Value) -> Result<Test, String> {
    if let Some(expected) = constraint.get("equals") {
        return Ok(Test::Equals(expected.clone()));
    }
    match constraint.get("matches") {
        Some(Value::String(source)) => Pattern::new(source)
            .map(Test::Matches)
            .map_err(|problem| format!("matches: {problem}")),
        Some(_) => Err("matches must be a text".into()),
        None => Err("a constraint needs `equals` or `matches`".into()),
    }
}
