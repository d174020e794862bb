//! One answer: its frames into the message, the message to the reader.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::time::Instant;

use super::{Stop, unheard};
use crate::model::StopReason;
use crate::workers::providers::assembly::Assembly;
use crate::workers::providers::failure::Failure;
use crate::workers::providers::outbox::Outbox;
use crate::workers::providers::protocol::{Decode, Step};
use crate::workers::providers::sse::{Broken, frames};

/// After the model said it is done: wait for counters and the end marker.
const FINISH_GRACE: Duration = Duration::from_secs(5);

/// One answer being read.
pub(super) struct Reading<'r, 'o> {
    pub(super) decoder: Box<dyn Decode>,
    pub(super) assembly: &'r mut Assembly,
    pub(super) outbox: &'r mut Outbox<'o>,
}

impl Reading<'_, '_> {
    /// Reads to the end; what came is in the assembly, whatever the outcome.
    pub(super) async fn read<S>(&mut self, body: S, idle: Duration) -> Result<StopReason, Stop>
    where
        S: Stream<Item = Result<Bytes, Broken>> + Send + Unpin + 'static,
    {
        let mut frames = frames(body, idle);
        loop {
            let frame = tokio::select! {
                biased;
                () = reached(self.outbox.due()) => {
                    self.outbox.flush(self.assembly).await.map_err(unheard)?;
                    continue;
                }
                frame = next_frame(&mut frames, self.decoder.is_finished()) => frame,
            };
            let step = match frame {
                Some(Ok(frame)) => self.decoder.frame(&frame, self.assembly),
                // The answer is whole; only the goodbye is missing.
                Some(Err(_)) if self.decoder.is_finished() => Step::End,
                Some(Err(broken)) => return Err(Stop::Failed(broken_body(&broken))),
                None => Step::End,
            };
            self.outbox.pass_on(self.assembly).await.map_err(unheard)?;
            match step {
                Step::More => {}
                Step::End => return self.decoder.end(self.assembly).map_err(Stop::Failed),
                Step::Failed(failure) => return Err(Stop::Failed(failure)),
            }
        }
    }
}

async fn next_frame<S>(frames: &mut S, is_finished: bool) -> Option<S::Item>
where
    S: Stream + Unpin,
{
    if is_finished {
        tokio::time::timeout(FINISH_GRACE, frames.next())
            .await
            .ok()
            .flatten()
    } else {
        frames.next().await
    }
}

async fn reached(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn broken_body(broken: &Broken) -> Failure {
    let failure = Failure::transient(broken.to_string());
    match broken {
        Broken::Read(_) => failure.retryable(),
        Broken::Idle(_) | Broken::TooLong { .. } => failure,
    }
}
