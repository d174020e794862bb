//! The browser bridge, the provider registry and files as text (contracts 04 and 09 part B).
//!
//! ```text
//!  agent::events ── written here ──── tap ──┐
//!                └─ written elsewhere ─ trigger ─► bridge ─► one queue per (browser, session) ─► ui::session::event::<browser>
//!  turn_state ───── first write / removal ──┘                                                └─► ui::sessions::changed::<browser>
//!  iii-permissions.yaml ─► policy::check_permissions
//!  read_inline ─► shell::fs::read ─► channel ─► text
//!  provider::register ─► registry ─► schema of the configuration entry `harness` ◄─ provider::resolve
//! ```

mod agent_event_handler;
mod announced;
mod bridge;
#[cfg(test)]
mod bridge_load_tests;
#[cfg(test)]
mod bridge_tests;
mod builtin;
mod check_permissions;
mod credential;
mod entry;
mod list;
mod policy_file;
mod push;
mod queue;
mod read_inline;
mod register;
mod registry;
#[cfg(test)]
mod registry_histories;
#[cfg(test)]
mod registry_tests;
mod resolve;
#[cfg(test)]
mod resolve_tests;
mod session_created;
mod subscribe;
mod subscriptions;
#[cfg(test)]
mod testing;
mod trigger;
mod turn_log;
mod unsubscribe;

use std::sync::Arc;

use serde_json::json;

use crate::bus::{Cx, Function, Worker, WorkerDef};
use crate::error::Result;

/// Memory of the worker.
#[derive(Debug, Default)]
pub(super) struct Harness {
    bridge: Arc<bridge::Bridge>,
    registry: registry::Registry,
    policy: policy_file::PolicyFile,
}

/// The worker `harness`.
pub fn worker() -> WorkerDef {
    Worker::new(
        "harness",
        "Starts turns for browsers, pushes the events of sessions to them, keeps the registry of model providers, answers what the permission rules say and shows files of the host.",
        Harness::default(),
    )
    .function::<agent_event_handler::AgentEventHandler>()
    .function::<check_permissions::CheckPermissions>()
    .function::<list::List>()
    .function::<read_inline::ReadInline>()
    .function::<register::Register>()
    .function::<resolve::Resolve>()
    .function::<session_created::SessionCreated>()
    .function::<subscribe::Subscribe>()
    .function::<trigger::Trigger>()
    .function::<unsubscribe::Unsubscribe>()
    .trigger(
        "stream",
        agent_event_handler::AgentEventHandler::ID,
        json!({ "stream_name": bridge::EVENTS }),
    )
    .trigger(
        "state",
        session_created::SessionCreated::ID,
        json!({ "scope": "turn_state" }),
    )
    .prepare(policy_file::prepare)
    .prepare(prepare)
    .background(registry::keep_written)
    .reconnected(registry::publish_again)
    .build()
}

async fn prepare(cx: Cx<Harness>) -> Result<()> {
    cx.state().bridge.listen(cx.bus());
    // Without the configuration worker the environment and the defaults serve; the background work tries again.
    if let Err(error) = registry::publish(&cx).await {
        tracing::warn!(%error, "the configuration entry is not registered yet");
    }
    Ok(())
}
