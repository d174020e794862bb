//! What the rule file's worker says in the log, for tests that wait until it has said something.

use std::io;
use std::sync::{Mutex, Once};
use std::time::Duration;

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::engine::within;

static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

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

/// Begins to listen, for all tests of this process.
pub(crate) fn listen() {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| {
        let of_the_rules =
            Targets::new().with_target("harness::workers::harness::policy_file", LevelFilter::WARN);
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(|| Ear);
        tracing_subscriber::registry()
            .with(lines.with_filter(of_the_rules))
            .init();
    });
}

/// How many lines have all of these in them.
pub(crate) fn count(parts: &[&str]) -> usize {
    let said = SAID.lock().unwrap();
    said.iter()
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .count()
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
