//! `session-tree::*`: transcripts as trees of entries (contract 06).
//!
//! ```text
//!  function file ─► sessions (lock, memory) ─► index, path, entry, meta (pure)
//!                              └─► storage ─► state scopes `session_tree:<session>` and `session_tree_meta`
//! ```
//!
//! Invariants: one writer per session at a time; entry times strictly rise; an entry and the row of its session are
//! written as one batch; a copied session is seen whole or not at all; a bad stored record spoils only itself; a deleted session
//! leaves nothing behind. Deliberately not here: events and triggers.

pub mod append;
pub mod append_synthetic;
mod beside;
pub mod clone;
pub mod compact;
pub mod compactions;
mod copies;
pub mod create;
pub mod delete;
pub mod ensure;
mod entry;
pub mod export_html;
pub mod fork;
mod html;
mod idle;
mod index;
pub mod list;
pub mod messages;
mod meta;
mod nested;
mod page;
mod path;
mod pruned;
mod recent;
pub mod reconcile;
pub mod rename;
mod request;
mod sessions;
mod slot;
mod staged;
mod storage;
pub mod tree;
pub mod update_part;
pub mod update_parts;

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
    .function::<append_synthetic::AppendSynthetic>()
    .function::<messages::Messages>()
    .function::<compactions::Compactions>()
    .function::<tree::Tree>()
    .function::<export_html::ExportHtml>()
    .function::<fork::Fork>()
    .function::<clone::CloneSession>()
    .function::<compact::Compact>()
    .function::<list::List>()
    .function::<update_part::UpdatePart>()
    .function::<update_parts::UpdateParts>()
    .function::<reconcile::Reconcile>()
    .function::<rename::Rename>()
    .function::<delete::Delete>()
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
