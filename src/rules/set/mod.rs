//! The rules of one file, ready to answer (contract 03 §2.9, §3.2).

use std::collections::HashMap;

use super::args::Args;
use super::file::RuleFile;
use super::finding::RuleFileError;
use super::rule::Rule;
use crate::model::api::approval::Verdict;

/// Rules in file order; the first that matches a call decides.
///
/// Rules for exact ids are found by hash, so a check walks over the wildcard rules only.
///
/// ```
/// use harness::{model::api::approval::Verdict, rules::RuleSet};
/// let rules = RuleSet::parse("rules: ['!shell::rm', 'shell::*']")?;
/// let allowed = Verdict::Allow { rule_id: "shell::*".into() };
/// assert_eq!(rules.check("shell::ls", &serde_json::Map::new()), allowed);
/// # Ok::<(), harness::rules::RuleFileError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// Places of the rules for one exact id, ascending.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// Places of the wildcard rules, ascending, with what their ids begin with.
    wild: Vec<(Head, usize)>,
}

/// The first eight bytes of a prefix: side by side in memory, they rule out most wildcard rules without a look at them.
#[derive(Debug, Clone, Copy)]
struct Head {
    bytes: u64,
    mask: u64,
}

impl Head {
    fn of(prefix: &str) -> Self {
        let used = u32::try_from(prefix.len().min(8)).unwrap_or(0);
        Self {
            bytes: first_bytes(prefix),
            // All ones in the bytes that are used.
            mask: u64::MAX.checked_shr(64 - 8 * used).unwrap_or(0),
        }
    }

    /// False only when the id cannot begin with the prefix.
    fn may_fit(self, id: u64) -> bool {
        id & self.mask == self.bytes
    }
}

fn first_bytes(text: &str) -> u64 {
    text.bytes()
        .take(8)
        .enumerate()
        .fold(0, |bytes, (place, byte)| bytes | u64::from(byte) << (8 * place))
}

impl RuleSet {
    /// Reads the text of a rule file; [`RuleFile::read`] has the warnings too.
    ///
    /// # Errors
    /// [`RuleFileError`] with every mistake in the file: it is refused as a whole.
    pub fn parse(text: &str) -> Result<Self, RuleFileError> {
        RuleFile::read(text).rules
    }

    pub(super) fn of(rules: Vec<Rule>) -> Self {
        let mut exact: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        let mut wild = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            match rule.function.exact() {
                Some(id) => exact.entry(id.into()).or_default().push(place),
                None => wild.push((Head::of(rule.function.prefix()), place)),
            }
        }
        Self { rules, exact, wild }
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none, so that everything needs a person.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// How many examples the file has; all of them hold.
    pub fn examples(&self) -> usize {
        self.rules.iter().map(|rule| rule.examples).sum()
    }

    /// The rules in file order.
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What the rules say about a call; `args` are the caller's own arguments.
    pub fn check<'a>(&self, function_id: &str, args: impl Into<Args<'a>>) -> Verdict {
        let args = args.into();
        self.find(function_id, args)
            .map_or(Verdict::ASK, |rule| rule.verdict(args))
    }

    pub(super) fn find(&self, function_id: &str, args: Args<'_>) -> Option<&Rule> {
        let rule = |place: &usize| self.rules.get(*place);
        let exact = self.exact.get(function_id).and_then(|places| {
            places
                .iter()
                .find(|place| rule(place).is_some_and(|rule| rule.holds(args)))
        });
        let before = exact.copied().unwrap_or(usize::MAX);
        let head = first_bytes(function_id);
        self.wild
            .iter()
            .take_while(|(_, place)| *place < before)
            .filter(|(prefix, _)| prefix.may_fit(head))
            .filter_map(|(_, place)| rule(place))
            .find(|rule| rule.function.matches(function_id) && rule.holds(args))
            .or_else(|| exact.and_then(rule))
    }
}

#[cfg(test)]
mod tests;
