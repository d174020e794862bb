//! Small steps of the consult order that the turn walks through before every agent call (contract 03 §4).

use serde_json::{Map, Value};

use super::floor::Floor;
use crate::model::api::approval::{Constraint, Grant, Mode, Settings, Verdict};

/// Rule id of denials that no file holds: human-only functions and the floor.
pub const HUMAN_ONLY_RULE: &str = "human_only_function";

/// Functions that only people call; an agent is refused before any state or policy is looked at. `approval::resolve` is left
/// to the rules and the floor.
const HUMAN_ONLY: [&str; 6] = [
    "approval::set_mode",
    "approval::add_always_allow",
    "approval::remove_always_allow",
    "approval::approve_always",
    "approval::get_settings",
    "approval::clear_settings",
];

/// Why a session's settings let a call through without the rules being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsAllow {
    /// Mode `full`.
    FullMode,
    /// On the list of remembered approvals, in any mode.
    ApprovedAlways,
    /// On the always-allow list, in mode `auto`.
    AlwaysAllow,
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It runs.
    Runs,
    /// It waits for a person.
    Asks,
    /// It is denied, by the rule with this id.
    Denied(String),
}

/// Whether only people may call the function.
pub fn human_only(function_id: &str) -> bool {
    HUMAN_ONLY.contains(&function_id)
}

/// What the rules see of a call's payload: its own members, or the payload under `arguments` when it is no object
/// (contract 02 §8.1).
pub fn rule_args(payload: &Value) -> Map<String, Value> {
    match payload {
        Value::Object(members) => members.clone(),
        other => Map::from_iter([("arguments".to_owned(), other.clone())]),
    }
}

/// Whether the settings allow the call; never for one on the floor.
pub fn settings_verdict(
    settings: &Settings,
    function_id: &str,
    args: &Map<String, Value>,
    floor: &Floor,
) -> Option<SettingsAllow> {
    let listed = |list: &[Grant]| list.iter().any(|grant| grant.function_id == *function_id);
    let allowed = match settings.mode {
        Mode::Full => Some(SettingsAllow::FullMode),
        Mode::Manual | Mode::Auto if listed(&settings.approved_always) => Some(SettingsAllow::ApprovedAlways),
        Mode::Auto if listed(&settings.always_allow) => Some(SettingsAllow::AlwaysAllow),
        Mode::Manual | Mode::Auto => None,
    };
    allowed.filter(|_| !floor.holds(function_id, args))
}

/// What the floor leaves of the rules' verdict on a call: a denial, which names its rule, comes first.
pub fn under_floor(verdict: Verdict, on_floor: bool) -> Verdict {
    match verdict {
        Verdict::Allow { .. } | Verdict::NeedsApproval { .. } if on_floor => Verdict::Deny {
            rule_id: HUMAN_ONLY_RULE.into(),
            rule_action: "deny".into(),
            matched_constraint: None,
        },
        verdict => verdict,
    }
}

/// The whole consult order for one call of a session with these settings, given what the rules say.
pub fn outcome(
    settings: &Settings,
    function_id: &str,
    args: &Map<String, Value>,
    verdict: &Verdict,
    floor: &Floor,
) -> Outcome {
    if human_only(function_id) {
        return Outcome::Denied(HUMAN_ONLY_RULE.into());
    }
    if settings_verdict(settings, function_id, args, floor).is_some() {
        return Outcome::Runs;
    }
    match under_floor(verdict.clone(), floor.holds(function_id, args)) {
        Verdict::Allow { .. } => Outcome::Runs,
        Verdict::NeedsApproval { .. } => Outcome::Asks,
        Verdict::Deny { rule_id, .. } => Outcome::Denied(rule_id),
    }
}

/// Reads the reply of a policy function that is not ours. Whatever is not a clean allow or deny needs a person.
pub fn read_verdict(reply: &Value) -> Verdict {
    clean_verdict(reply).unwrap_or(Verdict::ASK)
}

