//! Streams through the real event parser and decoders, without a connection; for tests.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, stream};
use tokio::runtime::{Builder, Runtime};

use super::assembly::Assembly;
use super::protocol::{Decode, Step};
use super::sse::frames;
use crate::model::{AssistantEvent, AssistantMessage, StopReason};

/// Time limits need one, also when they never strike.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());

/// What came of a stream.
#[derive(Debug, PartialEq)]
pub(super) struct Replay {
    pub(super) events: Vec<AssistantEvent>,
    pub(super) message: AssistantMessage,
}

/// Decodes a body that comes in these pieces.
pub(super) fn replay(mut decoder: Box<dyn Decode>, provider: &str, pieces: Vec<&[u8]>) -> Replay {
    let _inside = RUNTIME.enter();
    let pieces: Vec<_> = pieces.into_iter().map(Bytes::copy_from_slice).map(Ok).collect();
    let mut frames = frames(stream::iter(pieces), Duration::from_secs(9));
    let mut out = Assembly::new(provider, "m", 7, "00000000-0000-4000-8000-000000000001");
    let outcome = block_on(async {
        while let Some(frame) = frames.next().await {
            match decoder.frame(&frame.unwrap(), &mut out) {
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
pub(super) fn kinds(events: &[AssistantEvent]) -> Vec<String> {
    let kind = |event| {
        let json = serde_json::to_value(event).unwrap();
        json["type"].as_str().unwrap().to_owned()
    };
    events.iter().map(kind).collect()
}
