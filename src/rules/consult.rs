//! Small steps of the consult order that the turn walks through before every agent call (contract 03 §4).

use serde_json::Value;

use super::args::Args;
use super::floor::Floor;
use super::levels::Level;
use crate::model::api::approval::{Constraint, Grant, Mode, Settings, Verdict};
use crate::model::text::clip;

/// Rule id of denials that no file holds: what is closed to agents, and the floor.
pub const HUMAN_ONLY_RULE: &str = "human_only_function";

/// Longest reason for a question that is passed on, in characters.
const MAX_REASON: usize = 1_000;

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

/// Functions that only this program calls: targets of its own bindings and steps of its own machine. Each trusts what it is
/// told, so a call of an agent would forge an event. The tests compare the list with the catalog.
const INTERNAL: [&str; 11] = [
    "approval::on_harness_config",
    "context-compaction::on_agent_event",
    "harness::fanout::agent_event_handler",
    "harness::fanout::session_created",
    "hook-fanout::reply_handler",
    "turn::assistant_streaming",
    "turn::function_awaiting_approval",
    "turn::function_execute",
    "turn::on_approval",
    "turn::provisioning",
    "turn::steering_check",
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

/// Whether only this program calls the function.
pub fn internal(function_id: &str) -> bool {
    INTERNAL.contains(&function_id)
}

/// The first level that agents may never call, before any settings or rules are looked at.
pub fn closed(levels: &[Level]) -> Option<&Level> {
    levels.iter().find(|level| {
        human_only(&level.function_id) || internal(&level.function_id) || level.hides_its_target()
    })
}

/// The first level that no rule, list or click lets an agent call.
pub fn forbidden<'a>(levels: &'a [Level], floor: &Floor) -> Option<&'a Level> {
    closed(levels).or_else(|| {
        levels
            .iter()
            .find(|level| floor.holds(&level.function_id, &level.args()))
    })
}

/// Whether the settings allow the call; never for one on the floor.
pub fn settings_verdict<'a>(
    settings: &Settings,
    function_id: &str,
    args: impl Into<Args<'a>>,
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

/// The whole consult order for a call of a session with these settings, given what the rules say of each of its levels: one
/// denial denies it, one question asks a person.
pub fn outcome(settings: &Settings, levels: &[Level], verdicts: &[Verdict], floor: &Floor) -> Outcome {
    if closed(levels).is_some() {
        return Outcome::Denied(HUMAN_ONLY_RULE.into());
    }
    let mut outcome = Outcome::Runs;
    for (level, verdict) in levels.iter().zip(verdicts) {
        let (id, args) = (&level.function_id, level.args());
        if settings_verdict(settings, id, &args, floor).is_some() {
            continue;
        }
        match under_floor(verdict.clone(), floor.holds(id, &args)) {
            Verdict::Allow { .. } => {}
            Verdict::NeedsApproval { .. } => outcome = Outcome::Asks,
            Verdict::Deny { rule_id, .. } => return Outcome::Denied(rule_id),
        }
    }
    outcome
}

/// Reads the reply of a policy function that is not ours. Whatever is not a clean allow or deny needs a person.
pub fn read_verdict(reply: &Value) -> Verdict {
    clean_verdict(reply).unwrap_or(Verdict::ASK)
}

fn clean_verdict(reply: &Value) -> Option<Verdict> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let rule_id = || text(reply, "rule_id");
    match text(reply, "decision")?.as_str() {
        "allow" => Some(Verdict::Allow { rule_id: rule_id()? }),
        "needs_approval" => Some(Verdict::NeedsApproval {
            reason: text(reply, "reason").map(|reason| clip(&reason, MAX_REASON).into_owned()),
        }),
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
                rule_id: rule_id()?,
                rule_action: "deny".into(),
                matched_constraint,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::levels::levels;
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::{Map, json};

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
            json!({"decision": "needs_approval", "reason": 7}),
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
        let asks = json!({"decision": "needs_approval", "reason": "why"});
        assert_eq!(serde_json::to_value(read_verdict(&asks)).unwrap(), asks);
        let full = json!({"decision": "deny", "rule_id": "r", "rule_action": "deny",
            "matched_constraint": {"field": "f", "operator": "equals", "value": null}});
        assert_eq!(serde_json::to_value(read_verdict(&full)).unwrap(), full);
    }

    #[test]
    fn the_first_level_that_no_agent_may_call() {
        let floor =
            Floor::compile(&[json!({"function": "set", "args": {"scope": {"equals": "x"}}})]).unwrap();
        let trigger = |id: &str| json!({"trigger_type": "cron", "function_id": id});
        for (id, payload, found) in [
            ("f", json!({}), None),
            ("approval::set_mode", json!({}), Some("approval::set_mode")),
            ("turn::on_approval", json!({}), Some("turn::on_approval")),
            ("set", json!({"scope": "y"}), None),
            ("set", json!({"scope": "x"}), Some("set")),
            ("set", json!(["x"]), Some("set")),
            ("engine::register_trigger", trigger("f"), None),
            ("engine::register_trigger", trigger("set"), Some("set")),
            (
                "engine::queue::enqueue",
                json!([1]),
                Some("engine::queue::enqueue"),
            ),
        ] {
            let levels = levels(id, &payload);
            let level = forbidden(&levels, &floor);
            assert_eq!(level.map(|level| &*level.function_id), found, "{id} {payload}");
        }
    }
}
