//! Integration tests: one binary, one module per subject.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod approval;
#[cfg(test)]
mod config;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod rig;
mod support;
#[cfg(test)]
mod turn;
