//! What a key accepts: the vocabulary of the table in `table.rs`.

use serde_json::Value;

use super::older::Reading;
use super::rule::{Rule, shown};

/// One key: where it lives, what it means and what it accepts.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Section, empty for a top-level key.
    pub section: &'static str,
    /// Name within the section.
    pub name: &'static str,
    /// One line for the example file and the documentation.
    pub meaning: &'static str,
    /// Accepted values and variables.
    pub spec: Spec,
}

impl Key {
    /// `section.name`, as findings name it.
    pub fn path(&self) -> String {
        super::names::path(self.section, self.name)
    }

    /// `HARNESS__SECTION__NAME`.
    pub fn variable(&self) -> String {
        format!("HARNESS__{}", self.path().replace('.', "__").to_uppercase())
    }
}

/// When a change of a section takes effect (contract 12 §1 rule 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// From the next call or turn on.
    Live,
    /// At the next start; until then the running values stay in force.
    Restart,
}

/// One section of the file.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// One line for the example file and the documentation.
    pub meaning: &'static str,
    /// When a change takes effect.
    pub applies: Applies,
}

/// What a key accepts and where else its value may come from.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Accepted values.
    pub rule: Rule,
    /// Whether `null` is accepted and means "none".
    pub optional: bool,
    /// Whether a bad value is only a warning, because the original ignored it.
    pub lenient: bool,
    /// The variable that existed before `HARNESS__…`.
    pub older: Option<Older>,
}

/// A variable that existed before `HARNESS__…`.
#[derive(Debug, Clone, Copy)]
pub struct Older {
    /// Its name.
    pub name: &'static str,
    /// What its text means.
    pub read: fn(&str) -> Reading,
    /// Whether it beats every other source.
    pub beats_all: bool,
}

impl Spec {
    const fn new(rule: Rule) -> Self {
        Self {
            rule,
            optional: false,
            lenient: false,
            older: None,
        }
    }

    /// `null` is accepted.
    pub(super) const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The key is one of the original's: a bad value is a warning.
    pub(super) const fn original(mut self) -> Self {
        self.lenient = true;
        self
    }

    /// The key had this variable.
    pub(super) const fn older(mut self, name: &'static str, read: fn(&str) -> Reading) -> Self {
        self.older = Some(Older {
            name,
            read,
            beats_all: false,
        });
        self
    }

    /// The key had this variable, and it beats every other source.
    pub(super) const fn forced_by(mut self, name: &'static str, read: fn(&str) -> Reading) -> Self {
        self.older = Some(Older {
            name,
            read,
            beats_all: true,
        });
        self
    }

    /// The value in its normal form, or what is wrong with it.
    pub(super) fn check(&self, value: &Value) -> Result<Value, String> {
        if value.is_null() && self.optional {
            return Ok(Value::Null);
        }
        self.rule.check(value).ok_or_else(|| match self.rule.flaw(value) {
            Some(flaw) => format!("must be {}: {flaw}", self.rule),
            None => format!("must be {}, found {}", self.rule, shown(value)),
        })
    }
}

pub(super) const fn boolean() -> Spec {
    Spec::new(Rule::Bool)
}
pub(super) const fn integer(min: u64) -> Spec {
    Spec::new(Rule::Integer { min })
}
pub(super) const fn number(zero: bool) -> Spec {
    Spec::new(Rule::Number { zero })
}
pub(super) const fn text() -> Spec {
    Spec::new(Rule::Text)
}
pub(super) const fn url(schemes: &'static [&'static str]) -> Spec {
    Spec::new(Rule::Url(schemes))
}
pub(super) const fn address(off: bool) -> Spec {
    Spec::new(Rule::Address { off })
}
pub(super) const fn one_of(names: &'static [&'static str]) -> Spec {
    Spec::new(Rule::OneOf(names))
}
pub(super) const fn names() -> Spec {
    Spec::new(Rule::Names)
}
pub(super) const fn models() -> Spec {
    Spec::new(Rule::Models)
}
pub(super) const fn rules() -> Spec {
    Spec::new(Rule::Rules)
}
pub(super) const fn secret() -> Spec {
    Spec::new(Rule::Secret)
}
pub(super) const fn log_filter() -> Spec {
    Spec::new(Rule::LogFilter)
}
