//! Any text, and any set of rules.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{RuleFile, Verdict, rules};
use crate::rules::review;

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
