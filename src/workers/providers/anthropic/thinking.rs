//! How much a Claude model is asked to think (contract 08 §5.5).

use super::families;
use crate::model::ThinkingLevel;
use crate::workers::providers::messages::Thinking;
use crate::workers::providers::protocol::ModelFacts;

/// A smaller budget is refused upstream.
const MIN_BUDGET: u64 = 1024;
/// Of the output limit, what is left for the answer.
const RESERVE: u64 = 1024;

/// What to ask for: nothing without a level, an effort where the model takes no budget, else a budget.
pub(super) fn wanted(model: &ModelFacts, level: Option<ThinkingLevel>) -> Thinking {
    let Some(level) = level.filter(|level| *level != ThinkingLevel::Off) else {
        return Thinking::Unasked;
    };
    if model.supports_thinking == Some(false) {
        return Thinking::Unasked;
    }
    let level = match level {
        ThinkingLevel::Xhigh if model.supports_xhigh == Some(false) => ThinkingLevel::High,
        level => level,
    };
    let adapts = model
        .takes_no_budget
        .unwrap_or_else(|| families::KNOWN.takes_no_budget(&model.id));
    if adapts {
        return Thinking::Adaptive(effort(level));
    }
    let budget = named(level, model).or_else(|| usual(level, model.ceiling?));
    let budget = budget.map(|budget| budget.min(model.max_tokens.saturating_sub(RESERVE)));
    match budget {
        Some(budget) if budget >= MIN_BUDGET => Thinking::Budget(budget),
        _ => Thinking::Unasked,
    }
}

fn effort(level: ThinkingLevel) -> &'static str {
    match level {
        ThinkingLevel::Off | ThinkingLevel::Minimal | ThinkingLevel::Low => "low",
        ThinkingLevel::Medium => "medium",
        ThinkingLevel::High => "high",
        ThinkingLevel::Xhigh => "xhigh",
    }
}

/// The budget of the catalog.
fn named(level: ThinkingLevel, model: &ModelFacts) -> Option<u64> {
    let [minimal, low, medium, high] = model.thinking_budgets;
    match level {
        ThinkingLevel::Minimal => minimal,
        ThinkingLevel::Low => low,
        ThinkingLevel::Medium => medium,
        ThinkingLevel::High => high,
        ThinkingLevel::Off | ThinkingLevel::Xhigh => None,
    }
}

/// The budget for a model that can put out so many tokens.
fn usual(level: ThinkingLevel, ceiling: u64) -> Option<u64> {
    match level {
        ThinkingLevel::Off => None,
        ThinkingLevel::Minimal | ThinkingLevel::Low => Some((ceiling / 8).min(4_000)),
        ThinkingLevel::Medium => Some((ceiling / 4).min(8_000)),
        ThinkingLevel::High => Some((ceiling / 2).saturating_sub(1).min(16_000)),
        ThinkingLevel::Xhigh => Some(ceiling.saturating_sub(1).min(31_999)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ThinkingLevel::{High, Low, Medium, Minimal, Off, Xhigh};
    use pretty_assertions::assert_eq;

    fn facts(id: &str, max_tokens: u64, ceiling: Option<u64>) -> ModelFacts {
        ModelFacts {
            id: id.into(),
            max_tokens,
            ceiling,
            ..ModelFacts::default()
        }
    }

    #[test]
    fn c08_5_5_budgets_by_level_and_limit() {
        use Thinking::{Budget, Unasked};
        let cases = [
            (None, 32_000, Some(64_000), Unasked),
            (Some(Off), 32_000, Some(64_000), Unasked),
            (Some(Minimal), 32_000, Some(64_000), Budget(4_000)),
            (Some(Low), 32_000, Some(64_000), Budget(4_000)),
            (Some(Medium), 32_000, Some(64_000), Budget(8_000)),
            (Some(High), 32_000, Some(64_000), Budget(16_000)),
            (Some(Xhigh), 64_000, Some(64_000), Budget(31_999)),
            (Some(Xhigh), 32_000, Some(64_000), Budget(30_976)),
            (Some(Low), 8_192, Some(8_192), Budget(1_024)),
            (Some(High), 8_192, Some(8_192), Budget(4_095)),
            (Some(Xhigh), 8_192, Some(8_192), Budget(7_168)),
            (Some(High), 2_047, Some(64_000), Unasked),
            (Some(High), 2_048, Some(64_000), Budget(1_024)),
            (Some(Low), 8_000, Some(8_000), Unasked),
            (Some(High), 8_192, None, Unasked),
            (Some(High), 0, Some(0), Unasked),
        ];
        for (level, max_tokens, ceiling, expected) in cases {
            let model = facts("claude-sonnet-4-5", max_tokens, ceiling);
            assert_eq!(
                wanted(&model, level),
                expected,
                "{level:?} {max_tokens} {ceiling:?}"
            );
        }
    }

    #[test]
    fn the_catalog_names_budgets_and_says_no() {
        let mut model = facts("m", 32_000, Some(64_000));
        model.thinking_budgets = [Some(1_500), None, Some(6_000), Some(900)];
        assert_eq!(wanted(&model, Some(Minimal)), Thinking::Budget(1_500));
        assert_eq!(wanted(&model, Some(Low)), Thinking::Budget(4_000));
        assert_eq!(wanted(&model, Some(Medium)), Thinking::Budget(6_000));
        assert_eq!(wanted(&model, Some(High)), Thinking::Unasked);
        model.supports_xhigh = Some(false);
        model.thinking_budgets[3] = Some(9_000);
        assert_eq!(wanted(&model, Some(Xhigh)), Thinking::Budget(9_000));
        model.supports_thinking = Some(false);
        assert_eq!(wanted(&model, Some(Medium)), Thinking::Unasked);
    }

    #[test]
    fn models_that_refuse_budgets_get_an_effort() {
        for (level, effort) in [(Minimal, "low"), (Medium, "medium"), (Xhigh, "xhigh")] {
            let model = facts("claude-opus-4-7", 32_000, None);
            assert_eq!(wanted(&model, Some(level)), Thinking::Adaptive(effort));
        }
        let mut model = facts("claude-of-tomorrow", 32_000, None);
        assert_eq!(wanted(&model, Some(High)), Thinking::Unasked);
        model.takes_no_budget = Some(true);
        assert_eq!(wanted(&model, Some(High)), Thinking::Adaptive("high"));
        assert_eq!(wanted(&model, Some(Off)), Thinking::Unasked);
        model.supports_xhigh = Some(false);
        assert_eq!(wanted(&model, Some(Xhigh)), Thinking::Adaptive("high"));
    }
}
