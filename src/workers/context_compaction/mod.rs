//! Keeps sessions inside the windows of their models (contract 10).
//!
//! ```text
//!  turn (pre-flight) ──► compact_now ──┐
//!  user: /compact ──► compact_session ─┼─► lease ─► compact: read ─► cut ─► prune ─► summariser ─► append ─► announce
//!  agent::turn_end ──► on_agent_event ─┘
//!  anybody ──► prune_tool_outputs ─► lease ─► plan ─► update_parts
//! ```
//!
//! Pure parts: [`failure`], [`files`], [`prompt`], [`prune`], [`tail`]; the token arithmetic and what a model sees are in
//! `model`, for the turn uses them too. Invariants: nothing is appended before the summary is whole; a tail never begins
//! between a call and its result; no message is neither summarised nor visible. Deliberately not here: the provider window
//! itself, which the turn builds, and the entries, which the session tree owns.

mod announce;
mod compact;
mod compact_now;
mod compact_session;
mod failure;
mod files;
mod lease;
mod on_agent_event;
mod prompt;
mod prune;
mod prune_tool_outputs;
mod resolve;
mod session;
mod summariser;
mod tail;

use serde_json::json;

use crate::bus::{Function, Worker, WorkerDef};

/// The worker.
pub fn worker() -> WorkerDef {
    Worker::new(
        "context-compaction",
        "Keeps sessions inside the windows of their models: prunes old outputs, summarises what is old.",
        (),
    )
    .function::<compact_now::CompactNow>()
    .function::<compact_session::CompactSession>()
    .function::<on_agent_event::OnAgentEvent>()
    .function::<prune_tool_outputs::PruneToolOutputs>()
    .trigger(
        "stream",
        on_agent_event::OnAgentEvent::ID,
        json!({ "stream_name": "agent::turn_end" }),
    )
    .build()
}
