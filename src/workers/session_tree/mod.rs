//! `session-tree::*`: transcripts as trees of entries (contract 06).
//!
//! ```text
//!  function file ─► sessions (lock, memory) ─► index, path, entry, meta (pure)
//!                              └─► storage ─► state scopes `session_tree:<session>` and `session_tree_meta`
//! ```
//!
//! Invariants: one writer per session at a time; entry times strictly rise; an entry and the row of its session are
//! written as one batch; a bad stored record spoils only itself. Deliberately not here: deletes, events, triggers.

pub mod append;
pub mod compactions;
pub mod create;
pub mod ensure;
mod entry;
mod index;
pub mod list;
mod measure;
pub mod messages;
mod meta;
mod path;
mod request;
mod sessions;
mod slot;
mod staged;
mod storage;

use crate::bus::{Worker, WorkerDef};

pub use sessions::Sessions;

/// The worker.
pub fn worker() -> WorkerDef {
    Worker::new(
        "session",
        "Keeps the transcript of every session as a tree of entries.",
        Sessions::default(),
    )
    .function::<create::Create>()
    .function::<ensure::Ensure>()
    .function::<append::Append>()
    .function::<messages::Messages>()
    .function::<compactions::Compactions>()
    .function::<list::List>()
    .prepare(|cx| async move {
        storage::watch(&cx);
        Ok(())
    })
    // An engine that was restarted may hold less than it acknowledged; what it holds is the truth.
    .reconnected(|cx| async move {
        if !cx.state().in_memory(&cx) {
            cx.state().invalidate_all();
        }
        Ok(())
    })
    .build()
}
