//! The official SDKs against the real program on its embedded engine. Each plays the same story and says what it saw as
//! one JSON value; all must see the same.

mod cases;
mod connection;
mod foreign;
pub(crate) mod process;
mod rust;
mod story;
mod worker;
