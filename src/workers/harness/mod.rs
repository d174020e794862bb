//! Worker `harness`, so far only its rule file.

mod check_permissions;
mod policy_file;

use crate::bus::{Worker, WorkerDef};

/// Memory of the worker.
#[derive(Debug, Default)]
pub struct Harness {
    policy: policy_file::PolicyFile,
}

/// The worker `harness`.
pub fn worker() -> WorkerDef {
    Worker::new(
        "harness",
        "Answers what the permission rules say.",
        Harness::default(),
    )
    .function::<check_permissions::CheckPermissions>()
    .prepare(policy_file::prepare)
    .build()
}
