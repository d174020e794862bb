//! One turn, from request to terminal event; the only place that talks to upstream for it.
//!
//! ```text
//! resolve → model facts → encode → attempt ─┬─ done
//!              retry, while nothing was passed on, ◄┘─ failure → error
//! ```
//!
//! Invariants: exactly one terminal event, also for a failure of our own; at most one `start`; a reader that is gone or
//! a cancelled call drops the HTTP request at once, because the request is a value of the future that is dropped.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use reqwest::header::CONTENT_TYPE;
use tokio::time::Instant;

use super::access::{Access, Secret, resolve};
use super::assembly::Assembly;
use super::failure::{Failure, Retry, excerpt, message_of_body, presentable};
use super::outbox::Outbox;
use super::protocol::{Call, Decode, Encoded, Step};
use super::sse::{Broken, frames};
use super::{Host, limits, metrics, overflow};
use crate::bus::{ChannelWriter, Cx};
use crate::http;
use crate::model::{AssistantEvent, AssistantMessage, ErrorKind, StopReason};

/// First pause before another attempt; doubles, with as much again at random.
const BACKOFF: Duration = Duration::from_millis(500);
/// Longest wait that a server may ask for; a longer one fails the turn now.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(20);
/// No attempt begins later than this after the first: all must fit into the reader's patience (contract 02 §5.4).
const LAST_ATTEMPT: Duration = Duration::from_mins(2);
/// An error body is read this far, this long.
const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;
const ERROR_BODY_TIME: Duration = Duration::from_secs(10);
/// A whole answer that was not streamed.
const MAX_WHOLE_BODY_BYTES: usize = 8 * 1024 * 1024;
/// After the model said it is done: wait for counters and the end marker.
const FINISH_GRACE: Duration = Duration::from_secs(5);
/// The terminal event of a stopped turn waits no longer for a reader that does not read.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A turn whose credential is known not to be missing.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    cx: &'a Cx<Host>,
    call: &'a Call,
    access: Access,
    client: reqwest::Client,
}

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

impl<'a> Turn<'a> {
    fn new(cx: &'a Cx<Host>, call: &'a Call, access: Access) -> Result<Self, Failure> {
        let connect = Duration::from_millis(cx.config().provider.connect_timeout_ms);
        let client = cx.state().clients.for_url(&access.url, connect);
        let client = client.map_err(|error| Failure::transient(error.to_string()))?;
        Ok(Self {
            cx,
            call,
            access,
            client,
        })
    }

    /// Attempts until one succeeds, something was passed on, or another one makes no sense.
    async fn attempts(&self, assembly: &mut Assembly, outbox: &mut Outbox<'_>) -> Result<StopReason, Stop> {
        let provider = &self.cx.state().provider;
        let id = provider.model_id(self.call, &self.access, &self.client).await;
        assembly.set_model(&id);
        let model = limits::facts(self.cx, self.call, &self.access, id).await;
        let encoded = provider.encode(self.call, &model).map_err(Stop::Failed)?;
        let began = Instant::now();
        let mut pauses = self.pauses();
        let mut repaired = false;
        loop {
            let failure = match self.attempt(&encoded, assembly, outbox).await {
                Err(Stop::Failed(failure)) if !assembly.has_content() => failure,
                outcome => return outcome,
            };
            if let Some(repair) = provider.repair(&failure, &model, &self.access, &self.client) {
                if std::mem::replace(&mut repaired, true) {
                    return Err(Stop::Failed(failure));
                }
                repair.await.map_err(Stop::Failed)?;
                assembly.reset();
                continue;
            }
            let pause = pause_before_next(&failure, pauses.next(), began.elapsed());
            let pause = pause.map_err(|why| Stop::Failed(with_note(&failure, &why)))?;
            tracing::info!(
                provider = provider.spec().id,
                kind = ?failure.kind,
                pause_ms = pause.as_millis(),
                "provider attempt failed; trying again"
            );
            tokio::time::sleep(pause).await;
            assembly.reset();
        }
    }

    fn pauses(&self) -> impl Iterator<Item = Duration> + Send {
        // Without a seed of its own every process would have the same jitter.
        let seed = self
            .cx
            .uuid()
            .bytes()
            .fold(0_u64, |seed, byte| seed.wrapping_mul(31) ^ u64::from(byte));
        let retries = usize::try_from(self.cx.config().provider.max_retries).unwrap_or(usize::MAX);
        ExponentialBuilder::new()
            .with_min_delay(BACKOFF)
            .with_max_times(retries)
            .with_jitter()
            .with_jitter_seed(seed)
            .build()
    }

    async fn attempt(
        &self,
        encoded: &Encoded,
        assembly: &mut Assembly,
        outbox: &mut Outbox<'_>,
    ) -> Result<StopReason, Stop> {
        let response = self.send(encoded).await.map_err(Stop::Failed)?;
        outbox.start(assembly).await.map_err(unheard)?;
        let content_type = header_text(&response);
        let settings = self.cx.state().provider.settings(&self.cx.config());
        let idle = settings.idle_timeout;
        let body = if content_type.starts_with("application/json") {
            let whole = http::body_up_to(response, MAX_WHOLE_BODY_BYTES, idle).await;
            stream::iter([Ok(as_event(whole))]).boxed()
        } else {
            let chunks = response.bytes_stream();
            chunks
                .map(|chunk| chunk.map_err(|error| Broken::Read(http::explain(error))))
                .boxed()
        };
        let mut reading = Reading {
            decoder: (encoded.decoder)(),
            assembly,
            outbox,
        };
        let outcome = reading.read(body, idle).await;
        outcome.map_err(|stop| match stop {
            Stop::Failed(failure) if failure.message == "non-SSE body" => {
                Stop::Failed(Failure::transient(format!("non-SSE body ({content_type})")))
            }
            stop => stop,
        })
    }

