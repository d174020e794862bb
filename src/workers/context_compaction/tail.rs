//! Which part of a conversation is summarised and which stays verbatim (contract 10 §7.2). Pure.

use std::collections::HashMap;

use crate::model::api::session::MessageRow;
use crate::model::{RawMessage, tokens, window};

const UNITS_PER_TOKEN: u64 = 4;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    /// Most recent user turns that are considered.
    pub(super) turns: usize,
    /// Tokens of the tail.
    pub(super) budget: u64,
    /// The rows end where the model is asked next: a step with its results is kept whatever its size.
    pub(super) last_step: bool,
}

/// A cut through rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// So many rows are summarised.
    pub(super) head: usize,
    /// Row that the tail begins with; without one everything is summarised.
    pub(super) tail: Option<usize>,
}

/// Cuts rows, oldest first. Never between a call and its result.
pub(super) fn cut(rows: &[&MessageRow], keep: Keep) -> Cut {
    let blocked = blocked(rows);
    let wanted = recent(rows, &blocked, keep).filter(|start| *start > 0);
    let needed = last_step(rows).filter(|_| keep.last_step).map(|step| {
        let free = (0..=step).rev().find(|at| blocked.get(*at) != Some(&true));
        free.unwrap_or(0)
    });
    let tail = match (wanted, needed) {
        (Some(wanted), Some(needed)) => Some(wanted.min(needed)),
        (wanted, needed) => wanted.or(needed),
    };
    Cut {
        head: tail.unwrap_or(rows.len()),
        tail,
    }
}

/// Where the newest turns that fit begin; a turn that does not is split.
fn recent(rows: &[&MessageRow], blocked: &[bool], keep: Keep) -> Option<usize> {
    let next_free = |from: usize, end: usize| (from..end).find(|at| blocked.get(*at) == Some(&false));
    let turns = rows
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, row)| window::is_user(row));
    let (mut start, mut end, mut left) = (None, rows.len(), keep.budget);
    for (turn, _) in turns.take(keep.turns) {
        let size = estimate(rows, turn, end);
        if size <= left {
            start = next_free(turn, end).or(start);
            left -= size;
            end = turn;
            continue;
        }
        if left > 0 {
            let fits = first_fit(rows, turn + 1, end, left);
            start = fits.and_then(|from| next_free(from, end)).or(start);
        }
        break;
    }
    start
}

fn estimate(rows: &[&MessageRow], from: usize, end: usize) -> u64 {
    tokens::estimate(between(rows, from, end))
}

fn between<'a>(
    rows: &'a [&MessageRow],
    from: usize,
    end: usize,
) -> impl DoubleEndedIterator<Item = &'a RawMessage> {
    rows.get(from..end)
        .unwrap_or_default()
        .iter()
        .map(|row| &row.message)
}

/// The first row of a range from which on it fits.
fn first_fit(rows: &[&MessageRow], from: usize, end: usize, budget: u64) -> Option<usize> {
    let mut units = 0;
    let fitting = between(rows, from, end).rev().take_while(|message| {
        units += tokens::units(message);
        units / UNITS_PER_TOKEN <= budget
    });
    let fitting = fitting.count();
    (fitting > 0).then(|| end - fitting)
}

/// For each row whether a tail must not begin with it: it is a result, or stands between a call and its result.
fn blocked(rows: &[&MessageRow]) -> Vec<bool> {
    let mut blocked: Vec<bool> = rows.iter().map(|row| is_result(row)).collect();
    let mut asked = HashMap::new();
    for (at, row) in rows.iter().enumerate() {
        for call in calls(&row.message) {
            asked.insert(call, at);
        }
        let answered = row
            .message
            .text_member("function_call_id")
            .filter(|_| is_result(row));
        if let Some(call) = answered.and_then(|id| asked.get(id)) {
            for between in blocked.iter_mut().take(at).skip(call + 1) {
                *between = true;
            }
        }
    }
    blocked
}

