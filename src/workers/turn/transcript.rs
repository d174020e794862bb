//! A session's transcript as the turn machine reads and writes it: through `session-tree::*`, under deterministic entry ids.

use std::time::Duration;

use tokio::sync::oneshot;

use super::backoff::Backoff;
use super::session::{Outcome, Session};
use super::{Turns, context};
use crate::bus::{Batch, CallOptions, Cx};
use crate::error::Result;
use crate::model::api::session::{
    Append, AppendRequest, Compactions, CompactionsResponse, Messages, MessagesRequest, MessagesResponse,
    SessionRef,
};
use crate::model::{RawMessage, SessionId};

/// Timeouts of contract 02 §11.
const WRITE_TRANSCRIPT_MS: u64 = 10_000;
const READ_TRANSCRIPT_MS: u64 = 30_000;

/// A message that is stored with the record, where the engine takes both or neither.
#[derive(Debug, Clone)]
pub(super) struct Joining {
    pub(super) batch: Batch,
    message: RawMessage,
    entry_id: Option<String>,
}

impl Session {
    /// The active path and the compactions, read side by side.
    pub(super) async fn transcript(&self) -> Result<(MessagesResponse, CompactionsResponse)> {
        let limit = || CallOptions::timeout_ms(READ_TRANSCRIPT_MS);
        let messages = MessagesRequest {
            session_id: self.id.clone(),
            branch_leaf: None,
        };
        let compactions = SessionRef {
            session_id: self.id.clone(),
        };
        let (messages, compactions) = futures::join!(
            self.cx.call_with::<Messages>(messages, limit()),
            self.cx.call_with::<Compactions>(compactions, limit()),
        );
        let compactions = match compactions {
            // A session worker that cannot compact has no compactions.
            Err(error) if error.is_function_not_found() => CompactionsResponse::default(),
            outcome => outcome?,
        };
        Ok((messages?, compactions))
    }

    /// What the model sees now, and the rows it was made of.
    pub(super) async fn context_view(&self) -> Result<(Vec<RawMessage>, MessagesResponse)> {
        let (messages, compactions) = self.transcript().await?;
        Ok((context::view(&messages, &compactions, self.cx.now_ms()), messages))
    }

    /// Adds a message under a deterministic id; an entry that is there already is left alone.
    pub(super) async fn append(&self, message: RawMessage, entry_id: Option<String>) -> Result<()> {
        self.append_with(message, entry_id, CallOptions::default()).await
    }

    /// Prepares a message that is to be stored with the next commit. Until then nothing else may be appended.
    pub(super) async fn append_joining(
        &self,
        batch: Batch,
        message: RawMessage,
        entry_id: Option<String>,
    ) -> Result<Joining> {
        let options = CallOptions::default().with_batch(&batch);
        self.append_with(message.clone(), entry_id.clone(), options)
            .await?;
        Ok(Joining {
            batch,
            message,
            entry_id,
        })
    }

    /// Puts a message into an outcome: to be stored with the record where the engine takes both or neither. Elsewhere it
    /// must be there first, and begins its way now.
    pub(super) async fn join(
        &self,
        outcome: &mut Outcome,
        message: RawMessage,
        entry_id: String,
    ) -> Result<()> {
        if self.cx.bus().transport().is_exclusive() {
            outcome.message = Some(self.append_joining_insisting(message, entry_id).await?);
            return Ok(());
        }
        let (stored, under_way) = oneshot::channel();
        outcome.under_way = Some(under_way);
        let append = append_insisting(self.cx.clone(), self.id.clone(), message, entry_id);
        let fence = self.fence();
        self.cx.spawn(async move {
            // Nobody listens when the process is stopping.
            let outcome = match &fence {
                Some(fence) => fence.guard(append).await,
                None => Some(append.await),
            };
            outcome.and_then(|outcome| stored.send(outcome).ok());
        });
        Ok(())
    }

    /// As [`append_joining`](Self::append_joining), repeated while the store is away: the message cost a model call.
    pub(super) async fn append_joining_insisting(
        &self,
        message: RawMessage,
        entry_id: String,
    ) -> Result<Joining> {
        let mut pause = Backoff::of(&self.cx);
        loop {
            let entry_id = Some(entry_id.clone());
            match self
                .append_joining(Batch::default(), message.clone(), entry_id)
                .await
            {
                Err(error) if error.is_retryable() => pause.wait(error).await?,
                outcome => return outcome,
            }
        }
    }

    /// Stores a message whose commit failed by itself, under its own id; repeated while the store is away.
    pub(super) async fn append_apart(&self, joining: Joining) -> Result<()> {
        // Gives the session free.
        joining.batch.settle(false);
        match joining.entry_id {
            Some(entry_id) => self.append_insisting(joining.message, entry_id).await,
            None => self.append(joining.message, None).await,
        }
    }

    async fn append_with(
        &self,
        message: RawMessage,
        entry_id: Option<String>,
        options: CallOptions,
    ) -> Result<()> {
        append(&self.cx, &self.id, message, entry_id, options).await
    }

    /// As [`append`](Self::append), repeated while the store is away: the message cost a model call.
    pub(super) async fn append_insisting(&self, message: RawMessage, entry_id: String) -> Result<()> {
        append_insisting(self.cx.clone(), self.id.clone(), message, entry_id).await
    }
}

async fn append(
    cx: &Cx<Turns>,
    session_id: &SessionId,
    message: RawMessage,
    entry_id: Option<String>,
    options: CallOptions,
) -> Result<()> {
    let request = AppendRequest {
        session_id: session_id.clone(),
        message,
        parent_id: None,
        entry_id: entry_id.map(Into::into),
    };
    let options = CallOptions {
        timeout: Some(Duration::from_millis(WRITE_TRANSCRIPT_MS)),
        ..options
    };
    cx.call_with::<Append>(request, options).await.map(|_| ())
}

async fn append_insisting(
    cx: Cx<Turns>,
    session_id: SessionId,
    message: RawMessage,
    entry_id: String,
) -> Result<()> {
    let mut pause = Backoff::of(&cx);
    loop {
        let (message, entry_id) = (message.clone(), Some(entry_id.clone()));
        match append(&cx, &session_id, message, entry_id, CallOptions::default()).await {
            Err(error) if error.is_retryable() => pause.wait(error).await?,
            outcome => return outcome,
        }
    }
}
