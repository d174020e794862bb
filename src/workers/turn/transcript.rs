//! A session's transcript as the turn machine reads and writes it: through `session-tree::*`, under deterministic entry ids.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use super::backoff::Backoff;
use super::commit::Outcome;
use super::record::TurnRecord;
use super::session::Session;
use super::{Turns, context, steering_check};
use crate::bus::{Batch, CallOptions, Cx};
use crate::error::Result;
use crate::model::api::session::{
    Append, AppendRequest, Compactions, CompactionsResponse, InboxDrain, InboxRef, Messages, MessagesRequest,
    MessagesResponse, SessionRef,
};
use crate::model::{RawMessage, SessionId};

/// Timeouts of contract 02 §11.
const WRITE_TRANSCRIPT_MS: u64 = 10_000;
const READ_TRANSCRIPT_MS: u64 = 30_000;
pub(super) const INBOX_MS: u64 = 10_000;

/// A message on its way to the transcript.
#[derive(Debug, Clone)]
pub(super) struct NewEntry {
    pub(super) message: RawMessage,
    /// A deterministic id makes a repetition harmless.
    pub(super) id: Option<String>,
}

impl NewEntry {
    pub(super) fn new(message: RawMessage, id: String) -> Self {
        Self {
            message,
            id: Some(id),
        }
    }
}

impl Session {
    /// The active path and the compactions, read side by side.
    pub(super) async fn transcript(&self) -> Result<(MessagesResponse, CompactionsResponse)> {
        let messages = MessagesRequest::all(self.id.clone());
        let (messages, compactions) = futures::join!(self.messages(messages), self.compactions());
        Ok((messages?, compactions?))
    }

    /// What the model sees now, and the rows it was made of: only what a compaction left, so that a long history costs no
    /// more than a short one.
    pub(super) async fn context_view(&self) -> Result<(Vec<RawMessage>, MessagesResponse)> {
        let request = MessagesRequest {
            after_compaction: true,
            ..MessagesRequest::all(self.id.clone())
        };
        let messages = self.messages(request).await?;
        let compactions = match &messages.recent {
            Some(recent) => CompactionsResponse {
                entries: recent.compaction.iter().cloned().collect(),
            },
            // Another session worker, which has answered everything.
            None => self.compactions().await?,
        };
        Ok((context::view(&messages, &compactions, self.cx.now_ms()), messages))
    }

    async fn messages(&self, request: MessagesRequest) -> Result<MessagesResponse> {
        let limit = CallOptions::timeout_ms(READ_TRANSCRIPT_MS);
        self.cx.call_with::<Messages>(request, limit).await
    }

    async fn compactions(&self) -> Result<CompactionsResponse> {
        let request = SessionRef {
            session_id: self.id.clone(),
        };
        let limit = CallOptions::timeout_ms(READ_TRANSCRIPT_MS);
        match self.cx.call_with::<Compactions>(request, limit).await {
            // A session worker that cannot compact has no compactions.
            Err(error) if error.is_function_not_found() => Ok(CompactionsResponse::default()),
            outcome => outcome,
        }
    }

    /// Prepares the messages of an outcome, and the emptying of an inbox, for the commit that is to store them. Until then
    /// nothing else may be appended.
    pub(super) async fn stage(&self, batch: &Batch, record: &TurnRecord, outcome: &Outcome) -> Result<()> {
        let taken = match outcome.drain {
            Some(inbox) => self.drain(inbox, Some(batch)).await?,
            None => Vec::new(),
        };
        let taken = steering_check::entries(record, taken, 0, self.cx.now_ms());
        let mut entries: Vec<NewEntry> = outcome.entries.iter().cloned().chain(taken).collect();
        if !self.cx.bus().transport().is_exclusive() {
            // Where a commit may be stored in part, an entry must not be there without the one before it.
            let before_last = entries.len().saturating_sub(1);
            for entry in entries.drain(..before_last) {
                self.append_insisting(entry).await?;
            }
        }
        for entry in entries {
            let options = CallOptions::default().with_batch(batch);
            append(&self.cx, &self.id, entry, options).await?;
        }
        Ok(())
    }

    /// Takes all items out of an inbox; with a batch, once that is stored.
    pub(super) async fn drain(&self, inbox: &str, batch: Option<&Batch>) -> Result<Vec<Value>> {
        let request = InboxRef {
            name: inbox.to_owned(),
            session_id: self.id.clone(),
        };
        let options = CallOptions {
            batch: batch.cloned(),
            ..CallOptions::timeout_ms(INBOX_MS)
        };
        let reply = self.cx.call_with::<InboxDrain>(request, options).await?;
        Ok(reply.items)
    }

    /// Puts a message into an outcome: to be stored with the record where the engine takes both or neither. Elsewhere it
    /// must be there first, and begins its way now.
    pub(super) fn join(&self, outcome: &mut Outcome, entry: NewEntry) {
        if self.cx.bus().transport().is_exclusive() {
            outcome.entries.push(entry);
            return;
        }
        let (stored, under_way) = oneshot::channel();
        outcome.under_way = Some(under_way);
        let append = append_insisting(self.cx.clone(), self.id.clone(), entry);
        let fence = self.fence();
        self.cx.spawn(async move {
            // Nobody listens when the process is stopping.
            let outcome = match &fence {
                Some(fence) => fence.guard(append).await,
                None => Some(append.await),
            };
            outcome.and_then(|outcome| stored.send(outcome).ok());
        });
    }

    /// Adds a message; repeated while the store is away.
    pub(super) async fn append_insisting(&self, entry: NewEntry) -> Result<()> {
        append_insisting(self.cx.clone(), self.id.clone(), entry).await
    }
}

async fn append(cx: &Cx<Turns>, session_id: &SessionId, entry: NewEntry, options: CallOptions) -> Result<()> {
    let request = AppendRequest {
        session_id: session_id.clone(),
        message: entry.message,
        parent_id: None,
        entry_id: entry.id.map(Into::into),
    };
    let options = CallOptions {
        timeout: Some(Duration::from_millis(WRITE_TRANSCRIPT_MS)),
        ..options
    };
    cx.call_with::<Append>(request, options).await.map(|_| ())
}

async fn append_insisting(cx: Cx<Turns>, session_id: SessionId, entry: NewEntry) -> Result<()> {
    let mut pause = Backoff::of(&cx);
    loop {
        match append(&cx, &session_id, entry.clone(), CallOptions::default()).await {
            Err(error) if error.is_retryable() => pause.wait(error).await?,
            outcome => return outcome,
        }
    }
}
