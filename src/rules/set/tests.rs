use super::*;
use crate::rules::review;
use pretty_assertions::assert_eq;
use proptest::prelude::*;
use serde_json::json;

fn rules(text: &str) -> RuleSet {
    RuleSet::parse(text).unwrap()
}

fn check(rules: &RuleSet, function_id: &str, args: Value) -> Value {
    let Value::Object(args) = args else {
        panic!("arguments are an object")
    };
    serde_json::to_value(rules.check(function_id, &args)).unwrap()
}

fn decision(rules: &RuleSet, function_id: &str, args: Value) -> String {
    check(rules, function_id, args)["decision"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn allow(rule_id: &str) -> Value {
    json!({"decision": "allow", "rule_id": rule_id})
}

fn deny(rule_id: &str) -> Value {
    json!({"decision": "deny", "rule_id": rule_id, "rule_action": "deny"})
}

fn ask() -> Value {
    json!({"decision": "needs_approval"})
}

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
fn the_shipped_file_reads_as_written() {
    let text = include_str!("../../../iii-permissions.example.yaml");
    let shipped = rules(text);
    assert_eq!(RuleFile::read(text).warnings, []);
    assert_eq!(review(&shipped, text), []);
    for id in [
        "approval::resolve",
        "policy::check_permissions",
        "hook-fanout::publish_collect",
        "state::set",
        "state::update",
        "state::delete",
        "stream::set",
        "iii::durable::publish",
        "harness::provider::resolve",
        "harness::provider::register",
        "configuration::get",
        "configuration::set",
        "configuration::register",
        "oauth::anthropic::login",
        "oauth::openai-codex::login",
        "run::start",
        "router::stream_assistant",
        "run::abort",
        "harness::trigger",
        "models::register",
    ] {
        assert_eq!(check(&shipped, id, json!({})), deny(id));
    }
    assert_eq!(
        check(&shipped, "provider::openai::stream", json!({})),
        deny("provider::*")
    );
    for id in [
        "state::get",
        "state::list",
        "models::list",
        "models::get",
        "models::supports",
        "oauth::anthropic::status",
        "oauth::openai-codex::status",
        "directory::engine::functions::list",
        "directory::engine::functions::info",
        "directory::engine::triggers::list",
        "directory::engine::triggers::info",
        "directory::engine::workers::list",
        "directory::engine::workers::info",
        "directory::engine::registered_triggers::list",
        "directory::engine::registered_triggers::info",
        "directory::skills::list",
        "directory::skills::get",
        "directory::skills::download",
        "directory::prompts::list",
        "directory::prompts::get",
        "directory::prompts::download",
        "engine::functions::list",
        "engine::functions::info",
        "engine::workers::list",
        "engine::workers::info",
        "engine::triggers::list",
        "engine::triggers::info",
        "engine::registered-triggers::list",
        "worker::list",
    ] {
        assert_eq!(check(&shipped, id, json!({})), allow(id));
    }
    for id in ["shell::exec", "web::fetch", "approval::set_mode"] {
        assert_eq!(check(&shipped, id, json!({})), ask());
    }
    assert_eq!(shipped.len(), 50);
}

/// Words of rule files, put together at random: most texts are nearly right.
fn nearly_a_file() -> impl Strategy<Value = String> {
    let word = prop::sample::select(
        &[
            "rules:",
            "\n- ",
            "\n  ",
            "\n    ",
            "'!a'",
            "!a",
            "a::*",
            "rule_id: r",
            "function: f",
            "action: allow",
            "action: deny",
            "args:",
            "p: ",
            "{equals: 1}",
            "{matches: '^(?!x)(a+)+$'}",
            "{matches: '('}",
            "match:",
            "not_match:",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "&x ",
            "*x",
            "<<: ",
            "~",
            "|\n",
            "\t",
            "\u{feff}",
            "0x1",
            ".nan",
            "1e999",
            "---",
            "...",
            "? ",
            ": ",
            "#",
            "\"\\u0000\"",
            "é",
        ][..],
    );
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![nearly_a_file(), "\\PC{0,60}".boxed()]) {
        let text = format!("rules:{text}");
        match RuleFile::read(&text).rules {
            Ok(rules) => prop_assert!(review(&rules, &text).len() <= rules.len()),
            Err(error) => prop_assert!(!error.0.is_empty() && error.0.iter().all(|finding| !finding.text.is_empty())),
        }
    }

    /// The index by id and by prefix against a walk over all rules.
    #[test]
    fn the_first_rule_that_matches_decides(
        functions in prop::collection::vec("[ab:*]{1,4}", 1..12),
        wanted in prop::collection::vec(any::<Option<bool>>(), 12),
        id in "[ab:]{1,4}",
    ) {
        let entries: Vec<Value> = functions
            .iter()
            .zip(&wanted)
            .zip(0..)
            .map(|((function, wanted), n): (_, i32)| {
                let args = wanted.map_or(json!({}), |wanted| json!({"x": {"equals": wanted}}));
                json!({"rule_id": n.to_string(), "function": function, "action": "deny", "args": args})
            })
            .collect();
        let rules = rules(&json!({ "rules": entries }).to_string());
        let naive = functions.iter().zip(&wanted).position(|(function, wanted)| {
            crate::rules::IdPattern::new(function).matches(&id) && *wanted != Some(false)
        });
        let args = Map::from_iter([("x".to_owned(), true.into())]);
        let found = match rules.check(&id, &args) {
            Verdict::Deny { rule_id, .. } => Some(rule_id),
            Verdict::Allow { .. } | Verdict::NeedsApproval { .. } => None,
        };
        prop_assert_eq!(found, naive.map(|place| place.to_string()));
    }
}
