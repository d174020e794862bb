//! What the worker measures of itself.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Histogram, Key, Label, Level, Metadata, Recorder};

use crate::model::TurnState;
use crate::telemetry::name;

static METADATA: Metadata<'static> = Metadata::new("harness::turn", Level::INFO, None);

/// Counters of the state machine; silent until connected.
#[derive(Default)]
pub(super) struct Meters(OnceLock<Connected>);

struct Connected {
    transitions: [(TurnState, Counter); 6],
    overhead: Histogram,
}

impl Meters {
    /// Resolves the counters once.
    pub(super) fn connect(&self, recorder: &dyn Recorder) {
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
                let label = Label::from_static_parts("to", state.as_str());
                let key = Key::from_parts(name::TURN_TRANSITIONS_TOTAL, vec![label]);
                (state, recorder.register_counter(&key, &METADATA))
            }),
            overhead: recorder
                .register_histogram(&Key::from_static_name(name::TURN_OVERHEAD_SECONDS), &METADATA),
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
