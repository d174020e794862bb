//! The workers this process hosts, one line each. A worker never imports another one; they call through the bus.

pub mod approval;
pub mod budget;
pub mod context_compaction;
pub mod harness;
pub mod models;
pub mod providers;
pub mod session_inbox;
pub mod session_tree;
pub mod turn;

use crate::bus::WorkerDef;

/// All workers, in start order.
pub fn all() -> Vec<WorkerDef> {
    vec![
        harness::worker(),
        turn::worker(),
        approval::worker(),
        budget::worker(),
        session_tree::worker(),
        session_inbox::worker(),
        context_compaction::worker(),
        models::worker(),
        providers::openai::worker(),
    ]
}
