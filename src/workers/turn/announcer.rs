//! The order in which a batch's start and end events go out (contract 02 §6.2). Pure.

use std::collections::BTreeMap;

use super::flight;
use super::work::ExecutedCall;
use crate::model::{AgentEvent, CallId, FunctionCall};

/// Sends start and end events as if the calls ran one after another, in call order, whatever order they end in. A parked
/// call has its start only and holds nothing back.
#[derive(Default)]
pub(super) struct Announcer {
    calls: Vec<Announced>,
    next: usize,
}

#[derive(Debug)]
struct Announced {
    call: FunctionCall,
    pending: bool,
    started: bool,
}

impl Announcer {
    /// `started`: its start event went out in an earlier life.
    pub(super) fn add(&mut self, call: FunctionCall, pending: bool, started: bool) {
        self.calls.push(Announced {
            call,
            pending,
            started,
        });
    }

    /// The events that may go out now.
    pub(super) fn collect(&mut self, executed: &BTreeMap<CallId, ExecutedCall>) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        while let Some(next) = self.calls.get_mut(self.next) {
            if !std::mem::replace(&mut next.started, true) {
                events.push(flight::start_event(&next.call));
            }
            match executed.get(&next.call.id) {
                Some(executed) => events.push(flight::end_event(executed)),
                None if next.pending => {}
                None => break,
            }
            self.next += 1;
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FunctionResult;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn call(id: &str) -> FunctionCall {
        FunctionCall {
            id: id.into(),
            function_id: "f".into(),
            arguments: json!({}),
        }
    }

    fn names(events: &[AgentEvent]) -> Vec<String> {
        events
            .iter()
            .map(|event| match event {
                AgentEvent::FunctionExecutionStart { function_call_id, .. } => {
                    format!("start {function_call_id}")
                }
                AgentEvent::FunctionExecutionEnd { function_call_id, .. } => {
                    format!("end {function_call_id}")
                }
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn after_a_restart_no_start_is_repeated_and_no_pair_is_missing() {
        let mut announcer = Announcer::default();
        for (id, pending, started) in [
            ("a", false, true),
            ("p", true, true),
            ("b", false, false),
            ("q", true, false),
        ] {
            announcer.add(call(id), pending, started);
        }
        let result = |id: &str| {
            (
                CallId::from(id),
                flight::executed(call(id), FunctionResult::from_value(json!("x")), 1),
            )
        };
        let done = BTreeMap::from([result("b")]);
        assert_eq!(names(&announcer.collect(&done)), Vec::<String>::new());
        let done = BTreeMap::from([result("a"), result("b")]);
        assert_eq!(
            names(&announcer.collect(&done)),
            ["end a", "start b", "end b", "start q"]
        );
    }

    #[test]
    fn pairs_go_out_in_call_order_whatever_ends_first() {
        let mut announcer = Announcer::default();
        for (id, pending) in [("a", false), ("p", true), ("b", false), ("c", false)] {
            announcer.add(call(id), pending, false);
        }
        let mut done = BTreeMap::new();
        let mut end = |id: &str| {
            done.insert(
                id.into(),
                flight::executed(call(id), FunctionResult::from_value(json!("x")), 1),
            );
            done.clone()
        };
        assert_eq!(names(&announcer.collect(&BTreeMap::new())), ["start a"]);
        assert_eq!(names(&announcer.collect(&end("c"))), Vec::<String>::new());
        assert_eq!(
            names(&announcer.collect(&end("a"))),
            ["end a", "start p", "start b"]
        );
        assert_eq!(
            names(&announcer.collect(&end("b"))),
            ["end b", "start c", "end c"]
        );
    }
}