/// The message with calls that the rows end with, but for its results.
fn last_step(rows: &[&MessageRow]) -> Option<usize> {
    let last = rows.iter().rposition(|row| !is_result(row))?;
    let row = rows.get(last)?;
    calls(&row.message).next().map(|_| last)
}

fn is_result(row: &MessageRow) -> bool {
    row.message.role() == "function_result"
}

/// Ids of the calls in a message.
fn calls(message: &RawMessage) -> impl Iterator<Item = &str> {
    let content = message
        .object()
        .get("content")
        .and_then(serde_json::Value::as_array);
    content.into_iter().flatten().filter_map(|block| {
        let is_call = block.get("type")?.as_str()? == "function_call";
        is_call.then(|| block.get("id")?.as_str()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::model::api::compaction::Limits;

    const M200: Limits = Limits {
        context: 200_000,
        input: 200_000,
        output: 4_096,
    };

    /// `U10`: a user message of 10 characters; `C5:a,b` an assistant message with calls; `R5:a` a result.
    fn rows(words: &str) -> Vec<MessageRow> {
        let row = |(at, word): (usize, &str)| {
            let (word, ids) = word.split_once(':').unwrap_or((word, ""));
            let (kind, length) = word.split_at(1);
            let mut content = vec![json!({ "type": "text", "text": "x".repeat(length.parse().unwrap()) })];
            if kind == "C" {
                content.extend(ids.split(',').map(
                    |id| json!({ "type": "function_call", "id": id, "function_id": "f", "arguments": {} }),
                ));
            }
            let message = match kind {
                "U" => json!({ "role": "user", "content": content, "timestamp": 0 }),
                "R" => json!({ "role": "function_result", "content": content, "function_call_id": ids,
                    "function_id": "shell::fs::cat", "details": {}, "is_error": false, "timestamp": 0 }),
                _ => json!({ "role": "assistant", "content": content, "stop_reason": "end", "model": "m",
                    "provider": "p", "timestamp": 0 }),
            };
            MessageRow {
                entry_id: at.to_string().into(),
                message: RawMessage::new(message).unwrap(),
                metadata: None,
            }
        };
        words
            .split(' ')
            .filter(|word| !word.is_empty())
            .enumerate()
            .map(row)
            .collect()
    }

    fn keep(budget: u64) -> Keep {
        Keep {
            turns: 2,
            budget,
            last_step: true,
        }
    }

    fn cut_of(words: &str, keep: Keep) -> Cut {
        let rows = rows(words);
        cut(&rows.iter().collect::<Vec<_>>(), keep)
    }

    fn tail(head: usize) -> Cut {
        Cut {
            head,
            tail: Some(head),
        }
    }

    fn everything(head: usize) -> Cut {
        Cut { head, tail: None }
    }

    #[test]
    fn c10_case_05_06_the_newest_turns_that_fit_are_kept() {
        let words = "U4000 A4000 U4000 A4000 U4000 A4000";
        let budget = tokens::tail_budget(tokens::usable(M200, 20_000), None);
        for (budget, start, before) in [(budget, 2, 2_046), (2_046, 4, 4_093)] {
            assert_eq!(cut_of(words, keep(budget)), tail(start));
            let rows = rows(words);
            assert_eq!(
                tokens::estimate(rows[..start].iter().map(|row| &row.message)),
                before
            );
        }
    }

    #[test]
    fn c10_case_07_08_what_fits_whole_is_summarised_whole() {
        assert_eq!(cut_of("U10 A10 U10 A10", keep(8_000)), everything(4));
        assert_eq!(cut_of("A10 A10", keep(8_000)), everything(2));
        assert_eq!(cut_of("", keep(8_000)), everything(0));
        let none = Keep {
            turns: 0,
            ..keep(8_000)
        };
        assert_eq!(cut_of("U4000 A4000 U10 A10", none), everything(4));
    }

    #[test]
    fn a_turn_that_does_not_fit_is_split() {
        assert_eq!(cut_of("U10 A10 U4000 A4000 A400", keep(200)), tail(4));
        assert_eq!(cut_of("U10 A10 U4000 A400", keep(200)), tail(3));
        assert_eq!(cut_of("U10 A10 U4000", keep(200)), everything(3));
        // Behind a turn that fits, the rest of the budget.
        assert_eq!(cut_of("U4000 A400 U10 A10", keep(200)), tail(1));
    }

    #[test]
    fn c10_case_36_c_no_tail_begins_with_a_result() {
        assert_eq!(cut_of("U10 A4000 R400:fc A400", keep(300)), tail(3));
        assert_eq!(cut_of("U10 C4000:fc R400:fc A400", keep(300)), tail(3));
        assert_eq!(cut_of("U10 C10:a,b R10:a U10 R400:b A10", keep(250)), tail(5));
    }

    #[test]
    fn the_last_step_is_kept_with_its_results() {
        assert_eq!(
            cut_of("U10 C10:a R9000:a C10:b,c R9000:b R9000:c", keep(2_000)),
            tail(3)
        );
        // Some results are still to come.
        assert_eq!(cut_of("U10 A10 U10 C10:b,c R10:b", keep(8_000)), tail(3));
        assert_eq!(cut_of("C10:b", keep(8_000)), tail(0));
        let ended = Keep {
            last_step: false,
            ..keep(8_000)
        };
        assert_eq!(cut_of("U10 C10:b R10:b", ended), everything(3));
    }

    fn pairs_are_whole(rows: &[MessageRow], start: usize) -> bool {
        let (head, tail) = rows.split_at(start);
        let asked: Vec<&str> = head.iter().flat_map(|row| calls(&row.message)).collect();
        let mut answered = tail
            .iter()
            .filter(|row| is_result(row))
            .filter_map(|row| row.message.text_member("function_call_id"));
        !answered.any(|id| asked.contains(&id)) && !is_result(&tail[0])
    }

    proptest! {
        #[test]
        fn field_lesson_k5_a_cut_never_splits_a_pair_and_covers_everything(
            steps in proptest::collection::vec((0_u8..4, 0_usize..3_000, 1_usize..4), 0..24),
            budget in 0_u64..4_000, turns in 0_usize..4, last_step: bool,
        ) {
            let mut words = Vec::new();
            for (number, (kind, length, calls)) in steps.iter().enumerate() {
                let ids: Vec<String> = (0..*calls).map(|call| format!("{number}-{call}")).collect();
                match kind {
                    0 => words.push(format!("U{length}")),
                    1 => words.push(format!("A{length}")),
                    _ => {
                        words.push(format!("C{length}:{}", ids.join(",")));
                        // A word of the user between results now and then.
                        for (at, id) in ids.iter().enumerate() {
                            if *kind == 3 && at == 1 {
                                words.push("U9".to_owned());
                            }
                            words.push(format!("R{length}:{id}"));
                        }
                    }
                }
            }
            let rows = rows(&words.join(" "));
            let found = cut(&rows.iter().collect::<Vec<_>>(), Keep { turns, budget, last_step });
            prop_assert_eq!(found.head, found.tail.unwrap_or(rows.len()));
            if let Some(start) = found.tail {
                prop_assert!(pairs_are_whole(&rows, start), "{} at {start}", words.join(" "));
                let size = tokens::estimate(rows[start..].iter().map(|row| &row.message));
                prop_assert!(size <= budget + 4 || last_step);
            }
        }
    }

    #[test]
    fn calls_of_odd_messages_are_none() {
        for content in [json!([1, null, { "type": "function_call" }]), json!("text")] {
            let message = RawMessage::new(json!({ "role": "assistant", "content": content })).unwrap();
            assert_eq!(calls(&message).count(), 0);
        }
        assert_eq!(
            calls(&RawMessage::stored(json!({ "content": Value::Null })).unwrap()).count(),
            0
        );
    }
}
