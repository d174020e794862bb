//! Configuration.
mod template;
mod validation;
