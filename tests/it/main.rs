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
mod provider_openai;
#[cfg(test)]
mod support;
#[cfg(test)]
mod turn;
