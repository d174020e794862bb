//! Server-sent events from a body of bytes; the only user of `eventsource-stream`.
//!
//! That crate frames events right, but panics on a byte order mark, is quadratic in a line that arrives in pieces, and
//! stalls for ever on a byte that is no UTF-8. So it never sees raw bytes: [`Lines`] hands it one whole, valid line at a
//! time, with LF as its end. The caps bound memory, whatever the server sends.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use eventsource_stream::{EventStream, EventStreamError};
use futures::stream::{self, Stream, StreamExt};

const MAX_LINE_BYTES: usize = 1024 * 1024;
const MAX_EVENT_BYTES: usize = 4 * MAX_LINE_BYTES;
const MAX_BODY_BYTES: usize = 64 * MAX_LINE_BYTES;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its `event:` field; `message` without one.
    pub(super) event: String,
    /// Its `data:` lines, joined by LF.
    pub(super) data: String,
}

/// Why a body could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// Nothing came for too long.
    #[error("timed out: no data for {} ms", .0.as_millis())]
    Idle(Duration),
    /// The connection failed.
    #[error("stream read failed: {0}")]
    Read(String),
    /// Something is larger than any honest server sends.
    #[error("stream read failed: {what} is longer than {limit} bytes")]
    TooLong {
        /// A line, an event or the body.
        what: &'static str,
        /// The cap.
        limit: usize,
    },
}

/// The events of a body. Each wait for bytes is limited by `idle`; comments and pings count as life.
pub(super) fn frames<S>(body: S, idle: Duration) -> impl Stream<Item = Result<Frame, Broken>> + Send + Unpin
where
    S: Stream<Item = Result<Bytes, Broken>> + Send + Unpin + 'static,
{
    EventStream::new(Box::pin(lines(body, idle))).map(|event| match event {
        Ok(event) => Ok(Frame {
            event: event.event,
            data: event.data,
        }),
        Err(EventStreamError::Transport(broken)) => Err(broken),
        // Cannot happen with whole, valid lines; kept total.
        Err(EventStreamError::Utf8(error)) => Err(Broken::Read(error.to_string())),
        Err(EventStreamError::Parser(_)) => Err(Broken::Read("malformed event".into())),
    })
}

fn lines<S>(body: S, idle: Duration) -> impl Stream<Item = Result<String, Broken>> + Send
where
    S: Stream<Item = Result<Bytes, Broken>> + Send + Unpin + 'static,
{
    stream::try_unfold(
        (body, Lines::default()),
        move |(mut body, mut lines)| async move {
            loop {
                if let Some(line) = lines.ready.pop_front() {
                    return Ok(Some((line, (body, lines))));
                }
                if let Some(broken) = lines.broken.take() {
                    return Err(broken);
                }
                if lines.ended {
                    return Ok(None);
                }
                match tokio::time::timeout(idle, body.next()).await {
                    Ok(Some(chunk)) => lines.push(&chunk?),
                    Ok(None) => lines.end(),
                    Err(_) => return Err(Broken::Idle(idle)),
                }
            }
        },
    )
}

/// Cuts bytes into lines, wherever the reads were cut.
#[derive(Debug, Default)]
struct Lines {
    /// The line that has no end yet.
    open: Vec<u8>,
    /// Whole lines, each with one LF.
    ready: VecDeque<String>,
    /// The last line ended with CR; an LF right after it belongs to that end.
    after_cr: bool,
    past_first_line: bool,
    event_bytes: usize,
    body_bytes: usize,
    broken: Option<Broken>,
    ended: bool,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) {
        self.body_bytes += chunk.len();
        self.limit("the body", self.body_bytes, MAX_BODY_BYTES);
        for piece in chunk.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            if self.broken.is_some() {
                return;
            }
            let (text, end) = match piece.split_last() {
                Some((end @ (b'\n' | b'\r'), text)) => (text, Some(*end)),
                _ => (piece, None),
            };
            let rest_of_crlf = self.after_cr && end == Some(b'\n') && text.is_empty();
            self.after_cr = end == Some(b'\r');
            if rest_of_crlf {
                continue;
            }
            self.open.extend_from_slice(text);
            self.event_bytes += text.len();
            self.limit("a line", self.open.len(), MAX_LINE_BYTES);
            self.limit("an event", self.event_bytes, MAX_EVENT_BYTES);
            if end.is_some() && self.broken.is_none() {
                self.finish_line();
            }
        }
    }

    /// The body is over: a last line without an end, or a last event without a blank line, still counts.
    fn end(&mut self) {
        if !self.open.is_empty() {
            self.finish_line();
        }
        self.ready.push_back("\n".to_owned());
        self.ended = true;
    }

    fn limit(&mut self, what: &'static str, bytes: usize, limit: usize) {
        if bytes > limit {
            self.broken.get_or_insert(Broken::TooLong { what, limit });
        }
    }

    fn finish_line(&mut self) {
        let bytes = std::mem::take(&mut self.open);
        if bytes.is_empty() {
            self.event_bytes = 0;
        }
        // The line is whole, so a character that was cut by a read is whole again; what is still wrong never was UTF-8.
        let mut line = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        if !self.past_first_line {
            self.past_first_line = true;
            let marks = line.len() - line.trim_start_matches('\u{feff}').len();
            line.drain(..marks);
        }
        if let Some(error) = bare_error(&line) {
            let event = format!("data: {error}\n");
            // The blank line ends what came right before.
            self.ready
                .extend(["\n".to_owned(), "event: error\n".to_owned(), event]);
            return;
        }
        line.push('\n');
        self.ready.push_back(line);
    }
}

