//! Files that are refused, and what is odd about files that are not.

use pretty_assertions::assert_eq;
use serde_json::json;

use super::{RuleFile, RuleSet, allow, check, decision};

#[test]
fn p4_one_bad_rule_refuses_the_file_by_name_and_line() {
    let not_a_rule = "a rule is a text or an object, this is";
    for (bad, message) in [
        ("'!'", "rule 2: no function id".to_owned()),
        ("''", "rule 2: no function id".into()),
        ("{action: allow}", "rule 2: function: must be a text".into()),
        ("{function: '', action: allow}", "rule 2: no function id".into()),
        (
            "{function: 7, action: allow}",
            "rule 2: function: must be a text".into(),
        ),
        (
            "{function: f}",
            "rule 2 (`f`): action: must be `allow` or `deny`".into(),
        ),
        (
            "{function: f, action: ask}",
            "rule 2 (`f`): action: must be `allow` or `deny`".into(),
        ),
        (
            "{function: f, action: allow, args: [1]}",
            "rule 2 (`f`): args: must be an object of constraints".into(),
        ),
        (
            "{rule_id: r, function: f, action: allow, args: {p: {matches: '('}}}",
            "rule 2 (`r`): args.p.matches: a group is not closed".into(),
        ),
        (
            "{function: f, action: allow, args: {p: {matches: 1}}}",
            "rule 2 (`f`): args.p.matches: must be a text".into(),
        ),
        (
            "{function: f, action: allow, args: {p: {}}}",
            "rule 2 (`f`): args.p: a constraint needs `equals` or `matches`".into(),
        ),
        (
            "{function: f, action: allow, args: {p: x}}",
            "rule 2 (`f`): args.p: a constraint needs `equals` or `matches`".into(),
        ),
        (
            "~",
            format!("rule 2: {not_a_rule} empty, or a text beginning with `!` that needs quotes"),
        ),
        ("7", format!("rule 2: {not_a_rule} a number")),
        ("true", format!("rule 2: {not_a_rule} a truth value")),
        ("[a]", format!("rule 2: {not_a_rule} a list")),
    ] {
        let text = format!("rules:\n- good\n- {bad}\n- '*'\n");
        let error = RuleSet::parse(&text).unwrap_err().to_string();
        assert_eq!(error, format!("line 3: {message}"), "{bad}");
    }
}

#[test]
fn p4_every_mistake_is_told_at_once() {
    let text = "rules:\n  - good\n  - rule_id: r\n    action: ask\n    args:\n      p:\n        matches: '['\n      q: 1\n  - 7\n  - '!'\n  - ''\n";
    assert_eq!(
        RuleSet::parse(text).unwrap_err().to_string(),
        "line 3: rule 2 (`r`): function: must be a text; \
         line 4: rule 2 (`r`): action: must be `allow` or `deny`; \
         line 7: rule 2 (`r`): args.p.matches: a class is not closed; \
         line 8: rule 2 (`r`): args.q: a constraint needs `equals` or `matches`; \
         line 9: rule 3: a rule is a text or an object, this is a number; and 2 more"
    );
}

#[test]
fn what_is_no_yaml_is_refused_by_line() {
    let error = |text| RuleSet::parse(text).unwrap_err().to_string();
    assert_eq!(
        error("rules:\n  - a\n  - !state::set\n"),
        "line 3: not readable as YAML: `!state::set` is a tag here; quote texts that begin with `!`"
    );
    let broken = error("rules:\n- a\n- [b");
    assert!(
        broken.starts_with("line ") && broken.contains(": not readable as YAML: "),
        "{broken}"
    );
}

#[test]
fn what_is_odd_is_told_and_changes_nothing() {
    let text = "version: 1\nrule: []\nrules:\n- a\n- {function: f, action: allow, arg: {p: {equals: 1}}}\n- rule_id: 7\n  function: g\n  action: deny\n  args:\n    p: {equals: 1, matches: '(', flags: i}\n    q: {matches: '(?!x)y'}\n- '!a'\n";
    let file = RuleFile::read(text);
    let warnings: Vec<String> = file.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "line 2: rule: unknown, not looked at (known: version, rules)",
            "line 5: rule 2 (`f`): arg: unknown, not looked at (known: rule_id, function, action, args, match, not_match)",
            "line 6: rule 3 (`g`): rule_id: not a text with something in it, so the function is the rule id",
            "line 10: rule 3 (`g`): args.p.flags: unknown, not looked at (known: equals, matches)",
            "line 10: rule 3 (`g`): args.p: `matches` is not looked at beside `equals`",
            "line 11: rule 3 (`g`): args.q.matches: lookaround or a backreference: searched within limits, beyond which a denial holds and a permission does not",
            "line 12: rule 4: rule 1 has the same rule id",
        ]
    );
    let rules = file.rules.unwrap();
    assert_eq!(check(&rules, "f", json!({})), allow("f"));
    assert_eq!(decision(&rules, "g", json!({"p": 1, "q": "y"})), "deny");
    assert_eq!(rules.len(), 4);
}

#[test]
fn a_file_beyond_the_limit_is_refused() {
    let text = " ".repeat(crate::rules::MAX_BYTES);
    assert!(RuleSet::parse(&text).unwrap().is_empty());
    let error = RuleSet::parse(&(text + " ")).unwrap_err();
    assert_eq!(error.to_string(), "larger than 4 MiB");
}
