//! Integration tests: one binary, one module per subject.

mod engine_introspection;
mod engine_state;
mod engine_store;
mod engine_stream;
mod support;
