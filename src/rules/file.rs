//! Reading the rule file: all of it, or nothing (contract 03 §3.2).

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::example;
use super::finding::{Finding, Note, Notes, RuleFileError};
use super::glob::IdPattern;
use super::pattern::Pattern;
use super::rule::{Action, FieldTest, Rule, Test};
use super::set::RuleSet;
use crate::yaml;

/// Largest rule file that is read, bytes.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What the text of a rule file amounts to.
#[derive(Debug)]
pub struct RuleFile {
    /// The rules, or all that is wrong: one bad rule refuses the file.
    pub rules: Result<RuleSet, RuleFileError>,
    /// What is odd but changes nothing, such as an unknown key.
    pub warnings: Vec<Finding>,
}

impl RuleFile {
    /// Reads a text, runs the examples in it, and says everything there is to say about it.
    pub fn read(text: &str) -> Self {
        let refused = |line: Option<usize>, text: String| Self {
            rules: Err(RuleFileError(vec![Finding { line, text }])),
            warnings: Vec::new(),
        };
        if text.len() > MAX_BYTES {
            return refused(None, format!("larger than {} MiB", MAX_BYTES >> 20));
        }
        let document = match yaml::parse(text) {
            Ok(document) => document,
            Err(error) => return refused(error.line, format!("not readable as YAML: {}", error.message)),
        };
        let mut notes = Notes::default();
        let rules = document_rules(&document, &mut notes);
        let located = |found: Vec<Note>| {
            let mut findings: Vec<Finding> = found.into_iter().map(|note| note.locate(Some(text))).collect();
            findings.sort_by_key(|finding| finding.line);
            findings
        };
        let errors = located(notes.errors);
        Self {
            rules: if errors.is_empty() {
                Ok(RuleSet::of(rules))
            } else {
                Err(RuleFileError(errors))
            },
            warnings: located(notes.warnings),
        }
    }
}

/// Where an entry stands; the two differ in what may be said of allowing and denying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    RuleFile,
    Floor,
}

/// Entries of the deny floor: as in a rule file, without an action, all of them denials.
pub(super) fn floor_entries(entries: &[Value]) -> Result<Vec<Rule>, RuleFileError> {
    let mut notes = Notes::default();
    let rules = all(entries, Source::Floor, &mut notes);
    if notes.errors.is_empty() {
        return Ok(rules);
    }
    let errors = notes.errors.into_iter().map(|note| note.locate(None));
    Err(RuleFileError(errors.collect()))
}

/// The rules of a document. One without a list `rules` has none.
fn document_rules(document: &Value, notes: &mut Notes) -> Vec<Rule> {
    if let Value::Object(members) = document {
        warn_unknown(members, &["version", "rules"], notes);
    }
    if let Some(Value::Array(entries)) = document.get("rules") {
        return notes.at("rules", |notes| all(entries, Source::RuleFile, notes));
    }
    if !document.is_null() {
        notes.warning("no list `rules`, so there is no rule");
    }
    Vec::new()
}

fn all(entries: &[Value], source: Source, notes: &mut Notes) -> Vec<Rule> {
    let mut rules = Vec::with_capacity(entries.len());
    let mut first_of: HashMap<Box<str>, usize> = HashMap::new();
    for (entry, number) in entries.iter().zip(1..) {
        notes.at(number - 1, |notes| {
            notes.rule(number, name_of(entry), |notes| {
                let Some(rule) = rule(entry, source, notes) else {
                    return;
                };
                match first_of.get(&rule.id) {
                    Some(first) => notes.warning(format!("rule {first} has the same rule id")),
                    None => {
                        first_of.insert(rule.id.clone(), number);
                    }
                }
                rules.push(rule);
            });
        });
    }
    rules
}

