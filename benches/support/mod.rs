//! What the benches share: the real program beside a bare client, on the same scripted model.

pub(crate) mod bare;
pub(crate) mod figures;
pub(crate) mod model;
pub(crate) mod process;
pub(crate) mod program;
