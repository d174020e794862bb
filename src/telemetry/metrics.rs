//! The process's own metrics. Labels are bounded: function ids, states, providers; never session ids.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};
use tokio_util::sync::CancellationToken;

/// Names of the metrics.
pub mod name {
    /// Counter: calls handled, by `function`, `route` (`local`, `engine`) and `outcome`.
    pub const FUNCTION_CALLS_TOTAL: &str = "harness_function_calls_total";
    /// Histogram, seconds: time in a handler, by `function` and `route`.
    pub const FUNCTION_DURATION_SECONDS: &str = "harness_function_duration_seconds";
    /// Counter: steps of turns, by `to`.
    pub const TURN_TRANSITIONS_TOTAL: &str = "harness_turn_transitions_total";
    /// Histogram, seconds: time of a turn minus its provider and function time.
    pub const TURN_OVERHEAD_SECONDS: &str = "harness_turn_overhead_seconds";
    /// Counter: tokens, by `provider` and `kind`.
    pub const PROVIDER_TOKENS_TOTAL: &str = "harness_provider_tokens_total";
    /// Counter: failed model calls, by `provider` and `kind`.
    pub const PROVIDER_ERRORS_TOTAL: &str = "harness_provider_errors_total";
    /// Counter: round trips to an engine elsewhere that something waited for; writes that go out together count as one.
    pub const ENGINE_ROUND_TRIPS_TOTAL: &str = "harness_engine_round_trips_total";
    /// Counter: pages fetched for agents, by `outcome`: the class of the status, or the code of the failure.
    pub const WEB_FETCHES_TOTAL: &str = "harness_web_fetches_total";
    /// Gauge: 1 while the engine is reachable, else 0.
    pub const BUS_CONNECTED: &str = "harness_bus_connected";
}

/// Upper bounds in seconds, from an in-process call (µs) to a long turn (minutes).
const SECONDS: [f64; 19] = [
    2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 120.0,
    600.0,
];

/// How often histograms are emptied into their buckets. Between two of these, each sample takes memory.
const UPKEEP: Duration = Duration::from_secs(5);

static METADATA: Metadata<'static> = Metadata::new("harness", Level::INFO, None);

/// Handle on the recorder; a cheap clone. Fetching a metric is a hash lookup: keep the handle where it is hot.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<PrometheusRecorder>);

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty recorder.
    pub fn new() -> Self {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
            // Only an empty list is refused.
            .unwrap_or_default();
        Self(Arc::new(builder.build_recorder()))
    }

    /// The counter of this name and these labels.
    pub fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.0.register_counter(&key(name, labels), &METADATA)
    }

    /// The gauge of this name and these labels.
    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.0.register_gauge(&key(name, labels), &METADATA)
    }

    /// The histogram of this name and these labels; names that end in `_seconds` have buckets from µs to minutes.
    pub fn histogram(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Histogram {
        self.0.register_histogram(&key(name, labels), &METADATA)
    }

    /// Everything in the Prometheus text format.
    pub fn render(&self) -> String {
        self.0.handle().render()
    }

    /// Empties histograms into their buckets until told to stop. Needs to run even if nobody asks for `/metrics`.
    pub async fn keep_up(self, shutdown: CancellationToken) {
        let handle = self.0.handle();
        while shutdown
            .run_until_cancelled(tokio::time::sleep(UPKEEP))
            .await
            .is_some()
        {
            handle.run_upkeep();
        }
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels = labels
        .iter()
        .map(|(label, value)| Label::new(*label, (*value).to_owned()));
    Key::from_parts(name, labels.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_rendered() {
        let metrics = Metrics::new();
        metrics
            .counter(
                name::FUNCTION_CALLS_TOTAL,
                &[("function", "budget::check"), ("route", "local")],
            )
            .increment(2);
        metrics.gauge(name::BUS_CONNECTED, &[]).set(1.0);
        metrics.histogram(name::TURN_OVERHEAD_SECONDS, &[]).record(3e-6);
        let text = metrics.render();
        for line in [
            "harness_function_calls_total{function=\"budget::check\",route=\"local\"} 2",
            "harness_bus_connected 1",
            "harness_turn_overhead_seconds_bucket{le=\"0.000002\"} 0",
            "harness_turn_overhead_seconds_bucket{le=\"0.000005\"} 1",
            "harness_turn_overhead_seconds_count 1",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
        assert!(
            !Metrics::new().render().contains("harness_"),
            "recorders are separate"
        );
    }
}
