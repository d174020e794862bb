//! What is wrong or odd about a rule file, with its place.

use std::fmt;

use thiserror::Error as ThisError;

use crate::yaml::{self, Step};

/// Most findings that an error shows; the rest is counted.
const SHOWN: usize = 5;

/// One thing to know about a file. `Display` begins with the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Line of the file, counted from 1, where known.
    pub line: Option<usize>,
    /// Which rule (counted from 1, with its id), which of its fields, and what about it.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Why a rule file is refused: everything that is wrong with it, in file order.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error("{}", shown(.0))]
pub struct RuleFileError(pub Vec<Finding>);

fn shown(findings: &[Finding]) -> String {
    let mut parts: Vec<String> = findings.iter().take(SHOWN).map(Finding::to_string).collect();
    if let Some(more) = findings.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        parts.push(format!("and {more} more"));
    }
    parts.join("; ")
}

/// Collects notes while a document is walked.
#[derive(Debug, Default)]
pub(super) struct Notes {
    path: Vec<Step>,
    /// How many steps of the path lead to the rule.
    root: usize,
    /// The rule as people name it.
    rule: String,
    pub(super) errors: Vec<Note>,
    pub(super) warnings: Vec<Note>,
}

/// A finding before its line is looked up.
#[derive(Debug)]
pub(super) struct Note {
    path: Vec<Step>,
    text: String,
}

impl Notes {
    /// Walks one step down.
    pub(super) fn at<T>(&mut self, step: impl Into<Step>, walk: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step.into());
        let outcome = walk(self);
        self.path.pop();
        outcome
    }

    /// Walks through the rule at the present place, which is named by its number and its id.
    pub(super) fn rule<T>(
        &mut self,
        number: usize,
        id: Option<&str>,
        walk: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.rule = match id {
            Some(id) => format!("rule {number} (`{id}`): "),
            None => format!("rule {number}: "),
        };
        self.root = self.path.len();
        let outcome = walk(self);
        self.rule.clear();
        self.root = 0;
        outcome
    }

    /// Something that makes the file unusable. Answers `None`, as the value that is not there.
    pub(super) fn error<T>(&mut self, problem: impl fmt::Display) -> Option<T> {
        let note = self.note(&problem);
        self.errors.push(note);
        None
    }

    /// Something odd that changes nothing.
    pub(super) fn warning(&mut self, problem: impl fmt::Display) {
        let note = self.note(&problem);
        self.warnings.push(note);
    }

    fn note(&self, problem: &dyn fmt::Display) -> Note {
        let mut field = String::new();
        for step in self.path.get(self.root..).unwrap_or_default() {
            match step {
                Step::Key(key) if field.is_empty() => field.push_str(key),
                Step::Key(key) => field.extend([".", key]),
                Step::Item(place) => field.extend(["[", &place.to_string(), "]"]),
            }
        }
        let colon = if field.is_empty() { "" } else { ": " };
        Note {
            path: self.path.clone(),
            text: format!("{}{field}{colon}{problem}", self.rule),
        }
    }
}

impl Note {
    /// The finding, with its line when the text is at hand.
    pub(super) fn locate(self, text: Option<&str>) -> Finding {
        Finding {
            line: text.and_then(|text| yaml::line_of(text, &self.path)),
            text: self.text,
        }
    }
}
