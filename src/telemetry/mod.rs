//! Logs, metrics, and what may be shown of a payload (contract 01 §8.8).
//!
//! * [`init`] starts the log on stderr; secrets are masked by key and by value ([`Masks`]).
//! * [`Metrics`] is this process's own recorder, not the global one: tests run beside each other.
//! * [`redact`], [`payload_text`] and [`ids_of`] are pure and used for spans.

mod log;
mod metrics;
mod payload;

pub use log::{Masks, init};
pub use metrics::{Metrics, name};
pub use payload::{ids_of, payload_text, redact};