fn name_of(entry: &Value) -> Option<&str> {
    let text = |name| {
        entry
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    text("rule_id").or_else(|| text("function"))
}

fn rule(entry: &Value, source: Source, notes: &mut Notes) -> Option<Rule> {
    match (entry, source) {
        (Value::String(text), Source::RuleFile) => match text.strip_prefix('!') {
            Some(function) => plain(function, Action::Deny, notes),
            None => plain(text, Action::Allow, notes),
        },
        (Value::String(text), Source::Floor) if text.starts_with('!') => {
            notes.error("entries are denials already, without `!`")
        }
        (Value::String(text), Source::Floor) => plain(text, Action::Deny, notes),
        (Value::Object(members), _) => from_object(members, source, notes),
        (other, _) => notes.error(not_a_rule(other)),
    }
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

fn plain(function: &str, action: Action, notes: &mut Notes) -> Option<Rule> {
    if function.is_empty() {
        return notes.error("no function id");
    }
    Some(Rule {
        id: function.into(),
        function: IdPattern::new(function),
        action,
        tests: Vec::new(),
        examples: 0,
    })
}

fn from_object(members: &Map<String, Value>, source: Source, notes: &mut Notes) -> Option<Rule> {
    // An unknown key is no error, but `arg` for `args` would widen the rule, so it is told.
    let known = ["rule_id", "function", "action", "args", "match", "not_match"];
    warn_unknown(members, &known, notes);
    let action = action(members.get("action"), source, notes);
    let named = match members.get("function").and_then(Value::as_str) {
        Some(function) => plain(function, Action::Deny, notes),
        None => notes.at("function", |notes| notes.error("must be a text")),
    };
    let tests = notes.at("args", |notes| tests(members.get("args"), notes));
    let mut rule = named?;
    rule.action = action?;
    rule.tests = tests?;
    match members.get("rule_id") {
        Some(Value::String(id)) if !id.is_empty() => rule.id = id.as_str().into(),
        None => {}
        Some(_) => notes.at("rule_id", |notes| {
            notes.warning("not a text with something in it, so the function is the rule id");
        }),
    }
    rule.examples = example::run_all(members, &rule, notes);
    Some(rule)
}

fn action(value: Option<&Value>, source: Source, notes: &mut Notes) -> Option<Action> {
    match (value.and_then(Value::as_str), source) {
        (Some("allow"), Source::RuleFile) => Some(Action::Allow),
        (Some("deny"), _) => Some(Action::Deny),
        (_, Source::RuleFile) => notes.at("action", |notes| notes.error("must be `allow` or `deny`")),
        (_, Source::Floor) if value.is_none() => Some(Action::Deny),
        (_, Source::Floor) => notes.error("entries have no action, they are denials"),
    }
}

/// The constraints, in the order of their fields.
fn tests(args: Option<&Value>, notes: &mut Notes) -> Option<Vec<FieldTest>> {
    let fields = match args {
        None | Some(Value::Null) => return Some(Vec::new()),
        Some(Value::Object(fields)) => fields,
        Some(_) => return notes.error("must be an object of constraints"),
    };
    let each = fields.iter().map(|(field, constraint)| {
        let test = notes.at(field.as_str(), |notes| test(constraint, notes))?;
        Some(FieldTest {
            field: field.as_str().into(),
            test,
        })
    });
    // All of them, so that every mistake is found.
    let each: Vec<Option<FieldTest>> = each.collect();
    let mut tests = each.into_iter().collect::<Option<Vec<_>>>()?;
    tests.sort_by(|a, b| a.field.cmp(&b.field));
    Some(tests)
}

fn test(constraint: &Value, notes: &mut Notes) -> Option<Test> {
    let Value::Object(members) = constraint else {
        return notes.error("a constraint needs `equals` or `matches`");
    };
    warn_unknown(members, &["equals", "matches"], notes);
    match (members.get("equals"), members.get("matches")) {
        (Some(expected), matches) => {
            if matches.is_some() {
                notes.warning("`matches` is not looked at beside `equals`");
            }
            Some(Test::Equals(expected.clone()))
        }
        (None, Some(Value::String(source))) => notes.at("matches", |notes| match Pattern::new(source) {
            Ok(pattern) => {
                if !pattern.is_linear() {
                    notes.warning(
                        "lookaround or a backreference: searched within limits, beyond which a denial holds and a permission does not",
                    );
                }
                Some(Test::Matches(pattern))
            }
            Err(problem) => notes.error(problem),
        }),
        (None, Some(_)) => notes.at("matches", |notes| notes.error("must be a text")),
        (None, None) => notes.error("a constraint needs `equals` or `matches`"),
    }
}

fn warn_unknown(members: &Map<String, Value>, known: &[&str], notes: &mut Notes) {
    for name in members.keys().filter(|name| !known.contains(&name.as_str())) {
        notes.at(name.as_str(), |notes| {
            notes.warning(format!("unknown, not looked at (known: {})", known.join(", ")));
        });
    }
}
