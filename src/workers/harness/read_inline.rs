//! `harness::fs::read_inline`: a file of the host, through the shell worker, as text in one answer (contract 04 §4).

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value, json};
use tokio::time::{Instant, timeout_at};

use super::Harness;
use crate::bus::{self, CallOptions, ChannelReader, Cx, Frame, Function, unwrap_body};
use crate::error::{Error, Result};
use crate::model::api::provider::{ChannelRef, Direction};

const SHELL_READ: &str = "shell::fs::read";

/// Limit of the shell's answer.
const SHELL_TIMEOUT_MS: u64 = 30_000;

/// Limit of what comes after it.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

/// How long a channel that has given all it was asked for may take to say whether there is more.
const MORE_WITHIN: Duration = Duration::from_secs(1);

const DEFAULT_BYTES: usize = 256 * 1024;

const MOST_BYTES: usize = 16 * 1024 * 1024;

/// `harness::fs::read_inline`.
#[derive(Debug)]
pub(super) struct ReadInline;

/// Request of `harness::fs::read_inline`; may be wrapped as `{body: …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// Path of the file, as the shell worker understands it; not empty.
    path: String,
    /// Most bytes to read, a whole number from 1; anything else counts as 262144. More than 16777216 counts as that.
    #[serde(default)]
    max_bytes: Option<u64>,
}

/// Response of `harness::fs::read_inline`, in the shape of a function result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// One block of text.
    content: [Text; 1],
    /// How much of the file it is.
    details: Details,
    /// Always false.
    terminate: bool,
}

/// A block of text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Text {
    /// Always `text`.
    #[serde(rename = "type")]
    kind: String,
    /// The file, or `<binary N bytes>` when it is not UTF-8.
    text: String,
}

/// How much of a file was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Details {
    /// Bytes of the file, as the shell reports them.
    size: Number,
    /// Whether the file has more than was read.
    truncated: bool,
    /// Bytes that were read.
    bytes_read: usize,
}

impl Function for ReadInline {
    const ID: &'static str = "harness::fs::read_inline";
    const DESCRIPTION: &'static str = "Read a host file via shell::fs::read, drain its channel, and return a {content:[{text}], details:{size, truncated, bytes_read}} envelope (max 256 KiB inline by default).";
    type State = Harness;
    type Request = Request;
    type Response = Response;

    fn decode(payload: Value) -> Result<Request> {
        let payload: Value = bus::decode(payload, &[], false)?;
        let mut members = unwrap_body(payload);
        let Some(Value::String(path)) = members.remove("path").filter(|path| *path != "") else {
            return Err(Error::invalid("missing required field: path"));
        };
        Ok(Request {
            path,
            max_bytes: members.get("max_bytes").and_then(positive),
        })
    }

    /// Errors: those of the shell; `shell::fs::read returned unexpected shape`; `channel drain failed: …`.
    async fn call(cx: &Cx<Harness>, request: Request) -> Result<Response> {
        let options = CallOptions::timeout_ms(SHELL_TIMEOUT_MS);
        let reply = cx
            .invoke(SHELL_READ, json!({ "path": request.path }), options)
            .await?;
        let Some((channel, size)) = opened(reply) else {
            return Err(Error::Unavailable(format!(
                "{SHELL_READ} returned unexpected shape"
            )));
        };
        let drain = Drain {
            most: most_bytes(request.max_bytes),
            deadline: Instant::now() + DRAIN_WITHIN,
        };
        let failed = |error: Error| Error::Unavailable(format!("channel drain failed: {error}"));
        let read = match timeout_at(drain.deadline, cx.bus().open_reader(&channel)).await {
            Ok(Ok(reader)) => drain.run(reader).await.map_err(failed)?,
            Ok(Err(error)) => return Err(failed(error)),
            Err(_) => return Err(failed(too_slow())),
        };
        Ok(answer(read, size))
    }
}

/// A whole number from 1, also when it is written as a float.
fn positive(value: &Value) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = value.as_u64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and not negative; a larger one becomes the largest"
        )]
        (number >= 0.0).then(|| number.min(EXACT) as u64)
    });
    whole.filter(|number| *number > 0)
}

