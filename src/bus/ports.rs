//! What the process gives its functions from outside, so that tests can give something else.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::config::{Config, Env};
use crate::ids::Ids;
use crate::telemetry::Metrics;

/// What the process gives its functions: time, ids, settings, the outside.
#[derive(Clone)]
pub struct Ports {
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
    /// Environment variables whose names are known only at call time.
    pub env: Arc<dyn Env>,
    /// Settings now in force; take a snapshot per call.
    pub config: Arc<ArcSwap<Config>>,
    /// Where counters and histograms go.
    pub metrics: Metrics,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}
