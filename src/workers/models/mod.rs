//! The model catalog: what providers registered, and nothing else (contract 09 part A).

mod capability;
mod catalog;
mod check;
mod get;
mod list;
mod register;
mod supports;

use crate::bus::{Worker, WorkerDef};

/// The worker `models-catalog`.
pub fn worker() -> WorkerDef {
    Worker::new(
        "models-catalog",
        "Keeps the records of the models that providers have registered.",
        catalog::Catalog::default(),
    )
    .function::<get::Get>()
    .function::<list::List>()
    .function::<register::Register>()
    .function::<supports::Supports>()
    .prepare(catalog::watch)
    .background(catalog::read_ahead)
    .build()
}
