//! Integration tests: one binary, one module per subject.

mod admin;
mod config;
mod engine_configuration;
mod engine_cron;
mod engine_introspection;
mod engine_pubsub;
mod engine_queue;
mod engine_state;
mod engine_store;
mod engine_stream;
mod engine_topics;
mod support;
