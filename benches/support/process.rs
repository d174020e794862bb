//! The process and its arguments.

use std::time::Duration;

/// The middle one of some figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Processor time this process has used so far.
pub(crate) fn cpu_time() -> Duration {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Duration::from_secs_f64(ticks / TICKS_PER_SECOND)
}

/// Whether an argument was given; without any argument everything is wanted. `cargo bench` adds `--bench`.
pub(crate) fn wanted(part: &str) -> bool {
    let mut parts = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .peekable();
    parts.peek().is_none() || parts.any(|asked| asked == part)
}