    /// Sends the request and takes the answer's head.
    async fn send(&self, encoded: &Encoded) -> Result<reqwest::Response, Failure> {
        let provider = &self.cx.state().provider;
        let id = provider.spec().id;
        let limit = provider.settings(&self.cx.config()).headers_timeout;
        let request = self
            .client
            .post(self.access.url.clone())
            .headers(provider.headers(&self.access)?)
            .header(CONTENT_TYPE, "application/json")
            .body(encoded.body.clone());
        let response = match tokio::time::timeout(limit, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let message = format!("{id} fetch failed: {}", http::explain(error));
                return Err(Failure::transient(message).retryable());
            }
            Err(_) => {
                let message = format!("{id} timed out: no answer within {} ms", limit.as_millis());
                return Err(Failure::transient(message));
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response).await)
    }

    async fn refused(&self, response: reqwest::Response) -> Failure {
        let status = response.status();
        let asked_wait = http::retry_after(response.headers(), self.cx.now_ms());
        let body = http::body_up_to(response, MAX_ERROR_BODY_BYTES, ERROR_BODY_TIME).await;
        let body = String::from_utf8(body)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        let provider = &self.cx.state().provider;
        let id = provider.spec().id;
        let mut message = message_of_body(&body);
        if provider.is_local() {
            message = excerpt(&message, self.access.secret.as_ref().map(Secret::text));
        }
        let mut failure = Failure::new(
            overflow::kind_of_answer(status, &body),
            if message.trim().is_empty() {
                format!("{id} http {}", status.as_u16())
            } else {
                message
            },
        );
        if overflow::is_worth_a_retry(status, &body) && failure.kind != ErrorKind::ContextOverflow {
            failure.retry = Retry::After(asked_wait.unwrap_or_default());
        }
        failure
    }
}

/// One answer being read.
struct Reading<'r, 'o> {
    decoder: Box<dyn Decode>,
    assembly: &'r mut Assembly,
    outbox: &'r mut Outbox<'o>,
}

impl Reading<'_, '_> {
    async fn read<S>(&mut self, body: S, idle: Duration) -> Result<StopReason, Stop>
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

fn unheard(_: crate::error::Error) -> Stop {
    Stop::Unheard
}

fn broken_body(broken: &Broken) -> Failure {
    let failure = Failure::transient(broken.to_string());
    match broken {
        Broken::Read(_) => failure.retryable(),
        Broken::Idle(_) | Broken::TooLong { .. } => failure,
    }
}

/// How long to wait before the next attempt; an error when there is none, with what to tell about it.
fn pause_before_next(
    failure: &Failure,
    pause: Option<Duration>,
    elapsed: Duration,
) -> Result<Duration, String> {
    let (Retry::After(at_least), Some(pause)) = (failure.retry, pause) else {
        return Err(String::new());
    };
    if at_least > MAX_RETRY_AFTER {
        return Err(format!(" (the server asks to wait {} s)", at_least.as_secs()));
    }
    let pause = pause.max(at_least);
    if elapsed + pause > LAST_ATTEMPT {
        return Err(String::new());
    }
    Ok(pause)
}

fn with_note(failure: &Failure, note: &str) -> Failure {
    Failure {
        message: format!("{}{note}", failure.message),
        ..failure.clone()
    }
}

/// A body that is one JSON text, as the one event it is: an error that came with a success, or the whole answer of a server
/// that does not stream. Other bodies stay what they are.
fn as_event(body: Vec<u8>) -> Bytes {
    match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(json) => format!("data: {json}\n\n").into(),
        Err(_) => body.into(),
    }
}

fn header_text(response: &reqwest::Response) -> String {
    let value = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    value.unwrap_or("no content-type").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn w4_the_next_attempt_waits_as_asked_within_bounds() {
        let after = |seconds| Failure {
            retry: Retry::After(Duration::from_secs(seconds)),
            ..Failure::transient("busy")
        };
        let second = Duration::from_secs;
        let own = Some(Duration::from_millis(700));
        let refused = |note: &str| Err(note.to_owned());
        let cases = [
            (Failure::transient("never"), own, second(0), refused("")),
            (after(0), None, second(0), refused("")),
            (after(0), own, second(0), Ok(Duration::from_millis(700))),
            (after(5), own, second(0), Ok(second(5))),
            (after(20), own, second(0), Ok(second(20))),
            (
                after(21),
                own,
                second(0),
                refused(" (the server asks to wait 21 s)"),
            ),
            (after(20), own, second(100), Ok(second(20))),
            (after(20), own, second(101), refused("")),
            (after(0), own, second(120), refused("")),
        ];
        for (failure, pause, elapsed, expected) in cases {
            assert_eq!(
                pause_before_next(&failure, pause, elapsed),
                expected,
                "{failure:?} {elapsed:?}"
            );
        }
    }
}
