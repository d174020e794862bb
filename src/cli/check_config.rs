//! `harness check-config`: what is doubtful in a usable configuration. Loading has told what makes one unusable.

use anyhow::Result;

use super::{Exit, complain, print};
use crate::config::{LoadInput, Loaded};

pub(super) fn check(input: &LoadInput, loaded: &Loaded) -> Result<Exit> {
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    print(&format!("{}: ok", input.file().display()))?;
    Ok(Exit::Done)
}
