//! The workers this process hosts, one line each. A worker never imports another one; they call through the bus.

pub mod session_inbox;
pub mod session_tree;
pub mod turn;

use crate::bus::WorkerDef;

/// All workers, in start order.
pub fn all() -> Vec<WorkerDef> {
    vec![session_inbox::worker(), session_tree::worker(), turn::worker()]
}
