//! The workers this process hosts, one line each. A worker never imports another one; they call through the bus.

pub mod approval;
pub mod budget;
pub mod context_compaction;
pub mod harness;
pub mod hook_fanout;
pub mod models;
pub mod providers;
pub mod session_inbox;
pub mod session_tree;
pub mod turn;
pub mod web;

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
        hook_fanout::worker(),
        context_compaction::worker(),
        models::worker(),
        web::worker(),
        providers::anthropic::worker(),
        providers::openai::worker(),
        providers::kimi::worker(),
        providers::lmstudio::worker(),
        providers::llamacpp::worker(),
    ]
}
