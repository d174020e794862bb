//! What the current turn of each session has told so far, for browsers that come late (contract 11 weakness 4).
//!
//! A turn begins when a run is accepted or behind a `turn_end`; earlier turns are in the transcript. Deltas are kept merged,
//! everything else as it is. A turn that grows too long is not told again: half of one would break pairs of start and end.
//! A compaction between two runs is kept as well: the browser of its user need not have listened (contract 11 weakness 1).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::queue::{Event, Waiting};
use super::subscriptions::Id;

/// Longest turn that is kept, bytes.
const LONGEST_TURN: usize = 1024 * 1024;

/// All turns together, bytes.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// Turns that are known, those that are too long included.
const MOST_TURNS: usize = 16_384;

/// What a kept event takes beside its JSON, bytes, roughly.
const TOLD_BYTES: usize = 128;

/// What a JSON value takes beside its text, and a member of an object beside its name and value, bytes, roughly.
const VALUE_BYTES: usize = 32;

/// The turns under way. When there are too many, the one that nothing was added to for longest goes.
#[derive(Debug, Default)]
pub(super) struct TurnLog {
    turns: HashMap<Id, Turn>,
    by_age: BTreeMap<u64, Id>,
    bytes: usize,
    /// Events so far.
    now: u64,
}

#[derive(Debug, Default)]
struct Turn {
    /// Told from its beginning; else this is only what came between two runs.
    begun: bool,
    told: Vec<Told>,
    bytes: usize,
    too_long: bool,
    /// When something was added last, in steps of `TurnLog::now`.
    age: u64,
}

/// An event, or a run of merged deltas.
#[derive(Debug)]
struct Told {
    what: Waiting,
    bytes: usize,
}

impl TurnLog {
    /// Takes note of an event that takes so many bytes.
    pub(super) fn note(&mut self, session: &Id, event: &Event, bytes: usize) {
        let json = event.json();
        let kind = json.get("type").and_then(Value::as_str).unwrap_or_default();
        let known = self.take(session);
        if kind == "agent_end" {
            return;
        }
        let mut turn = known.unwrap_or_default();
        turn.begun |= begins_turn(kind, json);
        if turn.begun && kind == "turn_end" {
            turn = Turn {
                begun: true,
                ..Turn::default()
            };
        } else if turn.begun || kind == "compaction_done" {
            turn.add(event, bytes);
        } else if turn.told.is_empty() {
            // In the middle of a turn: its beginning was told by an earlier life.
            return;
        }
        self.keep(session, turn);
        while self.bytes > MOST_BYTES || self.turns.len() > MOST_TURNS {
            let Some((_, oldest)) = self.by_age.pop_first() else {
                return;
            };
            self.forget(&oldest);
        }
    }

    /// The session is gone.
    pub(super) fn forget(&mut self, session: &Id) {
        self.take(session);
    }

    /// All that the current turn of the session has told; nothing when it is not known from its beginning.
    pub(super) fn told(&self, session: &Id) -> Vec<Waiting> {
        let told = self.turns.get(session).map(|turn| &turn.told);
        told.into_iter().flatten().map(|told| told.what.clone()).collect()
    }

    fn take(&mut self, session: &Id) -> Option<Turn> {
        let turn = self.turns.remove(session)?;
        self.by_age.remove(&turn.age);
        self.bytes -= turn.bytes;
        Some(turn)
    }

    fn keep(&mut self, session: &Id, mut turn: Turn) {
        self.now += 1;
        turn.age = self.now;
        self.by_age.insert(turn.age, Arc::clone(session));
        self.bytes += turn.bytes;
        self.turns.insert(Arc::clone(session), turn);
    }
}

