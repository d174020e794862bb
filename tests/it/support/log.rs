//! What the program says in its log, for tests that wait until it has said something, and the spans of its calls.

use std::fmt::Debug;
use std::io;
use std::panic;
use std::sync::{Mutex, Once};
use std::time::Duration;

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use super::engine::within;

static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static SPANS: Mutex<Vec<Span>> = Mutex::new(Vec::new());

/// Functions whose spans are remembered, with those of what they call.
const TRACED: &str = "traced::";

struct Ear;

impl io::Write for Ear {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        SAID.lock()
            .unwrap()
            .push(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A span of a handler: its function, its session, and the function whose handler called it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) function: String,
    pub(crate) session: String,
    pub(crate) under: Option<String>,
}

impl Visit for Span {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "function" => value.clone_into(&mut self.function),
            "session_id" => value.clone_into(&mut self.session),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

struct Tracer;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Tracer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut seen = Span::default();
        attributes.record(&mut seen);
        let span = context.span(id).unwrap();
        let caller = span.parent();
        seen.under =
            caller.and_then(|caller| caller.extensions().get().map(|span: &Span| span.function.clone()));
        if seen.function.starts_with(TRACED) || seen.under.is_some() {
            span.extensions_mut().insert(seen.clone());
            SPANS.lock().unwrap().push(seen);
        }
    }
}

/// Begins to listen, for all tests of this process.
pub(crate) fn listen() {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| {
        let of_interest = Targets::new()
            .with_target("harness::workers::harness::policy_file", LevelFilter::WARN)
            .with_target("harness::workers::web", LevelFilter::INFO);
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(|| Ear);
        let of_calls = filter_fn(|about| about.is_span() && about.target().starts_with("harness::bus"));
        let listener = tracing_subscriber::registry()
            .with(lines.with_filter(of_interest))
            .with(Tracer.with_filter(of_calls));
        tracing::subscriber::set_global_default(listener).unwrap();
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            // What a test asked for, or found out, is not the program's.
            if !place.starts_with("tests/") {
                PANICS.lock().unwrap().push(panic.to_string());
            }
            usual(panic);
        }));
    });
}

/// The spans of a traced function and of what it called, in the order in which they began.
pub(crate) fn spans(function: &str) -> Vec<Span> {
    let seen = SPANS.lock().unwrap();
    let is_wanted = |span: &&Span| span.function == function || span.under.as_deref() == Some(function);
    seen.iter().filter(is_wanted).cloned().collect()
}

/// Panics of the program, since somebody listens.
pub(crate) fn panics() -> Vec<String> {
    PANICS.lock().unwrap().clone()
}

/// The lines that have all of these in them, in order.
pub(crate) fn lines(parts: &[&str]) -> Vec<String> {
    let said = SAID.lock().unwrap();
    let is_wanted = |line: &&String| parts.iter().all(|part| line.contains(part));
    said.iter().filter(is_wanted).cloned().collect()
}

/// How many there are.
pub(crate) fn count(parts: &[&str]) -> usize {
    lines(parts).len()
}

/// Waits for so many lines with all of these in them.
pub(crate) async fn says(parts: &[&str], times: usize) {
    within(async {
        while count(parts) < times {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
