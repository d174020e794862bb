//! What some tests need beside Rust. `.ci/run` installs it; without it those tests are left out, unless they are required.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use pretty_assertions::assert_ne;

/// Whether something is there. Says so when it is not, also when nobody looks at the output of tests that pass; with the
/// variable `switch` set to `required` that is a failure.
pub(crate) fn is_installed(needs: &Path, switch: &str, install: &str) -> bool {
    if needs.exists() {
        return true;
    }
    let missing = format!("{} is missing; install it with: {install}", needs.display());
    assert_ne!(
        std::env::var_os(switch),
        Some(OsString::from("required")),
        "{missing}"
    );
    writeln!(std::io::stderr(), "SKIPPED: {missing}").unwrap();
    false
}