/// How much is read for somebody who asks for so much.
fn most_bytes(asked: Option<u64>) -> usize {
    let most = asked.map_or(Ok(DEFAULT_BYTES), usize::try_from);
    most.map_or(MOST_BYTES, |most| most.min(MOST_BYTES))
}

/// The channel and the size that the shell answers.
fn opened(reply: Value) -> Option<(ChannelRef, Number)> {
    let Value::Object(mut reply) = reply else {
        return None;
    };
    let Some(Value::Object(mut content)) = reply.remove("content") else {
        return None;
    };
    let Some(Value::Number(size)) = reply.remove("size") else {
        return None;
    };
    let channel = ChannelRef {
        channel_id: text(&mut content, "channel_id")?,
        access_key: text(&mut content, "access_key")?,
        direction: Direction::Read,
    };
    Some((channel, size))
}

fn text(members: &mut Map<String, Value>, name: &str) -> Option<String> {
    match members.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// What came over a channel.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    bytes: Vec<u8>,
    /// There was more.
    cut: bool,
}

/// How much is read from a channel, and until when.
struct Drain {
    most: usize,
    deadline: Instant,
}

impl Drain {
    async fn run(&self, mut reader: ChannelReader) -> Result<Read> {
        let mut read = Read::default();
        while read.bytes.len() < self.most {
            match timeout_at(self.deadline, reader.next()).await {
                Ok(Some(Frame::Binary(chunk))) => read.add(&chunk, self.most),
                // The shell may say things beside the file.
                Ok(Some(_)) => {}
                Ok(None) => return Ok(read),
                Err(_) => return Err(too_slow()),
            }
        }
        // A file that has grown says so only here.
        let patience = self.deadline.min(Instant::now() + MORE_WITHIN);
        while !read.cut {
            match timeout_at(patience, reader.next()).await {
                Ok(Some(Frame::Binary(chunk))) => read.add(&chunk, self.most),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        Ok(read)
    }
}

fn too_slow() -> Error {
    Error::Unavailable(format!("it did not end within {} s", DRAIN_WITHIN.as_secs()))
}

impl Read {
    fn add(&mut self, chunk: &[u8], most: usize) {
        let room = most - self.bytes.len();
        self.cut |= chunk.len() > room;
        self.bytes.extend(chunk.iter().take(room));
    }
}

fn answer(read: Read, size: Number) -> Response {
    let bytes_read = read.bytes.len();
    #[expect(clippy::cast_precision_loss, reason = "16 MiB are exact")]
    let truncated = read.cut || size.as_f64().is_some_and(|size| (bytes_read as f64) < size);
    let text = readable(read.bytes, truncated).unwrap_or_else(|| format!("<binary {bytes_read} bytes>"));
    Response {
        content: [Text {
            kind: "text".into(),
            text,
        }],
        details: Details {
            size,
            truncated,
            bytes_read,
        },
        terminate: false,
    }
}

/// The text, without the character that a cut went through.
fn readable(mut bytes: Vec<u8>, truncated: bool) -> Option<String> {
    if let Err(error) = std::str::from_utf8(&bytes)
        && error.error_len().is_none()
        && truncated
    {
        bytes.truncate(error.valid_up_to());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    #[test]
    fn c04_case_23_24_requests() {
        let read = |payload: Value| ReadInline::decode(payload).map_err(|error| error.to_string());
        for payload in [
            json!(null),
            json!("/tmp/a"),
            json!([]),
            json!({}),
            json!({"path": ""}),
            json!({"path": 7}),
            json!({"body": {}, "path": "/tmp/a"}),
        ] {
            assert_eq!(read(payload), Err("missing required field: path".into()));
        }
        for (max_bytes, expected) in [
            (json!(9), Some(9)),
            (json!(9.0), Some(9)),
            (json!(1e300), Some(9_007_199_254_740_992)),
            (json!(u64::MAX), Some(u64::MAX)),
            (json!(0), None),
            (json!(-1), None),
            (json!(0.5), None),
            (json!(9.5), None),
            (json!("9"), None),
            (json!(null), None),
        ] {
            let expected = Request {
                path: "/tmp/a".into(),
                max_bytes: expected,
            };
            let payload = json!({"body": {"path": "/tmp/a", "max_bytes": max_bytes}});
            assert_eq!(read(payload), Ok(expected));
        }
    }

    #[test]
    fn w11_nobody_gets_more_than_16_mib() {
        for (asked, expected) in [
            (None, 262_144),
            (Some(1), 1),
            (Some(16_777_216), 16_777_216),
            (Some(16_777_217), 16_777_216),
            (Some(u64::MAX), 16_777_216),
        ] {
            assert_eq!(most_bytes(asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn c04_case_24_other_shapes_of_the_shell() {
        let good =
            json!({"content": {"channel_id": "c", "access_key": "k", "direction": "write"}, "size": 5});
        let channel = ChannelRef {
            channel_id: "c".into(),
            access_key: "k".into(),
            direction: Direction::Read,
        };
        assert_eq!(opened(good.clone()), Some((channel, 5.into())));
        for (place, odd) in [
            ("", json!(null)),
            ("", json!([good])),
            ("/content", json!("text")),
            ("/content", json!({"channel_id": "c"})),
            ("/content/access_key", json!(1)),
            ("/content/channel_id", json!(null)),
            ("/size", json!("5")),
        ] {
            let mut reply = good.clone();
            *reply.pointer_mut(place).unwrap() = odd;
            assert_eq!(opened(reply.clone()), None, "{reply}");
        }
    }

    #[test]
    fn c04_case_22_what_is_no_text_is_not_shown() {
        let shown = |bytes: &[u8], size: u64| {
            let read = Read {
                bytes: bytes.to_vec(),
                cut: false,
            };
            let [text] = answer(read, size.into()).content;
            text.text
        };
        assert_eq!(shown(b"\xff\xfe\xfd", 3), "<binary 3 bytes>");
        // Cut inside of a character, or ended there.
        assert_eq!(shown(b"a\xf0\x9f\xa6", 5), "a");
        assert_eq!(shown(b"a\xf0\x9f\xa6", 4), "<binary 4 bytes>");
        assert_eq!(shown(b"a\xf0\x9f\xa6x", 9), "<binary 5 bytes>");
        assert_eq!(shown(b"", 0), "");
    }

    proptest! {
        #[test]
        fn a_cut_text_stays_a_text(text in ".{0,40}", at in 0_usize..160) {
            let at = at.min(text.len());
            let bytes = text.as_bytes()[..at].to_vec();
            let shown = readable(bytes, at < text.len()).unwrap();
            prop_assert!(text.starts_with(&shown) && at - shown.len() < 4);
        }
    }

    async fn drained(most: usize, chunks: &[&'static [u8]], ends: bool) -> (Result<Read>, Duration) {
        let (frames, reader) = ChannelReader::remote(64);
        for chunk in chunks {
            frames.send(Frame::Binary((*chunk).into())).await.unwrap();
        }
        frames.send(Frame::Text("by the way".into())).await.unwrap();
        let held = (!ends).then_some(frames);
        let begun = Instant::now();
        let drain = Drain {
            most,
            deadline: begun + DRAIN_WITHIN,
        };
        let read = drain.run(reader).await;
        drop(held);
        (read, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_is_read_up_to_the_limit_and_not_for_ever() {
        let read = |bytes: &[u8], cut| {
            Ok(Read {
                bytes: bytes.to_vec(),
                cut,
            })
        };
        let stuck = Err(Error::Unavailable("it did not end within 30 s".into()));
        let (now, late) = (Duration::ZERO, DRAIN_WITHIN);
        for (most, chunks, ends, expected, after) in [
            (
                9,
                &[b"he".as_slice(), b"", b"llo"][..],
                true,
                read(b"hello", false),
                now,
            ),
            (5, &[b"he", b"llo"], true, read(b"hello", false), now),
            (4, &[b"he", b"llo"], false, read(b"hell", true), now),
            (5, &[b"hello", b"!"], false, read(b"hello", true), now),
            (5, &[b"hello", b""], false, read(b"hello", false), MORE_WITHIN),
            (9, &[b"hello"], false, stuck, late),
        ] {
            assert_eq!(drained(most, chunks, ends).await, (expected, after));
        }
    }
}
