//! What waits for one browser on one lane: ordered, bounded, deltas merged when it is full (contract 04 weakness 3).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::model::event::DeltaKind;

/// Events that cannot be merged may exceed the configured length by this factor, for a while.
const HARD_FACTOR: usize = 4;

/// So many may wait for a while whatever the configured length: one commit emits several events at once.
pub(super) const LEAST_HARD: usize = 1_024;

/// How long a queue may stay above its length before its browser is given up.
pub(super) const FULL_TOO_LONG: Duration = Duration::from_secs(30);

/// An event for any number of browsers; its JSON is shared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    json: Arc<Value>,
    kind: Option<DeltaKind>,
}

impl Event {
    pub(super) fn new(json: Arc<Value>) -> Self {
        let kind = delta_of(&json).map(|(kind, _)| kind);
        Self { json, kind }
    }

    pub(super) fn json(&self) -> &Value {
        &self.json
    }
}

/// An event that waits, or a run of merged deltas.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Waiting {
    event: Event,
    /// Takes the place of the event's own delta: the concatenation of a run.
    merged: Option<String>,
}

impl Waiting {
    /// Whether the event is a delta that can be put behind this one.
    pub(super) fn goes_on_with(&self, event: &Event) -> bool {
        event.kind.is_some() && event.kind == self.event.kind
    }

    /// Length of the text of merged deltas.
    pub(super) fn merged_bytes(&self) -> usize {
        self.merged.as_ref().map_or(0, String::len)
    }

    /// The JSON to push; a clone only when others share it.
    pub(super) fn into_json(self) -> Value {
        let mut json = Arc::unwrap_or_clone(self.event.json);
        if let Some(text) = self.merged
            && let Some(delta) = json.pointer_mut("/llm_event/delta")
        {
            *delta = Value::String(text);
        }
        json
    }

    /// Puts a later delta of the same kind behind this one: the later event, with both texts.
    pub(super) fn append(self, later: Self) -> Self {
        let mut text = self.merged.unwrap_or_else(|| own_delta(&self.event));
        match &later.merged {
            Some(more) => text.push_str(more),
            None => text.push_str(delta_of(&later.event.json).map_or("", |(_, delta)| delta)),
        }
        Self {
            event: later.event,
            merged: Some(text),
        }
    }
}

impl From<Event> for Waiting {
    fn from(event: Event) -> Self {
        Self { event, merged: None }
    }
}

/// Ordered and bounded; one push of it is in flight at a time.
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: VecDeque<Waiting>,
    /// Whether neighbours that can be merged may be waiting.
    mergeable: bool,
    full_since: Option<Instant>,
    /// So many at the front are told again to a late listener; they came at once and are no sign of a slow one.
    replayed: usize,
    /// Whether what was taken last still belongs here, because nothing was forgotten since.
    taken: bool,
}

impl Queue {
    /// Puts an event at the end. False when the queue was full for too long, or far too full.
    pub(super) fn offer(&mut self, event: Event, length: usize, now: Instant) -> bool {
        self.mergeable |= self.items.back().is_some_and(|last| last.goes_on_with(&event));
        self.items.push_back(event.into());
        if self.len() > length && self.mergeable {
            self.merge_neighbours();
        }
        if self.len() <= length {
            self.full_since = None;
            return true;
        }
        let full_since = *self.full_since.get_or_insert(now);
        now.duration_since(full_since) <= FULL_TOO_LONG
            && self.len() <= length.saturating_mul(HARD_FACTOR).max(LEAST_HARD)
    }

    /// Puts what a late listener missed in the place of what waits: that is part of it.
    pub(super) fn replay(&mut self, missed: Vec<Waiting>) {
        *self = Self {
            replayed: missed.len(),
            items: missed.into(),
            ..Self::default()
        };
    }

    /// How many events wait, without those told again.
    pub(super) fn len(&self) -> usize {
        self.items.len() - self.replayed
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let oldest = self.items.pop_front();
        self.replayed = self.replayed.saturating_sub(1);
        self.taken = oldest.is_some();
        oldest
    }