fn clean_verdict(reply: &Value) -> Option<Verdict> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let rule_id = text(reply, "rule_id")?;
    match text(reply, "decision")?.as_str() {
        "allow" => Some(Verdict::Allow { rule_id }),
        "deny" => {
            let matched_constraint = match reply.get("matched_constraint") {
                None => None,
                Some(constraint) => Some(Constraint {
                    field: text(constraint, "field")?,
                    operator: text(constraint, "operator")
                        .filter(|operator| operator == "equals" || operator == "matches")?,
                    value: constraint.get("value")?.clone(),
                }),
            };
            Some(Verdict::Deny {
                rule_id,
                rule_action: "deny".into(),
                matched_constraint,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn settings(mode: Mode) -> Settings {
        let grant = |id: &str| Grant {
            function_id: id.into(),
            granted_at: 1,
            granted_by: "user_click".into(),
        };
        Settings {
            mode,
            always_allow: vec![grant("listed")],
            approved_always: vec![grant("approved")],
            mode_set_at: 0,
        }
    }

    #[test]
    fn the_table_of_modes() {
        use SettingsAllow::{AlwaysAllow, ApprovedAlways, FullMode};
        let floor = Floor::compile(&[json!("floor::*")]).unwrap();
        for (mode, approved, listed, other) in [
            (Mode::Manual, Some(ApprovedAlways), None, None),
            (Mode::Auto, Some(ApprovedAlways), Some(AlwaysAllow), None),
            (Mode::Full, Some(FullMode), Some(FullMode), Some(FullMode)),
        ] {
            let verdict = |id| settings_verdict(&settings(mode), id, &Map::new(), &floor);
            assert_eq!(
                [
                    verdict("approved"),
                    verdict("listed"),
                    verdict("other"),
                    verdict("floor::x")
                ],
                [approved, listed, other, None]
            );
            // No globs and no prefixes in the lists.
            assert_eq!(verdict("approved::x"), other);
        }
    }

    #[test]
    fn human_only_functions() {
        assert!(human_only("approval::set_mode"));
        assert!(!human_only("approval::resolve"));
        assert!(!human_only("approval::set_mode "));
    }

    #[test]
    fn p8_an_unclean_reply_needs_a_person() {
        for reply in [
            json!(null),
            json!([]),
            json!("allow"),
            json!({}),
            json!({"decision": "allow"}),
            json!({"decision": "allow", "rule_id": 7}),
            json!({"decision": "maybe", "rule_id": "r"}),
            json!({"decision": "needs_approval"}),
            json!({"decision": "deny", "rule_id": "r", "matched_constraint": null}),
            json!({"decision": "deny", "rule_id": "r", "matched_constraint": {"field": "f", "operator": "is", "value": 1}}),
            json!({"decision": "deny", "rule_id": "r", "matched_constraint": {"field": "f", "operator": "equals"}}),
        ] {
            assert_eq!(read_verdict(&reply), Verdict::ASK, "{reply}");
        }
        assert_eq!(
            read_verdict(&json!({"decision": "allow", "rule_id": "r"})),
            Verdict::Allow { rule_id: "r".into() }
        );
        let bare = json!({"decision": "deny", "rule_id": "r", "rule_action": "deny"});
        assert_eq!(serde_json::to_value(read_verdict(&bare)).unwrap(), bare);
        let full = json!({"decision": "deny", "rule_id": "r", "rule_action": "deny",
            "matched_constraint": {"field": "f", "operator": "equals", "value": null}});
        assert_eq!(serde_json::to_value(read_verdict(&full)).unwrap(), full);
    }

    #[test]
    fn payloads_that_are_no_objects_are_wrapped() {
        assert_eq!(Value::Object(rule_args(&json!({"a": 1}))), json!({"a": 1}));
        assert_eq!(Value::Object(rule_args(&json!([1]))), json!({"arguments": [1]}));
    }
}
