//! The program; see the library for what it does.

use std::process::ExitCode;

/// A turn is many small values of JSON that one thread makes and another one drops.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    harness::cli::run()
}
