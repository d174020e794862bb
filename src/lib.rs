//! `harness`: the complete agent backend for the iii engine, in one process.
//!
//! Layers, imports point down only (checked by `tests/it/layers.rs`):
//!
//! ```text
//! main → cli → app → admin, workers → bus → model
//!                    leaves usable from any layer above `model`: config, telemetry, http, error, clock, ids, watch,
//!                    yaml
//! ```

pub mod admin;
pub mod app;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod error;
pub mod http;
pub mod ids;
pub mod model;
pub mod rules;
pub mod scripted;
pub mod telemetry;
pub mod watch;
pub mod workers;
pub mod yaml;
