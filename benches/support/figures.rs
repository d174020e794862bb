//! Samples, and how figures are printed.

/// The program's own: figures are of what users run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::io::Write;
use std::time::Duration;

/// Samples of one thing.
#[derive(Debug, Default)]
pub(crate) struct Samples(pub(crate) Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// The value below which so many of a hundred samples lie.
    pub(crate) fn quantile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (sorted.len().saturating_sub(1) * percent + 50) / 100;
        sorted.get(place).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.quantile(50)
    }
}

/// Prints a line.
pub(crate) fn say(line: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    // Nobody reads a closed pipe.
    writeln!(out, "{}", line.as_ref()).ok();
}

/// Says how busy the machine was: figures of a busy one are not worth much.
pub(crate) fn say_load(when: &str) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    say(format!("load {when}: {}", load.trim()));
}
