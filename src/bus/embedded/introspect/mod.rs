//! What the engine tells about itself (contract 00 §9).

mod bindings;
mod functions;
mod types;
mod workers;

use serde::Deserialize;

use super::{Builtin, answer, input};
use crate::bus::Invocation;
use bindings::{binding_info, list_bindings};
pub(super) use functions::all_rows;
use functions::{function_info, list_functions};
use types::{list_types, type_info};
use workers::{list_workers, worker_info};

const PART: &str = "iii-engine";

/// A function that answers any well-formed question.
macro_rules! list {
    ($id:literal, $description:literal, $function:ident) => {
        Builtin {
            id: $id,
            description: $description,
            part: PART,
            handler: |core, call: Invocation| {
                answer(input($id, call.payload).map(|request| $function(core, request)))
            },
        }
    };
}

/// A function that may not know what it is asked for.
macro_rules! info {
    ($id:literal, $description:literal, $function:ident) => {
        Builtin {
            id: $id,
            description: $description,
            part: PART,
            handler: |core, call: Invocation| {
                answer(input($id, call.payload).and_then(|request| $function(core, request)))
            },
        }
    };
}

pub(super) const FUNCTIONS: &[Builtin] = &[
    list!(
        "engine::functions::list",
        "List the registered functions",
        list_functions
    ),
    info!(
        "engine::functions::info",
        "Describe one function, or several", function_info
    ),
    list!("engine::triggers::list", "List the trigger types", list_types),
    info!("engine::triggers::info", "Describe a trigger type", type_info),
    list!(
        "engine::registered-triggers::list",
        "List the trigger bindings",
        list_bindings
    ),
    info!(
        "engine::registered-triggers::info",
        "Describe a trigger binding", binding_info
    ),
    list!("engine::workers::list", "List the workers", list_workers),
    info!("engine::workers::info", "Describe a worker", worker_info),
];

/// A question about one thing.
#[derive(Deserialize)]
struct ById {
    id: String,
}
