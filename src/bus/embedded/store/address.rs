//! Where values are: collections, and keys in them.

pub(super) const STATE: i64 = 0;
pub(super) const STREAM: i64 = 1;

/// A collection: a state scope, or a group of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    pub(super) kind: i64,
    pub(super) name: String,
    pub(super) group: String,
}

impl Place {
    /// A state scope.
    pub fn state(scope: impl Into<String>) -> Self {
        Self {
            kind: STATE,
            name: scope.into(),
            group: String::new(),
        }
    }

    /// A group of a stream.
    pub fn stream(stream: impl Into<String>, group: impl Into<String>) -> Self {
        Self {
            kind: STREAM,
            name: stream.into(),
            group: group.into(),
        }
    }

    /// The scope or the stream.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The group of a stream; empty for a scope.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Whether this is a group of a stream.
    pub fn is_stream(&self) -> bool {
        self.kind == STREAM
    }
}

/// One value's place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// The collection.
    pub place: Place,
    /// The state key, or the item id.
    pub key: String,
}

impl Address {
    /// A key of a state scope.
    pub fn state(scope: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            place: Place::state(scope),
            key: key.into(),
        }
    }

    /// An item of a stream.
    pub fn stream(stream: impl Into<String>, group: impl Into<String>, item: impl Into<String>) -> Self {
        Self {
            place: Place::stream(stream, group),
            key: item.into(),
        }
    }
}
