//! Streams through the real event parser and decoders, without a connection; for tests and fuzzing.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;
use futures::{Stream, StreamExt, stream};
use tokio::runtime::{Builder, Runtime};

use super::assembly::Assembly;
use super::failure::Failure;
use super::protocol::{Decode, Step};
use super::sse::{Broken, Frame, frames};
use crate::model::{AssistantEvent, AssistantMessage, StopReason};

/// Time limits need one, also when they never strike.
#[expect(
    clippy::unwrap_used,
    reason = "without a runtime there is nothing to replay with"
)]
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());

/// What came of a stream.
#[derive(Debug, PartialEq)]
pub(super) struct Replay {
    pub(super) events: Vec<AssistantEvent>,
    pub(super) message: AssistantMessage,
}

/// The events of a body that comes in these pieces, up to what breaks it.
#[cfg(fuzzing)]
pub(super) fn frames_of(pieces: Vec<&[u8]>) -> Vec<Result<Frame, Broken>> {
    let _inside = RUNTIME.enter();
    block_on(body(pieces).collect())
}

fn body(pieces: Vec<&[u8]>) -> impl Stream<Item = Result<Frame, Broken>> + Unpin {
    let pieces: Vec<_> = pieces.into_iter().map(Bytes::copy_from_slice).map(Ok).collect();
    frames(stream::iter(pieces), Duration::from_secs(9))
}

/// Decodes a body that comes in these pieces.
pub(super) fn replay(mut decoder: Box<dyn Decode>, provider: &str, pieces: Vec<&[u8]>) -> Replay {
    let _inside = RUNTIME.enter();
    let mut frames = body(pieces);
    let mut out = Assembly::new(provider, "m", 7, "00000000-0000-4000-8000-000000000001");
    let outcome = block_on(async {
        while let Some(frame) = frames.next().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(broken) => return Err(Failure::transient(broken.to_string())),
            };
            match decoder.frame(&frame, &mut out) {
                Step::More => {}
                Step::End => break,
                Step::Failed(failure) => return Err(failure),
            }
        }
        decoder.end(&out)
    });
    out.close();
    let message = match outcome {
        Ok(reason) => out.done(reason),
        Err(failure) => out.failed(StopReason::Error, &failure),
    };
    Replay {
        events: out.take_events(),
        message,
    }
}

/// The types of events.
#[cfg(test)]
pub(super) fn kinds(events: &[AssistantEvent]) -> Vec<String> {
    let kind = |event| {
        let json = serde_json::to_value(event).unwrap();
        json["type"].as_str().unwrap().to_owned()
    };
    events.iter().map(kind).collect()
}
