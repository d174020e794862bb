//! Queues.
mod policy;
mod schedule;
