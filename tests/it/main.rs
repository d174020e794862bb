//! Integration tests: one binary, one module per subject.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod config;
#[cfg(test)]
mod engine_introspection;
#[cfg(test)]
mod engine_state;
#[cfg(test)]
mod engine_store;
#[cfg(test)]
mod engine_stream;
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
