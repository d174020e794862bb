//! What the current turn of each session has told so far, for browsers that come late (contract 11 weakness 4).
//!
//! A turn begins when a run is accepted or behind a `turn_end`; earlier turns are in the transcript. A compaction of a session
//! at rest is kept as well: the browser of its user may not have listened then (contract 11 weakness 1). Deltas are kept merged,
//! everything else as text. A turn that grows too long is not told again: half of one would break pairs of start and end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use serde_json::Value;

use super::queue::{Event, Waiting};
use super::subscriptions::Id;

/// Longest turn that is kept, bytes.
const LONGEST_TURN: usize = 1024 * 1024;

/// All turns together, bytes.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// What an entry takes beside its text, bytes, roughly.
const ENTRY_BYTES: usize = 128;

/// A delta keeps one event beside its text, bytes, roughly.
const DELTA_BYTES: usize = 1024;

/// The turns under way.
#[derive(Debug, Default)]
pub(super) struct TurnLog {
    turns: HashMap<Id, Turn>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Turn {
    /// Told from its beginning; else this is only what came between two runs.
    begun: bool,
    told: Vec<Told>,
    bytes: usize,
    too_long: bool,
}

#[derive(Debug)]
enum Told {
    Deltas(Waiting),
    Other(Box<str>),
}

impl TurnLog {
    /// Takes note of an event.
    pub(super) fn note(&mut self, session: &Id, event: &Event) {
        let json = event.json();
        let kind = json.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind == "agent_end" {
            return self.forget(session);
        }
        let (begins, is_news) = (begins_turn(kind, json), kind == "compaction_done");
        let turn = match self.turns.entry(Arc::clone(session)) {
            Entry::Occupied(known) if known.get().begun || begins || is_news => known.into_mut(),
            Entry::Vacant(free) if begins || is_news => free.insert(Turn::default()),
            // In the middle of a turn: its beginning was told by an earlier life.
            Entry::Occupied(_) | Entry::Vacant(_) => return,
        };
        turn.begun |= begins;
        self.bytes -= turn.bytes;
        if kind == "turn_end" {
            *turn = Turn {
                begun: true,
                ..Turn::default()
            };
        } else {
            turn.add(event);
        }
        if turn.bytes > LONGEST_TURN || self.bytes + turn.bytes > MOST_BYTES {
            *turn = Turn {
                begun: turn.begun,
                too_long: true,
                ..Turn::default()
            };
        }
        self.bytes += turn.bytes;
    }

    /// The session is gone, or its run is over.
    pub(super) fn forget(&mut self, session: &Id) {
        if let Some(turn) = self.turns.remove(session) {
            self.bytes -= turn.bytes;
        }
    }

    /// All that the current turn of the session has told; nothing when it is not known from its beginning.
    pub(super) fn told(&self, session: &Id) -> Vec<Waiting> {
        let told = self.turns.get(session).map(|turn| &turn.told);
        told.into_iter().flatten().filter_map(Told::again).collect()
    }
}

impl Turn {
    fn add(&mut self, event: &Event) {
        if self.too_long {
            return;
        }
        let Some(delta_bytes) = event.delta_bytes() else {
            let text = event.json().to_string().into_boxed_str();
            self.bytes += ENTRY_BYTES + text.len();
            return self.told.push(Told::Other(text));
        };
        self.bytes += delta_bytes;
        let earlier = self
            .told
            .pop_if(|last| matches!(last, Told::Deltas(waiting) if event.follows(waiting)));
        self.told.push(Told::Deltas(match earlier {
            Some(Told::Deltas(earlier)) => earlier.append(event.clone().into()),
            Some(Told::Other(_)) | None => {
                self.bytes += ENTRY_BYTES + DELTA_BYTES;
                event.clone().into()
            }
        }));
    }
}

impl Told {
    fn again(&self) -> Option<Waiting> {
        match self {
            Self::Deltas(waiting) => Some(waiting.clone()),
            Self::Other(text) => {
                let json: Value = serde_json::from_str(text).ok()?;
                Some(Event::new(Arc::new(json)).into())
            }
        }
    }
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
                self.note(&id(session), &Event::new(Arc::new(event.clone())));
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
    fn many_turns_together_stay_within_bounds() {
        let mut log = TurnLog::default();
        let half = "x".repeat(LONGEST_TURN / 2);
        for n in 0..200 {
            log.notes(
                &n.to_string(),
                &[state("provisioning"), delta("text_delta", &half)],
            );
            assert!(log.bytes <= MOST_BYTES);
        }
        let told = (0..200).filter(|n| !log.tells(&n.to_string()).is_empty()).count();
        assert_eq!(told, 63);
    }
}