/// An error that a server wrote without the form of an event, and that would be skipped as an unknown field: `error: {…}`, as
/// llama.cpp did through 2025, or `{"error": …}` alone, as gateways pass on what they were answered.
fn bare_error(line: &str) -> Option<&str> {
    if let Some(named) = line.strip_prefix("error:") {
        return Some(named.trim_start()).filter(|json| json.starts_with('{'));
    }
    let member = line.strip_prefix('{')?.trim_start();
    member.starts_with("\"error\"").then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    const IDLE: Duration = Duration::from_mins(1);

    async fn read(chunks: Vec<Vec<u8>>) -> Vec<Result<Frame, Broken>> {
        let body = stream::iter(chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk))));
        frames(body, IDLE).collect().await
    }

    #[expect(clippy::unnecessary_wraps, reason = "an item of the expected stream")]
    fn data(text: &str) -> Result<Frame, Broken> {
        Ok(Frame {
            event: "message".into(),
            data: text.into(),
        })
    }

    /// `timeout` needs a runtime even when it never fires.
    fn run(chunks: Vec<Vec<u8>>) -> Vec<Result<Frame, Broken>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        block_on(read(chunks))
    }

    #[test]
    fn w1_line_ends_data_lines_comments_and_a_last_event_without_a_blank_line() {
        let cases = [
            ("data: a\n\ndata: b\n\n", vec![data("a"), data("b")]),
            ("data: a\r\n\r\ndata: b\r\n\r\n", vec![data("a"), data("b")]),
            ("data: a\r\rdata: b\r\r", vec![data("a"), data("b")]),
            ("data:a\n\n", vec![data("a")]),
            ("data:  a\n\n", vec![data(" a")]),
            ("data: a\ndata: b\n\n", vec![data("a\nb")]),
            ("data: a\r\ndata: b\r\n\r\n", vec![data("a\nb")]),
            ("data: a\rdata: b\r\r", vec![data("a\nb")]),
            ("data: a\r\n\ndata: b\r\n\n", vec![data("a"), data("b")]),
            (": ping\n\ndata: a\n: ping\n\n", vec![data("a")]),
            ("\u{feff}data: a\n\n", vec![data("a")]),
            ("\u{feff}\u{feff}data: a\n\n", vec![data("a")]),
            ("data: a\n\ndata: last", vec![data("a"), data("last")]),
            ("data: a\n\ndata: last\r", vec![data("a"), data("last")]),
            ("<html>\n<body>no</body>\n\n</html>\n", vec![]),
            ("", vec![]),
        ];
        for (text, expected) in cases {
            assert_eq!(run(vec![text.as_bytes().to_vec()]), expected, "{text:?}");
        }
        let named = run(vec![b"event: error\ndata: x\n\n".to_vec()]);
        let expected = Frame {
            event: "error".into(),
            data: "x".into(),
        };
        assert_eq!(named, vec![Ok(expected)]);
    }

    #[test]
    fn an_error_without_the_form_of_an_event_is_one() {
        let error = |json: &str| {
            Ok(Frame {
                event: "error".into(),
                data: json.into(),
            })
        };
        for (text, expected) in [
            ("error: {\"code\":1}\n\n", vec![error("{\"code\":1}")]),
            (
                "data: a\nerror:{}\n\ndata: b\n\n",
                vec![data("a"), error("{}"), data("b")],
            ),
            (
                "data: a\n\n{ \"error\": 1}",
                vec![data("a"), error("{ \"error\": 1}")],
            ),
            ("error: none\n\n", vec![]),
            ("errors: {}\n{\"errors\": 1}\n\n", vec![]),
            ("data: error: {}\n\n", vec![data("error: {}")]),
        ] {
            assert_eq!(run(vec![text.as_bytes().to_vec()]), expected, "{text:?}");
            let bytes = text.bytes().map(|byte| vec![byte]).collect();
            assert_eq!(run(bytes), expected, "{text:?} byte by byte");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_become_replacement_characters() {
        let body = b"data: a\xffb\n\ndata: c\n\n".to_vec();
        assert_eq!(run(vec![body]), vec![data("a\u{fffd}b"), data("c")]);
    }

    #[test]
    fn w1_every_split_of_a_mixed_stream_gives_the_same_events() {
        let text = "\u{feff}: hi\r\ndata: {\"a\":\"😀é\"}\r\ndata: b\r\n\r\ndata:x\rdata: y\r\revent: e\ndata: z\n\ndata: 😀";
        let bytes = text.as_bytes();
        let whole = run(vec![bytes.to_vec()]);
        assert_eq!(whole.len(), 4);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let cuts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                let parts = cuts.iter().map(|part| part.to_vec()).collect();
                assert_eq!(run(parts), whole, "cut at {first} and {second}");
            }
        }
    }

    proptest! {
        #[test]
        fn w1_any_bytes_in_any_pieces_give_the_same_events(
            bytes in prop::collection::vec(prop_oneof![
                Just(b'\n'), Just(b'\r'), Just(b':'), Just(b' '), Just(b'd'), Just(0xEF), Just(0xBB), Just(0xBF), any::<u8>()
            ], 0..80),
            sizes in prop::collection::vec(1_usize..9, 1..20),
        ) {
            let mut bytes = [b"data: ".to_vec(), bytes].concat();
            bytes.extend(b"\n\ndata: end\n\n");
            let mut parts = Vec::new();
            let mut rest = bytes.as_slice();
            for size in sizes.iter().cycle() {
                let (part, after) = rest.split_at((*size).min(rest.len()));
                parts.push(part.to_vec());
                rest = after;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(run(parts), run(vec![bytes]));
        }
    }

    #[test]
    fn field_lesson_s9_other_line_separators_are_data() {
        let text = "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f";
        let body = format!("data: {text}\n\ndata: end\n\n").into_bytes();
        for size in [1, 2, 3, body.len()] {
            let parts = body.chunks(size).map(<[u8]>::to_vec).collect();
            assert_eq!(run(parts), vec![data(text), data("end")]);
        }
    }

    #[test]
    fn a_line_over_the_cap_ends_the_stream_after_what_came_before() {
        let line = [b"data: ".to_vec(), vec![b'x'; 5 * MAX_LINE_BYTES]].concat();
        let mut chunks = vec![b"data: a\n\n".to_vec()];
        chunks.extend(line.chunks(1024).map(<[u8]>::to_vec));
        let expected = Broken::TooLong {
            what: "a line",
            limit: MAX_LINE_BYTES,
        };
        assert_eq!(run(chunks), vec![data("a"), Err(expected)]);
    }

    #[test]
    fn a_line_of_almost_the_cap_in_small_pieces_is_read_whole() {
        let text = "y".repeat(MAX_LINE_BYTES - 100);
        let body = format!("data: {text}\n\n").into_bytes();
        assert_eq!(
            run(body.chunks(1024).map(<[u8]>::to_vec).collect()),
            vec![data(&text)]
        );
    }

    #[test]
    fn an_event_of_endless_lines_ends_the_stream() {
        let line = [b"data: ".to_vec(), vec![b'x'; 1024], b"\n".to_vec()].concat();
        let events = run(vec![line; 5000]);
        let expected = Broken::TooLong {
            what: "an event",
            limit: MAX_EVENT_BYTES,
        };
        assert_eq!(events, vec![Err(expected)]);
    }

    #[test]
    fn an_endless_body_ends() {
        let ping = [b": ".to_vec(), vec![b'x'; 64 * 1024 - 4], b"\n\n".to_vec()].concat();
        let events = run(vec![ping; 1100]);
        let expected = Broken::TooLong {
            what: "the body",
            limit: MAX_BODY_BYTES,
        };
        assert_eq!(events, vec![Err(expected)]);
    }

    #[tokio::test(start_paused = true)]
    async fn w2_silence_ends_the_stream_and_pings_reset_the_clock() {
        let idle = Duration::from_millis(100);
        let body = stream::unfold(0, |n| async move {
            tokio::time::sleep(Duration::from_millis(if n < 5 { 80 } else { 101 })).await;
            Some((Ok(Bytes::from_static(b": ping\n\n")), n + 1))
        });
        let started = tokio::time::Instant::now();
        let events: Vec<_> = frames(Box::pin(body), idle).collect().await;
        assert_eq!(events, vec![Err(Broken::Idle(idle))]);
        assert_eq!(started.elapsed(), Duration::from_millis(5 * 80 + 100));
    }
}
