//! What browsers listen to, and the sequences of pushes that follow from it.

use super::Id;

/// What a browser can subscribe to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in super::super) enum Member {
    /// Every session, and the news of sessions that come and go.
    All,
    /// One session.
    Session(Id),
}

/// A sequence of pushes to one browser that must stay in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in super::super) enum Lane {
    /// Events of one session.
    Session(Id),
    /// Sessions that come and go.
    Changes,
}

impl Lane {
    /// Lanes that share a handler of the browser have the same number.
    pub(super) fn kind(&self) -> usize {
        match self {
            Self::Session(_) => 0,
            Self::Changes => 1,
        }
    }
}
