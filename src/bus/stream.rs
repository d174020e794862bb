//! Taps: in-process listeners on streams that this process itself writes.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

/// One item as it is written to a stream.
#[derive(Debug, Clone)]
pub struct StreamItem {
    /// Stream.
    pub stream: Arc<str>,
    /// Group.
    pub group: Arc<str>,
    /// Item id.
    pub item: String,
    /// Data.
    pub data: Arc<Value>,
}

/// Sees items in write order; must not block.
pub type StreamTap = Arc<dyn Fn(&StreamItem) + Send + Sync>;

#[derive(Default)]
pub(super) struct Taps(RwLock<HashMap<String, Vec<StreamTap>>>);

impl Taps {
    pub(super) fn add(&self, stream: &str, tap: StreamTap) {
        let mut taps = self.0.write().unwrap_or_else(PoisonError::into_inner);
        taps.entry(stream.to_owned()).or_default().push(tap);
    }

    pub(super) fn show(&self, item: &StreamItem) {
        let taps = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for tap in taps.get(&*item.stream).into_iter().flatten() {
            tap(item);
        }
    }
}
