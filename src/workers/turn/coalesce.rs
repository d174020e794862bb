//! Merging of stream deltas (contract 01 §7.1). Pure: the caller brings the time.

use std::time::{Duration, Instant};

use crate::model::AssistantEvent;
use crate::model::event::{DeltaKind, Partial};

/// Merges consecutive deltas of one kind.
#[derive(Debug)]
pub(super) struct Coalescer {
    interval: Duration,
    max_chars: usize,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    kind: DeltaKind,
    text: String,
    chars: usize,
    partial: Partial,
    since: Instant,
}

impl Coalescer {
    /// `interval_ms` 0 passes every delta through at once.
    pub(super) fn new(interval_ms: u64, max_chars: usize) -> Self {
        Self {
            interval: Duration::from_millis(interval_ms),
            max_chars,
            held: None,
        }
    }

    /// Takes an event; answers what is to be emitted now, in order.
    pub(super) fn push(&mut self, event: AssistantEvent, now: Instant) -> Vec<AssistantEvent> {
        let Some((kind, delta)) = event.delta() else {
            return self.flush().into_iter().chain([event]).collect();
        };
        if self.interval.is_zero() {
            return vec![event];
        }
        let mut out = Vec::new();
        if self.held.as_ref().is_some_and(|held| held.kind != kind) {
            out.extend(self.flush());
        }
        let held = self.held.get_or_insert_with(|| Held {
            kind,
            text: String::new(),
            chars: 0,
            partial: None,
            since: now,
        });
        held.text.push_str(delta);
        held.chars += delta.chars().count();
        held.partial = take_partial(event);
        if held.chars >= self.max_chars {
            out.extend(self.flush());
        }
        out
    }

    /// When what is held must go out, at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.since + self.interval)
    }

    /// Gives out what is held.
    pub(super) fn flush(&mut self) -> Option<AssistantEvent> {
        let Held {
            kind,
            text: delta,
            partial,
            ..
        } = self.held.take()?;
        Some(match kind {
            DeltaKind::Text => AssistantEvent::TextDelta { partial, delta },
            DeltaKind::Thinking => AssistantEvent::ThinkingDelta { partial, delta },
            DeltaKind::FunctionCall => AssistantEvent::FunctioncallDelta { partial, delta },
        })
    }
}

fn take_partial(mut event: AssistantEvent) -> Partial {
    event.partial_mut().and_then(Option::take)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn text(delta: &str) -> AssistantEvent {
        AssistantEvent::TextDelta {
            partial: None,
            delta: delta.into(),
        }
    }
    fn thinking(delta: &str) -> AssistantEvent {
        AssistantEvent::ThinkingDelta {
            partial: None,
            delta: delta.into(),
        }
    }
    fn call(delta: &str) -> AssistantEvent {
        AssistantEvent::FunctioncallDelta {
            partial: None,
            delta: delta.into(),
        }
    }
    fn end() -> AssistantEvent {
        AssistantEvent::TextEnd { partial: None }
    }

    fn run(mut coalescer: Coalescer, events: Vec<AssistantEvent>) -> Vec<AssistantEvent> {
        let now = Instant::now();
        let mut out: Vec<_> = events
            .into_iter()
            .flat_map(|event| coalescer.push(event, now))
            .collect();
        out.extend(coalescer.flush());
        out
    }

    fn sixty() -> Coalescer {
        Coalescer::new(60, 4096)
    }

    #[test]
    fn c01_case_13_one_update() {
        assert_eq!(
            run(sixty(), vec![text("Hel"), text("lo, "), text("world")]),
            [text("Hello, world")]
        );
    }

    #[test]
    fn c01_case_14_one_update_per_kind() {
        let events = vec![text("a"), text("b"), thinking("x"), thinking("y"), call("{")];
        assert_eq!(run(sixty(), events), [text("ab"), thinking("xy"), call("{")]);
    }

    #[test]
    fn c01_case_15_other_events_flush_first() {
        let events = vec![text("a"), text("b"), end(), text("c")];
        assert_eq!(run(sixty(), events), [text("ab"), end(), text("c")]);
    }

    #[test]
    fn c01_case_16_the_cap_flushes_at_once() {
        let mut coalescer = Coalescer::new(60, 5);
        let now = Instant::now();
        assert_eq!(coalescer.push(text("abc"), now), []);
        assert_eq!(coalescer.push(text("def"), now), [text("abcdef")]);
        assert_eq!(coalescer.flush(), None);
    }

    #[test]
    fn c01_case_17_the_deadline_counts_from_the_first_delta() {
        let mut coalescer = sixty();
        let start = Instant::now();
        let mut updates = 0;
        for ms in (0..300_u64).step_by(5) {
            let now = start + Duration::from_millis(ms);
            if coalescer.deadline().is_some_and(|deadline| deadline <= now) {
                updates += coalescer.flush().into_iter().count();
            }
            updates += coalescer.push(text("x"), now).len();
        }
        assert!(updates >= 4, "{updates}");
    }

    #[test]
    fn interval_zero_passes_everything_through() {
        let events = vec![text("a"), text("b"), end()];
        assert_eq!(run(Coalescer::new(0, 10), events.clone()), events);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_reordered(
            parts in prop::collection::vec((0..4_u8, "[a-zé🦀]{0,6}"), 0..60),
            cap in 1..12_usize,
            interval in prop_oneof![Just(0_u64), Just(60)],
        ) {
            let events: Vec<_> = parts.iter().map(|(kind, delta)| match kind {
                0 => text(delta),
                1 => thinking(delta),
                2 => call(delta),
                _ => end(),
            }).collect();
            let flat = |events: &[AssistantEvent]| {
                let mut out: Vec<(Option<DeltaKind>, String)> = Vec::new();
                for event in events {
                    match (event.delta(), out.last_mut()) {
                        (Some((kind, delta)), Some((last, text))) if *last == Some(kind) => text.push_str(delta),
                        (Some((kind, delta)), _) => out.push((Some(kind), delta.to_owned())),
                        (None, _) => out.push((None, String::new())),
                    }
                }
                out
            };
            let merged = run(Coalescer::new(interval, cap), events.clone());
            prop_assert_eq!(flat(&merged), flat(&events));
        }
    }
}
