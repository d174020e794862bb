//! Which tool outputs are dropped from a transcript (contract 10 §6.4). Pure.

use crate::config::Compaction;
use crate::model::api::session::MessageRow;
use crate::model::{EntryId, RawMessage, tokens, window};

/// Turns at the end that are left alone.
const RECENT_TURNS: usize = 2;

/// How much stays, in tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits<'a> {
    /// Newest output that stays.
    pub(super) protect: u64,
    /// Smallest gain that is worth a write.
    pub(super) min_free: u64,
    /// Functions whose outputs stay.
    pub(super) protected: &'a [String],
}

impl<'a> Limits<'a> {
    /// Those of the settings.
    pub(super) fn of(settings: &'a Compaction) -> Self {
        Self {
            protect: settings.prune_protect_tokens,
            min_free: settings.prune_min_free_tokens,
            protected: &settings.prune_protected_tools,
        }
    }
}

/// What is to be pruned.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Entries, newest first.
    pub(super) entries: Vec<EntryId>,
    /// Their tokens.
    pub(super) tokens: u64,
    /// Outputs that were looked at.
    pub(super) scanned: u64,
}

/// The outputs of one turn, newest first.
type Outputs<'a> = Vec<(&'a EntryId, u64)>;

/// Plans a pruning of rows, oldest first. The two newest turns stay as they are, unless one of them alone has more output
/// than is protected, as a long run of calls has (weakness 16): of such a turn the newest outputs stay. What was pruned
/// before is not looked at.
pub(super) fn plan(rows: &[MessageRow], limits: Limits<'_>) -> Plan {
    let (recent, old) = by_turn(rows, limits.protected);
    let mut plan = Plan::default();
    let mut total = 0;
    for turn in recent {
        let own: u64 = turn.iter().map(|(_, tokens)| tokens).sum();
        if own <= limits.protect || turn.len() < 2 {
            continue;
        }
        for (age, (entry, tokens)) in turn.into_iter().enumerate() {
            total += tokens;
            plan.scan(entry, tokens, age > 0 && total > limits.protect);
        }
    }
    for (entry, tokens) in old {
        total += tokens;
        plan.scan(entry, tokens, total > limits.protect);
    }
    if plan.tokens < limits.min_free {
        plan.entries.clear();
        plan.tokens = 0;
    }
    plan
}

impl Plan {
    fn scan(&mut self, entry: &EntryId, tokens: u64, is_over: bool) {
        self.scanned += 1;
        if is_over {
            self.entries.push(entry.clone());
            self.tokens += tokens;
        }
    }
}

