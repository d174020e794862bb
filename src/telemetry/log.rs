//! The log on stderr: one line per event, as text or JSON, without secrets.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::payload::{REDACTED, is_secret_key, redact};
use crate::config::{Log, LogFormat, log_filter};
use crate::error::Error;

/// Shorter texts are not masked by value: they would blot out ordinary words.
const MIN_SECRET_BYTES: usize = 8;

/// Secrets that must not appear in the log, whatever the place. A cheap clone; all clones share one list.
#[derive(Clone, Default)]
pub struct Masks(Arc<ArcSwap<Vec<String>>>);

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masks").finish_non_exhaustive()
    }
}

impl Masks {
    /// Masks this text from now on. Texts under 8 bytes are left alone.
    pub fn add(&self, secret: &str) {
        if secret.len() < MIN_SECRET_BYTES {
            return;
        }
        self.0.rcu(|known| {
            let mut known = Vec::clone(known);
            if !known.iter().any(|one| one == secret) {
                known.push(secret.to_owned());
                // A secret that contains another one goes first, or its rest would stay.
                known.sort_by_key(|one| std::cmp::Reverse(one.len()));
            }
            known
        });
    }

    /// The text without the known secrets.
    pub fn apply(&self, text: &str) -> String {
        self.0.load().iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) {
                text.replace(secret.as_str(), REDACTED)
            } else {
                text
            }
        })
    }
}

/// Starts the log for this process. Fails when the level is not usable or a log was started before.
pub fn init(log: &Log, masks: Masks) -> Result<(), Error> {
    let filter = log_filter(&log.level).map_err(|error| Error::invalid(format!("log.level: {error}")))?;
    let sink = Sink {
        masks,
        format: log.format,
        out: io::stderr,
    };
    match log.format {
        LogFormat::Text => tracing_subscriber::registry()
            .with(filter)
            .with(text_layer(sink))
            .try_init(),
        LogFormat::Json => tracing_subscriber::registry()
            .with(filter)
            .with(json_layer(sink))
            .try_init(),
    }
    .map_err(|error| Error::invalid(format!("the log cannot be started: {error}")))
}

fn text_layer<S, O, W>(sink: Sink<O>) -> impl tracing_subscriber::Layer<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
    O: Fn() -> W + Clone + Send + Sync + 'static,
    W: Write + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .fmt_fields(debug_fn(write_field).delimited(" "))
        .with_writer(sink)
}

fn json_layer<S, O, W>(sink: Sink<O>) -> impl tracing_subscriber::Layer<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
    O: Fn() -> W + Clone + Send + Sync + 'static,
    W: Write + 'static,
{
    tracing_subscriber::fmt::layer()
        .json()
        .with_ansi(false)
        .with_writer(sink)
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(writer, "{value:?}"),
        name if is_secret_key(name) => write!(writer, "{name}={REDACTED}"),
        name => write!(writer, "{name}={value:?}"),
    }
}

/// Where lines go. The formatter hands over whole lines, so a secret is never split between two writes.
#[derive(Clone)]
struct Sink<O> {
    masks: Masks,
    format: LogFormat,
    out: O,
}

struct Line<'a, W> {
    masks: &'a Masks,
    format: LogFormat,
    out: W,
}

impl<'a, O, W> MakeWriter<'a> for Sink<O>
where
    O: Fn() -> W,
    W: Write,
{
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        Line {
            masks: &self.masks,
            format: self.format,
            out: (self.out)(),
        }
    }
}

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        let line = match (self.format, serde_json::from_str::<Value>(&line)) {
            (LogFormat::Json, Ok(record)) => format!("{}\n", redact(&record)),
            (LogFormat::Json | LogFormat::Text, _) => line.into_owned(),
        };
        self.out.write_all(self.masks.apply(&line).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    /// Takes lines instead of stderr.
    #[derive(Clone, Default)]
    struct Taken(Arc<Mutex<Vec<u8>>>);

    impl Write for Taken {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let (taken, masks) = (Taken::default(), Masks::default());
        masks.add("sk-12345678");
        masks.add("short");
        let target = taken.clone();
        let sink = Sink {
            masks,
            format,
            out: move || target.clone(),
        };
        let registry = tracing_subscriber::registry();
        match format {
            LogFormat::Text => tracing::subscriber::with_default(registry.with(text_layer(sink)), log),
            LogFormat::Json => tracing::subscriber::with_default(registry.with(json_layer(sink)), log),
        }
        String::from_utf8(taken.0.lock().unwrap().clone()).unwrap()
    }

    fn lines() {
        let span = tracing::info_span!("call", access_token = "t-in-span", turn = 3);
        let _entered = span.enter();
        tracing::info!(api_key = "k", function = "a::b", "sent sk-12345678 in short");
    }

    #[test]
    fn text_lines_hold_no_secret() {
        let line = logged(LogFormat::Text, lines);
        assert!(
            line.ends_with("sent [REDACTED] in short api_key=[REDACTED] function=\"a::b\"\n"),
            "{line}"
        );
        assert!(line.contains("call{access_token=[REDACTED] turn=3}"), "{line}");
    }

    #[test]
    fn json_lines_hold_no_secret() {
        let line = logged(LogFormat::Json, lines);
        let record: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            record["fields"],
            json!({"message": "sent [REDACTED] in short", "api_key": "[REDACTED]", "function": "a::b"})
        );
        assert_eq!(
            record["span"],
            json!({"access_token": "[REDACTED]", "turn": 3, "name": "call"})
        );
    }
}
