//! The real program dies at every kind of moment and is started again on the same directory: the run ends by itself, with
//! nothing lost and nothing done twice.

mod aborted;
mod boundaries;
mod draining;
pub(crate) mod model;
pub(crate) mod outcome;
mod paid;
mod parked;
pub(crate) mod place;
mod signals;
mod states;
mod steered;
mod sweep;
