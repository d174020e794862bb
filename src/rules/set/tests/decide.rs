//! Which rule decides, and what it says.

use pretty_assertions::assert_eq;
use serde_json::{Map, json};

use super::{RuleSet, allow, ask, check, decision, deny, rules};
use crate::rules::RuleArgs;

#[test]
fn c03_case_24_deny_before_everything() {
    let rules = rules(r#"rules: ["!shell::*","*"]"#);
    assert_eq!(check(&rules, "shell::fs::rm", json!({})), deny("shell::*"));
    assert_eq!(check(&rules, "state::get", json!({})), allow("*"));
    assert_eq!(check(&rules, "Xshell::exec", json!({})), allow("*"));
    assert_eq!(check(&rules, "shell::exec\nrm", json!({})), ask());
}

#[test]
fn c03_case_25_first_match_wins() {
    assert_eq!(
        check(&rules("rules: ['*','!state::set']"), "state::set", json!({})),
        allow("*")
    );
    assert_eq!(
        check(&rules("rules: ['!state::set','*']"), "state::set", json!({})),
        deny("state::set")
    );
    // An exact rule whose constraint fails does not hide the wildcard rules after it.
    let mixed = rules("rules: [{function: a, action: deny, args: {x: {equals: 1}}}, 'b*', '*', a]");
    assert_eq!(check(&mixed, "a", json!({"x": 2})), allow("*"));
}

#[test]
fn c03_case_26_star_with_a_tail() {
    let rules = rules("rules: ['*::list']");
    assert_eq!(check(&rules, "models::list", json!({})), allow("*::list"));
    assert_eq!(check(&rules, "models::listing", json!({})), ask());
    assert_eq!(check(&rules, "models::list::sub", json!({})), ask());
}

#[test]
fn c03_case_27_a_dot_is_a_dot() {
    let rules = rules("rules: ['a.c::*']");
    assert_eq!(check(&rules, "a.c::ping", json!({})), allow("a.c::*"));
    assert_eq!(check(&rules, "aXc::ping", json!({})), ask());
}

#[test]
fn c03_case_28_equals_by_value() {
    let rules = rules("rules: [{function: f, action: allow, args: {n: {equals: 0}}}]");
    for (args, expected) in [
        (json!({"n": 0}), allow("f")),
        (json!({"n": 0.0}), allow("f")),
        (json!({"n": "0"}), ask()),
        (json!({}), ask()),
    ] {
        assert_eq!(check(&rules, "f", args), expected);
    }
    let null = RuleSet::parse("rules: [{function: f, action: allow, args: {n: {equals: null}}}]").unwrap();
    assert_eq!(check(&null, "f", json!({"n": null})), allow("f"));
    assert_eq!(check(&null, "f", json!({})), ask());
}

#[test]
fn c03_case_29_matches_only_texts() {
    let rules = rules("rules: [{function: f, action: allow, args: {cmd: {matches: '.+'}}}]");
    assert_eq!(check(&rules, "f", json!({"cmd": "x"})), allow("f"));
    for cmd in [json!(123), json!(true), json!(null), json!(["x"]), json!({})] {
        assert_eq!(check(&rules, "f", json!({ "cmd": cmd })), ask());
    }
}

#[test]
fn c03_case_30_all_constraints_must_hold() {
    let rules = rules(
        "rules: [{function: state::get, action: allow, args: {scope: {equals: agent}, key: {matches: '^session/[a-z]+/notes$'}}}]",
    );
    assert_eq!(
        check(
            &rules,
            "state::get",
            json!({"scope": "agent", "key": "session/ab/notes"})
        ),
        allow("state::get")
    );
    assert_eq!(
        check(
            &rules,
            "state::get",
            json!({"scope": "other", "key": "session/ab/notes"})
        ),
        ask()
    );
    assert_eq!(
        check(
            &rules,
            "state::get",
            json!({"scope": "agent", "key": "session/ab/notes\n"})
        ),
        ask()
    );
}

#[test]
fn c03_case_31_a_denial_names_its_constraint() {
    let rules = rules(
        "rules: [{function: shell::exec, action: deny, args: {command: {matches: '^git push --force'}}}]",
    );
    let mut expected = deny("shell::exec");
    expected["matched_constraint"] =
        json!({"field": "command", "operator": "matches", "value": "^git push --force"});
    assert_eq!(
        check(
            &rules,
            "shell::exec",
            json!({"command": "git push --force origin"})
        ),
        expected
    );
    assert_eq!(
        check(&rules, "shell::exec", json!({"command": "git status"})),
        ask()
    );
}

#[test]
fn c03_case_32_a_bare_denial_has_three_keys() {
    let verdict = rules("rules: ['!f']").check("f", &Map::new());
    assert_eq!(
        serde_json::to_string(&verdict).unwrap(),
        r#"{"decision":"deny","rule_id":"f","rule_action":"deny"}"#
    );
}

#[test]
fn the_reported_constraint_is_the_first_by_field_name() {
    let rules = rules(
        "rules: [{rule_id: r, function: '*', action: deny, args: {b: {equals: 1}, a: {equals: {x: 1}, matches: '('}}}]",
    );
    let mut expected = deny("r");
    expected["matched_constraint"] = json!({"field": "a", "operator": "equals", "value": {"x": 1}});
    assert_eq!(check(&rules, "f", json!({"a": {"x": 1.0}, "b": 1})), expected);
}

#[test]
fn p7_no_rules_means_ask_for_everything() {
    for text in [
        "",
        "# only a comment",
        "version: 1",
        "rules: x",
        "rules: {a: b}",
        "- a",
        "rules: []",
        "rules:",
    ] {
        let rules = rules(text);
        assert!(rules.is_empty(), "{text:?}");
        assert_eq!(check(&rules, "state::get", json!({})), ask());
    }
}

#[test]
fn prefixes_of_every_length_are_told_apart() {
    for length in 0..=10 {
        let prefix = "é234567890".chars().take(length).collect::<String>();
        let rules = rules(&format!("rules: ['{prefix}*']"));
        assert_eq!(decision(&rules, &prefix, json!({})), "allow");
        assert_eq!(decision(&rules, &format!("{prefix}x"), json!({})), "allow");
        if length > 0 {
            assert_eq!(
                decision(&rules, &format!("x{prefix}"), json!({})),
                "needs_approval"
            );
            let shorter = "é234567890".chars().take(length - 1).collect::<String>();
            assert_eq!(decision(&rules, &shorter, json!({})), "needs_approval");
        }
    }
}

#[test]
fn a_search_that_takes_too_long_fails_closed() {
    let hopeless = r"'^(?:(a+)+)(?!a)\1b$'";
    let text = format!(
        "rules: [{{function: f, action: allow, args: {{x: {{matches: {hopeless}}}}}}}, {{rule_id: d, function: f, action: deny, args: {{x: {{matches: {hopeless}}}}}}}]"
    );
    assert_eq!(decision(&rules(&text), "f", json!({"x": "a".repeat(40)})), "deny");
    assert_eq!(decision(&rules(&text), "f", json!({"x": "c"})), "needs_approval");
}

#[test]
fn a_payload_that_is_no_object_fits_every_denial_and_no_permission() {
    let rules = rules(
        "rules: [{rule_id: a, function: f, action: allow, args: {x: {equals: 1}}}, {rule_id: d, function: f, action: deny, args: {x: {equals: 2}}}, {rule_id: w, function: g, action: allow, args: {arguments: {equals: [1]}}}]",
    );
    let said = |id: &str, payload: &serde_json::Value| {
        serde_json::to_value(rules.check(id, &RuleArgs::of(payload))).unwrap()
    };
    for payload in [json!([1]), json!("x"), json!(7), json!(true)] {
        assert_eq!(said("f", &payload), deny("d"), "{payload}");
    }
    // Nothing can be read out of null.
    assert_eq!(said("f", &json!(null)), ask());
    assert_eq!(said("g", &json!([1])), allow("w"));
    assert_eq!(said("g", &json!([2])), ask());
}