/// Outputs that may be pruned: those of the newest turns, newest first, and of all turns before.
fn by_turn<'a>(rows: &'a [MessageRow], protected: &[String]) -> ([Outputs<'a>; RECENT_TURNS], Outputs<'a>) {
    let (mut recent, mut old) = ([Vec::new(), Vec::new()], Vec::new());
    let mut turn = 0;
    for row in rows.iter().rev() {
        if window::is_user(row) {
            turn += 1;
        } else if is_prunable(&row.message, protected) {
            let outputs = recent.get_mut(turn).unwrap_or(&mut old);
            outputs.push((&row.entry_id, tokens::of_text(row.message.texts())));
        }
    }
    (recent, old)
}

fn is_prunable(message: &RawMessage, protected: &[String]) -> bool {
    let function = message.text_member("function_id").unwrap_or_default();
    message.role() == "function_result"
        && tokens::pruned_at(message).is_none()
        && !protected.iter().any(|id| id == function)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const DEFAULT: Limits<'static> = Limits {
        protect: 40_000,
        min_free: 20_000,
        protected: &[],
    };

    fn row(id: usize, message: serde_json::Value) -> MessageRow {
        MessageRow {
            entry_id: id.to_string().into(),
            message: RawMessage::new(message).unwrap(),
            metadata: None,
        }
    }

    /// Rows of `U`, `A` and results of so many tokens.
    fn rows(words: &str) -> Vec<MessageRow> {
        let make = |(id, word): (usize, &str)| {
            let message = match word {
                "U" => json!({ "role": "user", "content": [] }),
                "A" => json!({ "role": "assistant", "content": [] }),
                tokens => json!({ "role": "function_result", "function_id": "shell::fs::cat", "details": {},
                    "content": [{ "type": "text", "text": "x".repeat(tokens.parse::<usize>().unwrap() * 4) }] }),
            };
            row(id, message)
        };
        words.split_whitespace().enumerate().map(make).collect()
    }

    fn planned(words: &str, limits: Limits<'_>) -> (Vec<String>, u64, u64) {
        let plan = plan(&rows(words), limits);
        let ids = plan.entries.iter().map(ToString::to_string).collect();
        (ids, plan.tokens, plan.scanned)
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn c10_case_27_the_two_newest_turns_stay() {
        let five = "U A 50000 ".repeat(5);
        assert_eq!(planned(&five, DEFAULT), (ids(&["8", "5", "2"]), 150_000, 3));
    }

    #[test]
    fn c10_case_28_small_gains_are_left() {
        let turns = |count| "U A 15000 ".repeat(count) + "U A U A";
        assert_eq!(planned(&turns(3), DEFAULT), (ids(&[]), 0, 3));
        assert_eq!(planned(&turns(4), DEFAULT), (ids(&["5", "2"]), 30_000, 4));
    }

    #[test]
    fn c10_case_29_protected_functions_are_not_looked_at() {
        let limits = Limits {
            protected: &["shell::fs::cat".to_owned()],
            ..DEFAULT
        };
        assert_eq!(planned(&"U A 50000 ".repeat(5), limits), (ids(&[]), 0, 0));
    }

    #[test]
    fn inside_a_huge_turn_the_newest_outputs_stay() {
        let run = "U A 50000 A 30000 A 30000 A 30000 A 5000";
        assert_eq!(planned(run, DEFAULT), (ids(&["6", "4", "2"]), 110_000, 5));
        // The newest one always does, and then nothing older is protected.
        assert_eq!(
            planned("U A 9000 U A 30000 U A 1000 90000", DEFAULT),
            (ids(&[]), 0, 3)
        );
        assert_eq!(
            planned("U A 30000 U U A 1000 90000", DEFAULT),
            (ids(&["6", "2"]), 31_000, 3)
        );
    }

    #[test]
    fn prompts_of_a_compaction_begin_no_turn() {
        let mut rows = rows("U A 50000 U A U A");
        rows[5].metadata = Some(json!({ "compaction_continue": true }));
        assert_eq!(plan(&rows, DEFAULT), Plan::default());
    }

    proptest! {
        #[test]
        fn what_was_pruned_is_not_pruned_again(
            kinds in proptest::collection::vec((0_u8..4, 0_usize..400), 0..40),
            protect in 1_u64..800, min_free in 1_u64..300,
        ) {
            let words: Vec<String> = kinds.iter().map(|(kind, tokens)| match kind {
                0 => "U".to_owned(),
                1 => "A".to_owned(),
                _ => tokens.to_string(),
            }).collect();
            let mut rows = rows(&words.join(" "));
            let limits = Limits { protect, min_free, protected: &[] };
            let first = plan(&rows, limits);
            prop_assert!(first.entries.is_empty() || first.tokens >= min_free);
            for row in &mut rows {
                if first.entries.contains(&row.entry_id) {
                    let mut pruned = row.message.to_value();
                    pruned["content"] = json!([{ "type": "text", "text": "[output pruned]" }]);
                    pruned["details"]["compacted_at"] = json!(1);
                    row.message = RawMessage::new(pruned).unwrap();
                }
            }
            if !first.entries.is_empty() {
                prop_assert_eq!(plan(&rows, limits).entries, Vec::<EntryId>::new());
            }
        }
    }
}
