//! What is worth a second look in a rule file that reads well: rules that can never decide.

use super::finding::Finding;
use super::rule::Rule;
use super::set::RuleSet;
use crate::yaml::{self, Step};

/// Rules that an earlier one without constraints covers, so that they never decide; `text` is what the rules were read from.
pub fn review(rules: &RuleSet, text: &str) -> Vec<Finding> {
    let mut covering: Vec<(usize, &Rule)> = Vec::new();
    let mut findings = Vec::new();
    for (rule, number) in rules.rules().iter().zip(1..) {
        if let Some((first, by)) = covering
            .iter()
            .find(|(_, other)| other.function.covers(&rule.function))
        {
            findings.push(Finding {
                line: line_of_rule(text, number),
                text: format!(
                    "rule {number} (`{}`): never decides, rule {first} (`{}`) matches all of its calls before",
                    rule.id, by.id
                ),
            });
        } else if rule.tests.is_empty() {
            covering.push((number, rule));
        }
    }
    findings
}

/// The line on which a rule begins; rules count from 1.
pub fn line_of_rule(text: &str, number: usize) -> Option<usize> {
    yaml::line_of(text, &["rules".into(), Step::Item(number.checked_sub(1)?)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn rules_that_never_decide_are_named() {
        let text = "rules:\n- a::*\n- '!a::b'\n- {function: b, action: deny, args: {x: {equals: 1}}}\n- b\n- b\n- 'a::*::c'\n- 'a*'\n- {rule_id: r, function: a::x, action: deny, args: {x: {equals: 1}}}\n- c\n";
        let found: Vec<String> = review(&RuleSet::parse(text).unwrap(), text)
            .iter()
            .map(Finding::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "line 3: rule 2 (`a::b`): never decides, rule 1 (`a::*`) matches all of its calls before",
                "line 6: rule 5 (`b`): never decides, rule 4 (`b`) matches all of its calls before",
                "line 7: rule 6 (`a::*::c`): never decides, rule 1 (`a::*`) matches all of its calls before",
                "line 9: rule 8 (`r`): never decides, rule 1 (`a::*`) matches all of its calls before",
            ]
        );
    }
}