impl Turn {
    fn add(&mut self, event: &Event, bytes: usize) {
        if self.too_long {
            return;
        }
        let mut what = Waiting::from(event.clone());
        if let Some(earlier) = self.told.pop_if(|last| last.what.goes_on_with(event)) {
            self.bytes -= earlier.bytes;
            what = earlier.what.append(what);
        }
        let bytes = TOLD_BYTES + bytes + what.merged_bytes();
        self.told.push(Told { what, bytes });
        self.bytes += bytes;
        if self.bytes > LONGEST_TURN {
            *self = Self {
                begun: self.begun,
                too_long: true,
                ..Self::default()
            };
        }
    }
}

/// What an event takes in memory, bytes, roughly; of one that is too long anyhow, only that it is.
pub(super) fn bytes_of(event: &Value) -> usize {
    let mut bytes = 0;
    let mut open = vec![event];
    while let Some(value) = open.pop() {
        bytes += VALUE_BYTES;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) => bytes += text.len(),
            Value::Array(items) => open.extend(items),
            Value::Object(members) => {
                for (name, member) in members {
                    bytes += VALUE_BYTES + name.len();
                    open.push(member);
                }
            }
        }
        if bytes > LONGEST_TURN {
            break;
        }
    }
    bytes
}

fn begins_turn(kind: &str, event: &Value) -> bool {
    kind == "turn_state_changed"
        && event
            .pointer("/new_value/state")
            .and_then(Value::as_str)
            .is_some_and(|state| state == "provisioning" || state == "assistant_streaming")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn state(state: &str) -> Value {
        json!({"type": "turn_state_changed", "event_type": "state:updated", "new_value": {"state": state}})
    }

    fn delta(kind: &str, text: &str) -> Value {
        json!({"type": "message_update", "message": {"role": "assistant", "content": []},
               "llm_event": {"type": kind, "delta": text}})
    }

    fn id(session: &str) -> Id {
        Arc::from(session)
    }

    impl TurnLog {
        fn notes(&mut self, session: &str, events: &[Value]) {
            for event in events {
                let event = Event::new(Arc::new(event.clone()));
                self.note(&id(session), &event, bytes_of(event.json()));
            }
        }

        fn tells(&self, session: &str) -> Vec<Value> {
            self.told(&id(session))
                .into_iter()
                .map(Waiting::into_json)
                .collect()
        }
    }

    #[test]
    fn a_turn_is_told_from_its_beginning_with_deltas_merged() {
        let mut log = TurnLog::default();
        let start = json!({"type": "function_execution_start", "function_call_id": "c"});
        log.notes(
            "s",
            &[
                state("provisioning"),
                state("assistant_streaming"),
                delta("thinking_delta", "a"),
                delta("thinking_delta", "b"),
                delta("text_delta", "c"),
                start.clone(),
                delta("text_delta", "d"),
                delta("text_delta", "ü"),
            ],
        );
        assert_eq!(
            log.tells("s"),
            [
                state("provisioning"),
                state("assistant_streaming"),
                delta("thinking_delta", "ab"),
                delta("text_delta", "c"),
                start,
                delta("text_delta", "dü"),
            ]
        );
        assert_eq!(log.tells("t"), Vec::<Value>::new());
    }

    #[test]
    fn the_next_turn_begins_behind_the_end_of_the_last_one_and_nothing_is_left_of_a_run() {
        let mut log = TurnLog::default();
        log.notes(
            "s",
            &[
                state("provisioning"),
                delta("text_delta", "a"),
                json!({"type": "turn_end"}),
            ],
        );
        assert_eq!(log.tells("s"), Vec::<Value>::new());
        log.notes("s", &[state("steering_check"), delta("text_delta", "b")]);
        assert_eq!(
            log.tells("s"),
            [state("steering_check"), delta("text_delta", "b")]
        );
        log.notes("s", &[json!({"type": "agent_end", "messages": []})]);
        assert_eq!((log.turns.len(), log.bytes), (0, 0));
    }

    #[test]
    fn a_compaction_between_two_runs_is_told_with_the_next_one() {
        let mut log = TurnLog::default();
        let compacted = json!({"type": "compaction_done"});
        log.notes(
            "s",
            &[compacted.clone(), json!({"type": "function_execution_end"})],
        );
        assert_eq!(log.tells("s"), std::slice::from_ref(&compacted));
        log.notes("s", &[state("provisioning")]);
        assert_eq!(log.tells("s"), [compacted, state("provisioning")]);
        log.notes("s", &[json!({"type": "agent_end", "messages": []})]);
        assert_eq!((log.turns.len(), log.bytes), (0, 0));
    }

    #[test]
    fn a_turn_whose_beginning_nobody_saw_is_not_told() {
        let mut log = TurnLog::default();
        log.notes(
            "s",
            &[
                state("function_awaiting_approval"),
                json!({"type": "function_execution_end"}),
            ],
        );
        assert_eq!((log.turns.len(), log.bytes), (0, 0));
        log.notes("s", &[state("assistant_streaming")]);
        assert_eq!(log.tells("s"), [state("assistant_streaming")]);
    }

    #[test]
    fn a_turn_too_long_is_forgotten_as_a_whole_and_the_next_one_is_kept() {
        let mut log = TurnLog::default();
        log.notes("s", &[state("provisioning")]);
        let piece = "x".repeat(1000);
        for _ in 0..1200 {
            log.notes("s", &[delta("text_delta", &piece)]);
        }
        assert_eq!(log.tells("s"), Vec::<Value>::new());
        log.notes("s", &[json!({"type": "turn_end"}), state("assistant_streaming")]);
        assert_eq!(log.tells("s"), [state("assistant_streaming")]);
    }

    #[test]
    fn of_many_turns_those_are_told_that_go_on() {
        let mut log = TurnLog::default();
        let half = "x".repeat(LONGEST_TURN / 2);
        log.notes("busy", &[state("provisioning")]);
        for n in 0..200 {
            log.notes("busy", &[json!({"type": "function_execution_start"})]);
            log.notes(
                &n.to_string(),
                &[state("provisioning"), delta("text_delta", &half)],
            );
            assert!(log.bytes <= MOST_BYTES);
        }
        let told: Vec<usize> = (0..200)
            .filter(|n| !log.tells(&n.to_string()).is_empty())
            .collect();
        assert_eq!(told, (137..200).collect::<Vec<_>>());
        assert_eq!(log.tells("busy").len(), 201);
        assert_eq!((log.turns.len(), log.by_age.len()), (64, 64));
        // One that had to go begins anew with its next turn.
        log.notes("0", &[delta("text_delta", "y"), json!({"type": "turn_end"})]);
        assert_eq!(log.tells("0"), Vec::<Value>::new());
        log.notes("0", &[state("assistant_streaming")]);
        assert_eq!(log.tells("0"), [state("assistant_streaming")]);
    }

    #[test]
    fn the_number_of_turns_is_bounded() {
        let mut log = TurnLog::default();
        for n in 0..=MOST_TURNS {
            log.notes(&n.to_string(), &[state("provisioning")]);
        }
        assert_eq!((log.turns.len(), log.by_age.len()), (MOST_TURNS, MOST_TURNS));
        assert_eq!((log.tells("0").len(), log.tells("1").len()), (0, 1));
        for n in 0..=MOST_TURNS {
            log.notes(&n.to_string(), &[json!({"type": "agent_end", "messages": []})]);
        }
        assert_eq!((log.turns.len(), log.by_age.len(), log.bytes), (0, 0, 0));
    }

    #[test]
    fn what_an_event_takes_is_counted_up_to_what_is_too_much() {
        assert_eq!(
            bytes_of(&json!({"type": "x", "list": [1, null, "é"]})),
            8 * 32 + 4 + 4 + 1 + 2
        );
        let long = "x".repeat(LONGEST_TURN + 1);
        assert_eq!(bytes_of(&json!(["not counted", long])), 2 * 32 + LONGEST_TURN + 1);
    }
}
