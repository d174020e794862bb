pub(crate) mod engine;
pub(crate) mod timed;
