//! The workers this process hosts, one line each. A worker never imports another one; they call through the bus.

pub mod providers;
pub mod turn;

use crate::bus::WorkerDef;

/// All workers, in start order.
pub fn all() -> Vec<WorkerDef> {
    vec![providers::openai::worker(), turn::worker()]
}
