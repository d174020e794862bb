//! The in-process engine (contract 00 §16, design §3).

pub mod ops;
pub mod store;
