//! `provider::openai::*` against a scripted server over real HTTP (contract 08).

mod attempts;
mod discovery;
mod hostile;
mod requests;
mod streams;

use serde_json::{Value, json};

use super::provider_rig::{KEY, Rig, Turn, World, chunk, queue, user};
use super::support::engine::within;
use super::support::three_ways;
