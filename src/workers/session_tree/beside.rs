//! What other workers keep of a session, which goes with it.

use super::sessions::Sessions;
use super::storage;
use crate::bus::{Batch, CallOptions, Cx, Write};
use crate::error::{Error, Result};
use crate::model::SessionId;
use crate::model::api::session::{InboxClear, SessionRef};

/// State scopes with a row per session under its id: permission settings, a wish to stop its run, the last compaction, the
/// request and the record of its last run. The end of the record tells everybody that the session is gone.
const SCOPES: [&str; 5] = [
    "approval_settings",
    "approvals",
    "last_compaction_at",
    "run_request",
    "turn_state",
];

const INBOXES_MS: u64 = 10_000;

/// The inboxes of a session, about to be removed.
pub(super) struct Beside(Batch);

impl Beside {
    /// Has the inboxes put into the commit that removes the session; where there can be none, they are removed at once.
    ///
    /// # Errors
    /// The inboxes do not answer.
    pub(super) async fn of(cx: &Cx<Sessions>, session: &SessionId) -> Result<Self> {
        let batch = Batch::default();
        let options = CallOptions::timeout_ms(INBOXES_MS).with_batch(&batch);
        let request = SessionRef {
            session_id: session.clone(),
        };
        match cx.call_with::<InboxClear>(request, options).await {
            Err(error) if !error.is_function_not_found() => Err(Error::store(storage::REMOVE, error)),
            _ => Ok(Self(batch)),
        }
    }

    /// What removes all of it.
    pub(super) fn writes(&self, session: &SessionId) -> Vec<Write> {
        let rows = SCOPES.into_iter().map(|scope| Write::StateDelete {
            scope: scope.to_owned(),
            key: session.to_string(),
        });
        self.0.writes().into_iter().chain(rows).collect()
    }

    /// Told what became of the writes.
    pub(super) fn settle(self, stored: bool) {
        self.0.settle(stored);
    }
}
