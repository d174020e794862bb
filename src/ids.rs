//! Minting of ids as a port, so that tests can count instead of guess.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// Source of fresh ids.
pub trait Ids: Send + Sync + 'static {
    /// A version 4 UUID, lower case with dashes.
    fn uuid(&self) -> String;
}

/// Random ids.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the port that the ban points to"
    )]
    fn uuid(&self) -> String {
        Uuid::new_v4().to_string()
    }
}

/// Ids that count up from 1, in UUID form.
#[derive(Debug, Default)]
pub struct CountedIds(AtomicU64);

impl Ids for CountedIds {
    fn uuid(&self) -> String {
        let n = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        format!("00000000-0000-4000-8000-{n:012x}")
    }
}
