//! What the worker measures of itself.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Histogram};

use crate::model::TurnState;
use crate::telemetry::{Metrics, name};

/// Counters of the state machine; silent until connected.
#[derive(Default)]
pub(super) struct Meters(OnceLock<Connected>);

struct Connected {
    transitions: [(TurnState, Counter); 6],
    overhead: Histogram,
}

impl Meters {
    /// Resolves the counters once.
    pub(super) fn connect(&self, metrics: &Metrics) {
        self.0.get_or_init(|| Connected {
            transitions: [
                TurnState::AssistantStreaming,
                TurnState::FunctionExecute,
                TurnState::FunctionAwaitingApproval,
                TurnState::SteeringCheck,
                TurnState::Stopped,
                TurnState::Failed,
            ]
            .map(|state| {
                (
                    state,
                    metrics.counter(name::TURN_TRANSITIONS_TOTAL, &[("to", state.as_str())]),
                )
            }),
            overhead: metrics.histogram(name::TURN_OVERHEAD_SECONDS, &[]),
        });
    }

    /// A step is stored.
    pub(super) fn transition(&self, to: TurnState) {
        let connected = self.0.get();
        let counter = connected.and_then(|meters| meters.transitions.iter().find(|(state, _)| *state == to));
        if let Some((_, counter)) = counter {
            counter.increment(1);
        }
    }

    /// A run is over: its time less that of models and functions is our own.
    pub(super) fn run_ended(&self, took: Duration, outside: Duration) {
        if let Some(connected) = self.0.get() {
            connected
                .overhead
                .record(took.saturating_sub(outside).as_secs_f64());
        }
    }
}
