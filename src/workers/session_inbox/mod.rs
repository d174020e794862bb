//! `session-inbox::*`: small queues per session, for handing messages to a running turn (contract 06 §5).
//!
//! Stored in state under `<session.state_scope>/<session_id>/<name>` as an array of opaque items.
//!
//! Invariants: the stored value is always an array once we wrote it; an item that was answered `ok` is stored; a drain
//! hands each item out once. State lists values without their keys, so queues that a run does not look into are noted under
//! `inbox_names/<session_id>` before they come into being: with their session all of them go. Deliberately not here: what the
//! items mean.

pub mod clear;
pub mod drain;
mod inboxes;
pub mod peek;
pub mod push;
mod request;

use crate::bus::{Worker, WorkerDef};

pub use inboxes::Inboxes;

/// The worker.
pub fn worker() -> WorkerDef {
    Worker::new(
        "session-inbox",
        "Keeps small queues of messages per session.",
        Inboxes::default(),
    )
    .function::<clear::Clear>()
    .function::<drain::Drain>()
    .function::<peek::Peek>()
    .function::<push::Push>()
    .build()
}
