//! What the tests share.

pub(crate) mod bus;
pub(crate) mod engine;
pub(crate) mod fake_engine;
pub(crate) mod installed;
pub(crate) mod log;
pub(crate) mod outsider;
pub(crate) mod pass_on;
pub(crate) mod proxy;
pub(crate) mod spy;
pub(crate) mod stub;
pub(crate) mod timed;
pub(crate) mod way;
pub(crate) mod ws;

pub(crate) use bus::{TestBus, TestOptions};
pub(crate) use way::three_ways;
