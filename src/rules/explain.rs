//! Which rule decides a call, why, and what each mode makes of it (contract 03 §4).

use serde_json::Value;

use super::consult::{self, Outcome};
use super::floor::Floor;
use super::levels::{Level, levels};
use super::set::RuleSet;
use crate::model::api::approval::{Grant, Mode, Settings, Verdict};

/// Everything that bears on one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The call itself, then the calls inside it.
    pub levels: Vec<LevelExplanation>,
    /// What happens to all of it, by mode.
    pub modes: [ModeOutcome; 3],
}

/// What bears on one of its levels.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelExplanation {
    /// The level.
    pub level: Level,
    /// What the rules say.
    pub verdict: Verdict,
    /// The rule that says so, counted from 1.
    pub rule: Option<usize>,
    /// Rules for this function that stand before it and whose constraints do not hold.
    pub passed_over: Vec<PassedOver>,
    /// Whether it is closed to agents, whatever the rules say.
    pub is_closed: bool,
    /// The function of the floor's entry that holds the call.
    pub floor: Option<String>,
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
    /// When its functions were approved always.
    pub approved: Outcome,
    /// When its functions are on the always-allow list.
    pub listed: Outcome,
}

/// Explains a call with everything inside it.
pub fn explain(rules: &RuleSet, floor: &Floor, function_id: &str, payload: &Value) -> Explanation {
    let levels = levels(function_id, payload);
    let explained: Vec<LevelExplanation> = levels
        .iter()
        .map(|level| explain_level(rules, floor, level))
        .collect();
    let verdicts: Vec<Verdict> = explained.iter().map(|level| level.verdict.clone()).collect();
    let grants: Vec<Grant> = levels
        .iter()
        .map(|level| Grant {
            function_id: level.function_id.clone(),
            granted_at: 0,
            granted_by: "user_click".into(),
        })
        .collect();
    let modes = [Mode::Manual, Mode::Auto, Mode::Full].map(|mode| {
        let outcome = |settings| consult::outcome(&settings, &levels, &verdicts, floor);
        let plain = Settings {
            mode,
            ..Settings::default()
        };
        ModeOutcome {
            mode,
            plain: outcome(plain.clone()),
            approved: outcome(Settings {
                approved_always: grants.clone(),
                ..plain.clone()
            }),
            listed: outcome(Settings {
                always_allow: grants.clone(),
                ..plain
            }),
        }
    });
    Explanation {
        levels: explained,
        modes,
    }
}

fn explain_level(rules: &RuleSet, floor: &Floor, level: &Level) -> LevelExplanation {
    let args = level.args();
    let fitting = rules
        .rules()
        .iter()
        .zip(1..)
        .filter(|(rule, _)| rule.function.matches(&level.function_id));
    let mut passed_over = Vec::new();
    let mut decides = None;
    for (rule, number) in fitting {
        if rule.holds((&args).into()) {
            decides = Some((rule, number));
            break;
        }
        passed_over.extend(rule.first_unlike(&args.members).map(|unlike| PassedOver {
            rule: number,
            id: rule.id.clone().into_string(),
            why: unlike.why(),
        }));
    }
    LevelExplanation {
        rule: decides.map(|(_, number)| number),
        verdict: decides.map_or(Verdict::ASK, |(rule, _)| rule.verdict((&args).into())),
        passed_over,
        is_closed: consult::closed(std::slice::from_ref(level)).is_some(),
        floor: floor.entry(&level.function_id, &args).map(str::to_owned),
        level: level.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::api::approval::Constraint;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn explained(rules: &str, function_id: &str, args: &Value) -> Explanation {
        let floor = Floor::compile(&[json!("floor::*")]).unwrap();
        let rules = RuleSet::parse(rules).unwrap();
        let explanation = explain(&rules, &floor, function_id, args);
        for level in &explanation.levels {
            assert_eq!(
                level.verdict,
                rules.check(&level.level.function_id, &level.level.args())
            );
        }
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
        let level = &explanation.levels[0];
        assert_eq!(level.rule, Some(4));
        let passed = |rule, id: &str, why: &str| PassedOver {
            rule,
            id: id.into(),
            why: why.into(),
        };
        assert_eq!(
            level.passed_over,
            [
                passed(2, "a", "argument `x` is missing"),
                passed(3, "b", "argument `y` is no text")
            ]
        );
        assert_eq!((level.is_closed, level.floor.clone()), (false, None));
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
        let level = &explanation.levels[0];
        assert_eq!((level.rule, level.passed_over.len()), (None, 0));
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
        for (id, is_closed, floor) in [
            ("floor::x", false, Some("floor::*")),
            ("approval::set_mode", true, None),
            ("turn::on_approval", true, None),
        ] {
            let explanation = explained("rules: ['*']", id, &json!({}));
            let level = &explanation.levels[0];
            assert_eq!((level.is_closed, level.floor.as_deref()), (is_closed, floor));
            assert_eq!(
                outcomes(&explanation),
                [(); 3].map(|()| (denied(), denied(), denied()))
            );
        }
        // A denial by the file comes before the floor.
        let explanation = explained("rules: ['!floor::x']", "floor::x", &json!({}));
        assert_eq!(explanation.modes[0].plain, Outcome::Denied("floor::x".into()));
    }

    #[test]
    fn a_call_inside_a_call_decides_with_it() {
        let job = |id: &str, data: Value| json!({"queue": "q", "function_id": id, "data": data});
        let text = "rules: ['engine::queue::*', {rule_id: x, function: f, action: deny, args: {a: {equals: 1}}}, {function: g, action: deny}]";
        for (payload, plain, listed) in [
            (job("f", json!({"a": 2})), Outcome::Asks, Outcome::Runs),
            (
                job("f", json!({"a": 1})),
                Outcome::Denied("x".into()),
                Outcome::Runs,
            ),
            // Read by position this may be an `a` of 1.
            (job("f", json!([1])), Outcome::Denied("x".into()), Outcome::Runs),
            (
                job("floor::x", json!({})),
                Outcome::Denied(consult::HUMAN_ONLY_RULE.into()),
                Outcome::Denied(consult::HUMAN_ONLY_RULE.into()),
            ),
        ] {
            let explanation = explained(text, "engine::queue::enqueue", &payload);
            let mode = &explanation.modes[1];
            assert_eq!(explanation.levels.len(), 2);
            assert_eq!((&mode.plain, &mode.listed), (&plain, &listed), "{payload}");
        }
        let bare = |args: Value| explained(text, "f", &args).levels[0].verdict.clone();
        let denial = |constraint: Option<Constraint>| Verdict::Deny {
            rule_id: "x".into(),
            rule_action: "deny".into(),
            matched_constraint: constraint,
        };
        let constraint = Constraint {
            field: "a".into(),
            operator: "equals".into(),
            value: json!(1),
        };
        assert_eq!(bare(json!({"a": 1})), denial(Some(constraint)));
        assert_eq!(bare(json!([1])), denial(None));
    }
}
