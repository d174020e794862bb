//! Integration tests: one binary, one module per subject.

#![expect(clippy::needless_pass_by_value, reason = "helpers take what json! gives")]

#[cfg(test)]
mod admin;
#[cfg(test)]
mod approval;
#[cfg(test)]
mod bridge_rig;
#[cfg(test)]
mod budget;
#[cfg(test)]
mod catalog;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod compaction;
#[cfg(test)]
mod config;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod console;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod decisions;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod engine_configuration;
#[cfg(test)]
mod engine_cron;
#[cfg(test)]
mod engine_introspection;
#[cfg(test)]
mod engine_pubsub;
#[cfg(test)]
mod engine_queue;
#[cfg(test)]
mod engine_state;
#[cfg(test)]
mod engine_store;
#[cfg(test)]
mod engine_stream;
#[cfg(test)]
mod engine_topics;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod hook_fanout;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod interleave;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod listener;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod model_failures;
#[cfg(test)]
mod model_rig;
#[cfg(test)]
mod models;
#[cfg(test)]
mod ownership;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod policy_cli;
#[cfg(test)]
mod provider_anthropic;
#[cfg(test)]
mod provider_openai;
#[cfg(test)]
mod provider_rig;
#[cfg(test)]
mod provider_streams;
#[cfg(test)]
mod provider_turns;
#[cfg(test)]
mod providers;
#[cfg(test)]
mod read_inline;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod rounds;
#[cfg(test)]
mod session_inbox;
#[cfg(test)]
mod session_rig;
#[cfg(test)]
mod session_tree;
#[cfg(test)]
mod support;
#[cfg(test)]
mod turn;
#[cfg(test)]
mod types;
#[cfg(test)]
mod ui;
#[cfg(test)]
mod ui_replay;
#[cfg(test)]
mod web;
