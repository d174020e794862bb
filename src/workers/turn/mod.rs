//! The turn orchestrator: a durable state machine per session (contract 02).
//!
//! ```text
//!  run::start ─► actor ─► runner: load ─► step of the record's state ─► save ─┐
//!  turn::<state>  ▲                ▲                                           │ next state
//!  turn::on_approval                └───────────────────────────────────────────┘
//!
//!  provisioning ─► assistant_streaming ─► function_execute ─► steering_check ─► stopped
//!                        ▲                  │       ▲              │
//!                        │                  ▼       │              │
//!                        │       function_awaiting_approval        │
//!                        └─────────────────────────────────────────┘
//! ```
//!
//! Invariants: the record in state is the truth and is written last; a session has one actor; a call is marked as started
//! before it is dispatched and is never run twice silently; `agent_end` is the last event of a run, once; a stop
//! ([`stop`]) is seen at every wait and leaves each call with a result. One file per function; pure parts: [`announcer`], [`batch`], [`coalesce`], [`context`], [`prompt`]. Deliberately not here: anything a
//! particular provider or function means.

mod abort;
mod aborted;
mod actor;
mod announcer;
mod assistant_streaming;
mod backoff;
mod batch;
mod billing;
mod coalesce;
mod commit;
mod context;
mod dispatch;
mod failed;
mod fallback;
mod flight;
mod function_awaiting_approval;
mod function_execute;
mod gate;
mod get_state;
mod kept;
mod later;
mod lease;
mod leftover;
mod meters;
mod model_turn;
mod numbering;
mod on_approval;
mod outbox;
mod parked;
mod preflight;
mod prompt;
mod provider_call;
mod provider_turn;
mod provisioning;
mod record;
mod recovery;
mod request;
mod resting;
mod runner;
mod session;
mod start;
mod steering_check;
mod step;
mod stop;
mod transcript;
mod view;
mod wake;
mod work;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::bus::{Function, Worker, WorkerDef};
use crate::model::SessionId;
use crate::rules::Floor;

/// After a restart with open sessions, and after an engine came back, functions of other workers are waited for this long.
const BOOT_GRACE: Duration = Duration::from_secs(15);

/// Memory of the worker.
#[derive(Default)]
pub struct Turns {
    actors: actor::Actors,
    meters: meters::Meters,
    epochs: lease::Epochs,
    looks: later::Looks,
    resting: resting::Resting,
    floor: Mutex<Option<(Vec<Value>, Arc<Floor>)>>,
    booting_until: Mutex<Option<Instant>>,
    left_open: Mutex<Vec<SessionId>>,
    /// Runs whose end was announced although it is not marked as such.
    told: kept::Kept<commit::Told>,
    /// Answers of models that are not stored yet.
    answers: kept::Kept<assistant_streaming::Answer>,
}

/// The worker.
pub fn worker() -> WorkerDef {
    Worker::new(
        "turn-orchestrator",
        "Durable state machine that drives agent turns.",
        Turns::default(),
    )
    .function::<start::Start>()
    .function::<abort::Abort>()
    .function::<provisioning::Provisioning>()
    .function::<assistant_streaming::AssistantStreaming>()
    .function::<function_execute::FunctionExecute>()
    .function::<function_awaiting_approval::FunctionAwaitingApproval>()
    .function::<steering_check::SteeringCheck>()
    .function::<on_approval::OnApproval>()
    .function::<get_state::GetState>()
    .trigger(
        "state",
        on_approval::OnApproval::ID,
        json!({ "scope": record::APPROVALS }),
    )
    .prepare(|cx| async move {
        cx.state().meters.connect(&cx.ports().metrics);
        Ok(())
    })
    .prepare(recovery::find)
    .background(recovery::run)
    .background(recovery::watch_link)
    .reconnected(recovery::again)
    .build()
}

impl Turns {
    /// The compiled deny floor; compiled again when the setting changes.
    fn floor(&self, entries: &[Value]) -> Result<Arc<Floor>, String> {
        let mut kept = self.floor.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, floor)) = &*kept
            && of == entries
        {
            return Ok(Arc::clone(floor));
        }
        let floor = Floor::compile(entries).map_err(|error| format!("permissions.deny_floor: {error}"))?;
        let floor = Arc::new(floor);
        *kept = Some((entries.to_vec(), Arc::clone(&floor)));
        Ok(floor)
    }

    /// Sessions of an earlier life are to be resumed.
    fn boot(&self, open: Vec<SessionId>) {
        self.await_others();
        *self.left_open.lock().unwrap_or_else(PoisonError::into_inner) = open;
    }

    /// Other workers are on their way, as after any start.
    fn await_others(&self) {
        let until = Instant::now() + BOOT_GRACE;
        *self.booting_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// The sessions found by [`boot`](Self::boot), once.
    fn left_open(&self) -> Vec<SessionId> {
        std::mem::take(&mut *self.left_open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether workers of an earlier life may still be on their way back.
    fn is_booting(&self) -> bool {
        let until = *self.booting_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Turns")
    }
}
