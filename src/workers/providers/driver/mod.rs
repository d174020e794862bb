//! One turn, from request to terminal event; the only place that talks to upstream for it.
//!
//! ```text
//! resolve → model facts → encode → attempt ─┬─ done
//!              retry, while nothing was passed on, ◄┘─ failure → error
//! ```
//!
//! Invariants: exactly one terminal event, also for a failure of our own; at most one `start`; a reader that is gone or
//! a cancelled call drops the HTTP request at once, because the request is a value of the future that is dropped.

mod reading;
mod retry;
mod turn;

use std::sync::Arc;
use std::time::Duration;

use turn::Turn;

use super::Host;
use super::access::{Secret, resolve};
use super::assembly::Assembly;
use super::failure::{Failure, presentable};
use super::metrics;
use super::outbox::Outbox;
use super::protocol::Call;
use crate::bus::{ChannelWriter, Cx};
use crate::model::{AssistantEvent, AssistantMessage, StopReason};

/// The terminal event of a stopped turn waits no longer for a reader that does not read.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Why a turn ended without an answer.
#[derive(Debug)]
enum Stop {
    Failed(Failure),
    /// The caller wants no more.
    Cancelled,
    /// The reader is gone.
    Unheard,
}

/// The outcome of a turn: its final message.
type Outcome = Arc<AssistantMessage>;

/// Runs a turn into a channel, or into nothing.
pub(super) async fn run(cx: &Cx<Host>, call: &Call, writer: Option<&ChannelWriter>) -> Outcome {
    let mut assembly = assembly(cx, call);
    let mut outbox = Outbox::new(writer);
    let mut secret = None;
    let work = async {
        let access = resolve(cx).await.map_err(Stop::Failed)?;
        secret.clone_from(&access.secret);
        let turn = Turn::new(cx, call, access).map_err(Stop::Failed)?;
        turn.attempts(&mut assembly, &mut outbox).await
    };
    let outcome = tokio::select! {
        biased;
        () = cx.context().cancelled() => Err(Stop::Cancelled),
        () = closed(writer) => Err(Stop::Unheard),
        outcome = work => outcome,
    };
    finish(cx, &mut assembly, &mut outbox, outcome, secret.as_ref(), writer).await
}

/// The same without a channel; a missing credential or an unreadable registry is the caller's to report.
///
/// # Errors
/// Why the turn could not even begin.
pub(super) async fn complete(cx: &Cx<Host>, call: &Call) -> Result<Outcome, Failure> {
    let access = resolve(cx).await?;
    let secret = access.secret.clone();
    let mut assembly = assembly(cx, call);
    let mut outbox = Outbox::new(None);
    let turn = Turn::new(cx, call, access)?;
    let outcome = tokio::select! {
        biased;
        () = cx.context().cancelled() => Err(Stop::Cancelled),
        outcome = turn.attempts(&mut assembly, &mut outbox) => outcome,
    };
    Ok(finish(cx, &mut assembly, &mut outbox, outcome, secret.as_ref(), None).await)
}

fn assembly(cx: &Cx<Host>, call: &Call) -> Assembly {
    let id = cx.state().provider.spec().id;
    Assembly::new(id, &call.model, cx.now_ms(), &cx.uuid())
}

async fn closed(writer: Option<&ChannelWriter>) {
    match writer {
        Some(writer) => writer.closed().await,
        None => std::future::pending().await,
    }
}

/// Tells the end: open blocks, then the one terminal event.
async fn finish(
    cx: &Cx<Host>,
    assembly: &mut Assembly,
    outbox: &mut Outbox<'_>,
    outcome: Result<StopReason, Stop>,
    secret: Option<&Secret>,
    writer: Option<&ChannelWriter>,
) -> Outcome {
    let id = cx.state().provider.spec().id;
    assembly.close();
    let (stop_reason, failure) = match outcome {
        Ok(reason) => (reason, None),
        Err(Stop::Failed(failure)) => {
            let mut failure = cx.state().provider.explain(failure);
            failure.message = presentable(&failure.message, secret.map(Secret::text));
            tracing::warn!(provider = id, kind = ?failure.kind, error = %failure.message, "provider turn failed");
            (StopReason::Error, Some(failure))
        }
        Err(Stop::Cancelled | Stop::Unheard) => (StopReason::Aborted, Some(Failure::transient("aborted"))),
    };
    let message = Arc::new(match &failure {
        None => assembly.done(stop_reason),
        Some(failure) => assembly.failed(stop_reason, failure),
    });
    metrics::record(cx.ports(), id, &message);
    let last_word = async {
        outbox.pass_on(assembly).await?;
        outbox.flush(assembly).await?;
        let stop = AssistantEvent::Stop {
            stop_reason: message.stop_reason,
            error_message: None,
            error_kind: None,
        };
        let end = match &failure {
            None => {
                outbox.tell(stop).await?;
                AssistantEvent::Done {
                    message: Arc::clone(&message),
                }
            }
            Some(_) => AssistantEvent::Error {
                error: Arc::clone(&message),
            },
        };
        outbox.tell(end).await
    };
    let patience = if message.stop_reason == StopReason::Aborted {
        tokio::time::timeout(LAST_WORD, last_word).await.ok()
    } else {
        tokio::select! {
            sent = last_word => Some(sent),
            () = closed(writer) => None,
            () = cx.context().cancelled() => None,
        }
    };
    if !matches!(patience, Some(Ok(()))) {
        tracing::debug!(provider = id, "nobody took the end of the turn");
    }
    message
}

fn unheard(_: crate::error::Error) -> Stop {
    Stop::Unheard
}
