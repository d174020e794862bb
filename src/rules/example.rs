//! Examples in a rule, run when the file is read: calls that it must match and calls that it must not.
//!
//! ```yaml
//! - rule_id: no-force
//!   function: shell::exec
//!   action: deny
//!   args: { command: { matches: '^git push .*--force' } }
//!   match:                                    # the rule by itself, wherever it stands in the file
//!     - args: { command: git push --force }   # of the rule's function, when that has no `*`
//!   not_match:
//!     - args: { command: git status }
//!     - shell::fs::ls                         # a function without arguments
//! ```

use serde_json::{Map, Value};

use super::finding::Notes;
use super::pattern::Found;
use super::rule::Rule;

/// A call as an example describes it.
struct Example<'a> {
    function: &'a str,
    args: Map<String, Value>,
}

/// Runs the examples of an entry and says how many there are.
pub(super) fn run_all(entry: &Map<String, Value>, rule: &Rule, notes: &mut Notes) -> usize {
    ["match", "not_match"]
        .into_iter()
        .filter_map(|name| Some((name, entry.get(name)?)))
        .map(|(name, list)| notes.at(name, |notes| run_list(list, rule, name == "match", notes)))
        .sum()
}

fn run_list(list: &Value, rule: &Rule, must_match: bool, notes: &mut Notes) -> usize {
    let Value::Array(examples) = list else {
        notes.error::<()>("must be a list of examples");
        return 0;
    };
    for (place, example) in examples.iter().enumerate() {
        notes.at(place, |notes| run(example, rule, must_match, notes));
    }
    examples.len()
}

fn run(example: &Value, rule: &Rule, must_match: bool, notes: &mut Notes) {
    let Some(Example { function, args }) = read(example, rule, notes) else {
        return;
    };
    let unlike = if rule.function.matches(function) {
        rule.first_unlike(&args)
            .map(|unlike| (unlike.found, unlike.why()))
    } else {
        Some((Found::No, format!("`{function}` is another function")))
    };
    match (unlike, must_match) {
        (None, true) | (Some((Found::No, _)), false) => None,
        (None, false) => notes.error::<()>("the rule matches this example, and must not"),
        (Some((Found::No, why)), true) => notes.error(format!("the rule does not match this example: {why}")),
        // Neither yes nor no is never what an example wants to show.
        (Some((_, why)), _) => notes.error(format!("it cannot be told whether the rule matches: {why}")),
    };
}

fn read<'a>(example: &'a Value, rule: &'a Rule, notes: &mut Notes) -> Option<Example<'a>> {
    let members = match example {
        Value::String(function) => {
            return Some(Example {
                function,
                args: Map::new(),
            });
        }
        Value::Object(members) => members,
        _ => return notes.error("an example is a function id, or an object with `function` and `args`"),
    };
    if let Some(unknown) = members.keys().find(|name| *name != "function" && *name != "args") {
        return notes.error(format!(
            "`{unknown}` is unknown in an example; arguments stand under `args`"
        ));
    }
    let function = match (members.get("function"), rule.function.exact()) {
        (Some(Value::String(function)), _) => function,
        (None, Some(function)) => function,
        (None, None) => return notes.error("needs a `function`, as the rule is for many"),
        (Some(_), _) => return notes.error("`function` must be a text"),
    };
    let args = match members.get("args") {
        None => Map::new(),
        Some(Value::Object(args)) => args.clone(),
        Some(_) => return notes.error("`args` must be an object"),
    };
    Some(Example { function, args })
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use crate::rules::RuleSet;

    fn outcome(examples: &str) -> String {
        let text = format!(
            "rules:\n- '!a::*'\n- rule_id: r\n  function: a::b\n  action: deny\n  args: {{c: {{matches: '^x'}}, d: {{equals: 1}}}}\n{examples}"
        );
        match RuleSet::parse(&text) {
            Ok(rules) => format!("{} rules", rules.len()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn p6_examples_that_hold_are_silent() {
        let examples = "  match:\n  - args: {c: xy, d: 1, e: 2}\n  - {function: 'a::b', args: {c: x, d: 1.0}}\n  not_match: ['a::b', b, {args: {c: y, d: 1}}, {}]";
        assert_eq!(outcome(examples), "2 rules");
        assert_eq!(outcome("  match: []\n"), "2 rules");
    }

    #[test]
    fn p6_an_example_that_fails_refuses_the_file() {
        for (examples, message) in [
            (
                "  match:\n  - args: {c: xy}",
                "line 8: rule 2 (`r`): match[0]: the rule does not match this example: argument `d` is missing",
            ),
            (
                "  match: ['a::c']",
                "line 7: rule 2 (`r`): match[0]: the rule does not match this example: `a::c` is another function",
            ),
            (
                "  match: [{args: {c: y, d: 1}}]",
                "line 7: rule 2 (`r`): match[0]: the rule does not match this example: argument `c` does not match `^x`",
            ),
            (
                "  match: [{args: {c: 1, d: 1}}]",
                "line 7: rule 2 (`r`): match[0]: the rule does not match this example: argument `c` is no text",
            ),
            (
                "  match: [{args: {c: x, d: '1'}}]",
                "line 7: rule 2 (`r`): match[0]: the rule does not match this example: argument `d` is not 1",
            ),
            (
                "  not_match:\n  - b\n  - args: {c: x, d: 1}",
                "line 9: rule 2 (`r`): not_match[1]: the rule matches this example, and must not",
            ),
            (
                "  match: 'a::b'",
                "line 7: rule 2 (`r`): match: must be a list of examples",
            ),
            (
                "  match: [1]",
                "line 7: rule 2 (`r`): match[0]: an example is a function id, or an object with `function` and `args`",
            ),
            (
                "  match: [{c: x, d: 1}]",
                "line 7: rule 2 (`r`): match[0]: `c` is unknown in an example; arguments stand under `args`",
            ),
            (
                "  match: [{args: [x]}]",
                "line 7: rule 2 (`r`): match[0]: `args` must be an object",
            ),
            (
                "  match: [{function: 1}]",
                "line 7: rule 2 (`r`): match[0]: `function` must be a text",
            ),
            (
                "- {function: '*', action: allow, match: [{args: {}}]}",
                "line 7: rule 3 (`*`): match[0]: needs a `function`, as the rule is for many",
            ),
        ] {
            assert_eq!(outcome(examples), message);
        }
    }

    #[test]
    fn p6_an_example_beyond_the_step_limit_shows_nothing() {
        let text = r"rules: [{function: f, action: deny, args: {c: {matches: '^(?:(a+)+)(?!a)\1b$'}}, match: [{args: {c: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}}]}]";
        assert_eq!(
            RuleSet::parse(text).unwrap_err().to_string(),
            r"line 1: rule 1 (`f`): match[0]: it cannot be told whether the rule matches: argument `c` takes too much work to search for `^(?:(a+)+)(?!a)\1b$`"
        );
    }
}