    /// Puts what was taken last back to the front, unless it was forgotten with the rest.
    pub(super) fn put_back(&mut self, oldest: Waiting) {
        if std::mem::take(&mut self.taken) {
            self.items.push_front(oldest);
        }
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn merge_neighbours(&mut self) {
        let mut merged: VecDeque<Waiting> = VecDeque::with_capacity(self.len());
        for item in self.items.split_off(self.replayed) {
            let earlier = merged.pop_back_if(|last| last.goes_on_with(&item.event));
            merged.push_back(match earlier {
                Some(earlier) => earlier.append(item),
                None => item,
            });
        }
        self.items.append(&mut merged);
        self.mergeable = false;
    }
}

fn own_delta(event: &Event) -> String {
    delta_of(&event.json).map_or_else(String::new, |(_, delta)| delta.to_owned())
}

/// Kind and text of a streamed delta; `None` for every other event.
fn delta_of(event: &Value) -> Option<(DeltaKind, &str)> {
    if event.get("type")? != "message_update" {
        return None;
    }
    let update = event.get("llm_event")?;
    let kind = match update.get("type")?.as_str()? {
        "text_delta" => DeltaKind::Text,
        "thinking_delta" => DeltaKind::Thinking,
        "functioncall_delta" => DeltaKind::FunctionCall,
        _ => return None,
    };
    Some((kind, update.get("delta")?.as_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn delta(kind: &str, text: &str) -> Value {
        json!({"type": "message_update", "message": {"role": "assistant", "content": []},
               "llm_event": {"type": kind, "delta": text}})
    }

    fn offer(queue: &mut Queue, event: Value, length: usize) -> bool {
        queue.offer(Event::new(Arc::new(event)), length, Instant::now())
    }

    fn drain(queue: &mut Queue) -> Vec<Value> {
        std::iter::from_fn(|| queue.pop())
            .map(Waiting::into_json)
            .collect()
    }

    #[test]
    fn a_queue_with_room_merges_nothing() {
        let mut queue = Queue::default();
        let events = [delta("text_delta", "a"), delta("text_delta", "b")];
        for event in events.clone() {
            assert!(offer(&mut queue, event, 2));
        }
        assert_eq!(drain(&mut queue), events);
    }

    #[test]
    fn a_full_queue_merges_neighbours_of_a_kind_and_keeps_the_rest() {
        let mut queue = Queue::default();
        let start = json!({"type": "function_execution_start", "function_call_id": "c"});
        let end = json!({"type": "agent_end", "messages": []});
        for event in [
            delta("text_delta", "a"),
            delta("text_delta", "b"),
            start.clone(),
            delta("thinking_delta", "x"),
            delta("text_delta", "c"),
            delta("text_delta", "ü"),
            delta("text_delta", "🦀"),
            end.clone(),
        ] {
            assert!(offer(&mut queue, event, 4));
        }
        assert_eq!(
            drain(&mut queue),
            [
                delta("text_delta", "ab"),
                start,
                delta("thinking_delta", "x"),
                delta("text_delta", "cü🦀"),
                end
            ]
        );
    }

    #[test]
    fn endless_deltas_stay_within_the_length() {
        let mut queue = Queue::default();
        let mut expected = String::new();
        for n in 0..10_000 {
            expected.push_str(&n.to_string());
            assert!(offer(&mut queue, delta("text_delta", &n.to_string()), 8));
            assert!(queue.items.len() <= 8);
        }
        let texts: String = drain(&mut queue)
            .iter()
            .filter_map(|event| event.pointer("/llm_event/delta")?.as_str())
            .collect();
        assert_eq!(texts, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_cannot_be_merged_end_it_after_a_while_or_when_far_too_many() {
        let mut queue = Queue::default();
        let event = || json!({"type": "turn_end"});
        for _ in 0..3 {
            assert!(offer(&mut queue, event(), 2));
        }
        tokio::time::advance(FULL_TOO_LONG).await;
        assert!(offer(&mut queue, event(), 2));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!offer(&mut queue, event(), 2));

        for (length, most) in [(1, LEAST_HARD), (256, LEAST_HARD), (500, 2_000)] {
            let mut queue = Queue::default();
            for _ in 0..most {
                assert!(offer(&mut queue, event(), length));
            }
            assert!(!offer(&mut queue, event(), length), "{length}");
        }
    }

    #[test]
    fn what_is_told_again_takes_the_place_of_what_waits_and_counts_for_nothing() {
        let mut queue = Queue::default();
        let numbered = |n: usize| json!({"type": "turn_end", "n": n});
        let waiting = |n: usize| Waiting::from(Event::new(Arc::new(numbered(n))));
        for n in 3..5 {
            assert!(offer(&mut queue, numbered(n), 4));
        }
        queue.replay((0..5).map(waiting).collect());
        assert_eq!(queue.len(), 0);
        for n in 5..9 {
            assert!(offer(&mut queue, numbered(n), 4));
        }
        assert_eq!((queue.len(), queue.full_since), (4, None));
        let expected: Vec<Value> = (0..9).map(numbered).collect();
        assert_eq!(drain(&mut queue), expected);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn what_was_taken_can_be_put_back_unless_it_was_forgotten() {
        let mut queue = Queue::default();
        let events = [delta("text_delta", "a"), delta("thinking_delta", "b")];
        for event in events.clone() {
            offer(&mut queue, event, 4);
        }
        let first = queue.pop().unwrap();
        queue.put_back(first.clone());
        queue.put_back(first.clone());
        assert_eq!(queue.pop(), Some(first.clone()));
        queue.replay(vec![first.clone()]);
        queue.put_back(first.clone());
        assert_eq!(drain(&mut queue), events[..1]);
        offer(&mut queue, events[0].clone(), 4);
        let first = queue.pop().unwrap();
        queue.clear();
        queue.put_back(first);
        assert_eq!(queue.pop(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_got_room_again_is_not_full_any_more() {
        let mut queue = Queue::default();
        for _ in 0..3 {
            assert!(offer(&mut queue, json!({"type": "turn_end"}), 2));
        }
        queue.pop();
        queue.pop();
        tokio::time::advance(FULL_TOO_LONG * 2).await;
        assert!(offer(&mut queue, json!({"type": "turn_end"}), 2));
    }

    #[test]
    fn only_well_formed_deltas_count_as_deltas() {
        for event in [
            json!(null),
            json!("text_delta"),
            json!({"type": "message_update"}),
            json!({"type": "message_update", "llm_event": {"type": "text_delta", "delta": 1}}),
            json!({"type": "message_update", "llm_event": {"type": "text_end", "delta": "x"}}),
            json!({"type": "other", "llm_event": {"type": "text_delta", "delta": "x"}}),
        ] {
            assert_eq!(delta_of(&event), None);
        }
    }
}
