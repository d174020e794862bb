//! Entries of the fuzz targets in `fuzz/`: bytes, whole and in pieces, with the same outcome.

use super::protocol::{Call, Decode, ModelFacts};
use super::replay::{frames_of, replay};
use super::{chat_completions, messages};

/// The length of the pieces is the first byte.
fn pieces(data: &[u8]) -> (&[u8], Vec<&[u8]>) {
    match data.split_first() {
        Some((size, body)) => (body, body.chunks(usize::from(*size).max(1)).collect()),
        None => (data, Vec::new()),
    }
}

fn check(make: impl Fn() -> Box<dyn Decode>, data: &[u8]) {
    let (body, pieces) = pieces(data);
    assert_eq!(
        replay(make(), "fuzzed", vec![body]),
        replay(make(), "fuzzed", pieces)
    );
}

/// The event parser.
pub fn sse(data: &[u8]) {
    let (body, pieces) = pieces(data);
    assert_eq!(frames_of(vec![body]), frames_of(pieces));
}

/// The decoder of Chat Completions.
pub fn chat_completions(data: &[u8]) {
    let encoded = chat_completions::Quirks::default().encode(&Call::default(), &ModelFacts::default());
    let encoded = encoded.unwrap();
    check(|| (encoded.decoder)(), data);
}

/// The decoder of the Messages protocol.
pub fn messages(data: &[u8]) {
    let quirks = messages::Quirks {
        provider: "fuzzed",
        thinking: |_, _| messages::Thinking::Unasked,
    };
    let encoded = quirks.encode(&Call::default(), &ModelFacts::default()).unwrap();
    check(|| (encoded.decoder)(), data);
}
