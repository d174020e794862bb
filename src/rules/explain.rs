//! Which rule decides a call, why, and what each mode makes of it (contract 03 §4).

use serde_json::{Map, Value};

use super::consult::{self, Outcome};
use super::floor::Floor;
use super::set::RuleSet;
use crate::model::api::approval::{Grant, Mode, Settings, Verdict};

/// Everything that bears on one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What the rules say.
    pub verdict: Verdict,
    /// The rule that says so, counted from 1.
    pub rule: Option<usize>,
    /// Rules for this function that stand before it and whose constraints do not hold.
    pub passed_over: Vec<PassedOver>,
    /// Whether only people may call the function.
    pub human_only: bool,
    /// The function of the floor's entry that holds the call.
    pub floor: Option<String>,
    /// What happens, by mode.
    pub modes: [ModeOutcome; 3],
}

/// A rule for the function that does not match the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Place in the file, counted from 1.
    pub rule: usize,
    /// Rule id.
    pub id: String,
    /// The first constraint that does not hold, in words.
    pub why: String,
}

/// What happens to the call in one mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeOutcome {
    /// The mode.
    pub mode: Mode,
    /// In a session without lists.
    pub plain: Outcome,
    /// When the function was approved always.
    pub approved: Outcome,
    /// When the function is on the always-allow list.
    pub listed: Outcome,
}

/// Explains a call; `args` are the caller's own arguments.
pub fn explain(rules: &RuleSet, floor: &Floor, function_id: &str, args: &Map<String, Value>) -> Explanation {
    let fitting = rules
        .rules()
        .iter()
        .zip(1..)
        .filter(|(rule, _)| rule.function.matches(function_id));
    let mut passed_over = Vec::new();
    let mut decides = None;
    for (rule, number) in fitting {
        if rule.holds(args) {
            decides = Some((rule, number));
            break;
        }
        passed_over.extend(rule.first_unlike(args).map(|unlike| PassedOver {
            rule: number,
            id: rule.id.clone().into_string(),
            why: unlike.why(),
        }));
    }
    let verdict = decides.map_or(Verdict::ASK, |(rule, _)| rule.verdict());
    let modes = [Mode::Manual, Mode::Auto, Mode::Full].map(|mode| {
        let outcome = |settings| consult::outcome(&settings, function_id, args, &verdict, floor);
        let grant = || {
            vec![Grant {
                function_id: function_id.into(),
                granted_at: 0,
                granted_by: "user_click".into(),
            }]
        };
        let plain = Settings {
            mode,
            ..Settings::default()
        };
        ModeOutcome {
            mode,
            plain: outcome(plain.clone()),
            approved: outcome(Settings {
                approved_always: grant(),
                ..plain.clone()
            }),
            listed: outcome(Settings {
                always_allow: grant(),
                ..plain
            }),
        }
    });
    Explanation {
        rule: decides.map(|(_, number)| number),
        verdict,
        passed_over,
        human_only: consult::human_only(function_id),
        floor: floor.entry(function_id, args).map(str::to_owned),
        modes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn explained(rules: &str, function_id: &str, args: &Value) -> Explanation {
        let floor = Floor::compile(&[json!("floor::*")]).unwrap();
        let rules = RuleSet::parse(rules).unwrap();
        let explanation = explain(&rules, &floor, function_id, args.as_object().unwrap());
        assert_eq!(
            explanation.verdict,
            rules.check(function_id, args.as_object().unwrap())
        );
        explanation
    }

    fn outcomes(explanation: &Explanation) -> [(Outcome, Outcome, Outcome); 3] {
        explanation
            .modes
            .clone()
            .map(|mode| (mode.plain, mode.approved, mode.listed))
    }

    #[test]
    fn the_rules_before_the_deciding_one_are_named() {
        let text = "rules: ['!other', {rule_id: a, function: f, action: allow, args: {x: {equals: 1}}}, {rule_id: b, function: 'f*', action: deny, args: {y: {matches: z}}}, {function: '*', action: deny}, f]";
        let explanation = explained(text, "f", &json!({"y": 1}));
        assert_eq!(explanation.rule, Some(4));
        let passed = |rule, id: &str, why: &str| PassedOver {
            rule,
            id: id.into(),
            why: why.into(),
        };
        assert_eq!(
            explanation.passed_over,
            [
                passed(2, "a", "argument `x` is missing"),
                passed(3, "b", "argument `y` is no text")
            ]
        );
        assert_eq!((explanation.human_only, explanation.floor.clone()), (false, None));
        let denied = || Outcome::Denied("*".into());
        assert_eq!(
            outcomes(&explanation),
            [
                (denied(), Outcome::Runs, denied()),
                (denied(), Outcome::Runs, Outcome::Runs),
                (Outcome::Runs, Outcome::Runs, Outcome::Runs),
            ]
        );
    }

    #[test]
    fn what_no_rule_mentions_is_asked() {
        let explanation = explained("rules: [a]", "f", &json!({}));
        assert_eq!((explanation.rule, explanation.passed_over.len()), (None, 0));
        let asks = Outcome::Asks;
        assert_eq!(
            outcomes(&explanation),
            [
                (asks.clone(), Outcome::Runs, asks.clone()),
                (asks, Outcome::Runs, Outcome::Runs),
                (Outcome::Runs, Outcome::Runs, Outcome::Runs),
            ]
        );
    }

    #[test]
    fn nothing_releases_what_is_on_the_floor_or_for_people() {
        let denied = || Outcome::Denied(consult::HUMAN_ONLY_RULE.into());
        for (id, human_only, floor) in [
            ("floor::x", false, Some("floor::*")),
            ("approval::set_mode", true, None),
        ] {
            let explanation = explained("rules: ['*']", id, &json!({}));
            assert_eq!(
                (explanation.human_only, explanation.floor.as_deref()),
                (human_only, floor)
            );
            assert_eq!(
                outcomes(&explanation),
                [(); 3].map(|()| (denied(), denied(), denied()))
            );
        }
        // A denial by the file comes before the floor.
        let explanation = explained("rules: ['!floor::x']", "floor::x", &json!({}));
        assert_eq!(explanation.modes[0].plain, Outcome::Denied("floor::x".into()));
    }
}
