//! What travels beside the payload of a call.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use crate::telemetry::ids_of;

/// Ids that group traces; every nested call inherits them (contract 01 §8.8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baggage {
    /// `iii.session.id`.
    pub session_id: Option<Arc<str>>,
    /// `iii.message.id`.
    pub message_id: Option<Arc<str>>,
}

/// Context of the call being handled; nested calls inherit trace, baggage and cancellation.
#[derive(Debug, Clone, Default)]
pub struct CallContext {
    /// Trace grouping.
    pub baggage: Baggage,
    /// Per-invocation metadata, such as an idempotency key.
    pub metadata: Option<Arc<Value>>,
    /// W3C trace parent as the caller sent it.
    pub traceparent: Option<Arc<str>>,
    /// Set when the caller asked for the call to stop; handlers of long work watch it.
    pub cancel: Option<CancellationToken>,
    /// The caller commits soon; writes may be left here. Never inherited.
    pub batch: Option<Batch>,
}

impl CallContext {
    /// Resolves when the caller wants the call stopped; never without a token.
    pub async fn cancelled(&self) {
        match &self.cancel {
            Some(token) => token.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// The ids named in a payload replace the inherited ones (contract 01 §8.8).
    pub(super) fn with_ids_of(mut self, payload: &Value) -> Self {
        let (session_id, message_id) = ids_of(payload);
        if let Some(id) = session_id {
            self.baggage.session_id = Some(id.into());
        }
        if let Some(id) = message_id {
            self.baggage.message_id = Some(id.into());
        }
        self
    }

    /// The context of a nested call: same trace, other metadata.
    pub(super) fn nested(&self, options: &CallOptions) -> Self {
        Self {
            baggage: self.baggage.clone(),
            metadata: options.metadata.clone(),
            traceparent: self.traceparent.clone(),
            cancel: options.cancel.clone().or_else(|| self.cancel.clone()),
            batch: options.batch.clone(),
        }
    }
}

/// How one call is made.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    /// Deadline of the caller; the configured default when absent. The handler goes on after it.
    pub timeout: Option<Duration>,
    /// Metadata for the callee.
    pub metadata: Option<Arc<Value>>,
    /// Cancels this call; else the caller's own token is inherited.
    pub cancel: Option<CancellationToken>,
    /// Where the callee may leave its writes, for the commit of the caller.
    pub batch: Option<Batch>,
}

impl CallOptions {
    /// A deadline.
    pub fn timeout_ms(ms: u64) -> Self {
        Self {
            timeout: Some(Duration::from_millis(ms)),
            ..Self::default()
        }
    }

    /// Adds metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Value) -> Self {
        self.metadata = Some(Arc::new(metadata));
        self
    }

    /// Offers a batch.
    #[must_use]
    pub fn with_batch(mut self, batch: &Batch) -> Self {
        self.batch = Some(batch.clone());
        self
    }

    /// Adds a cancel token.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancellationToken) -> Self {
        self.cancel = Some(cancel);
        self
    }
}
