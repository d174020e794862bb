//! Counters of finished turns. Labels are bounded: provider, and a closed set of kinds.

use crate::bus::Ports;
use crate::model::{AssistantMessage, ErrorKind};
use crate::telemetry::name;

/// Counts a finished turn.
pub(super) fn record(ports: &Ports, provider: &'static str, message: &AssistantMessage) {
    let add = |name: &'static str, kind: &'static str, amount: u64| {
        let labels = [("provider", provider), ("kind", kind)];
        ports.metrics.counter(name, &labels).increment(amount);
    };
    if let Some(usage) = &message.usage {
        let counts = [
            ("input", usage.input),
            ("output", usage.output),
            ("cache_read", usage.cache_read),
            ("cache_write", usage.cache_write),
        ];
        for (kind, count) in counts {
            if let Some(count) = count.filter(|count| *count > 0) {
                add(name::PROVIDER_TOKENS_TOTAL, kind, count);
            }
        }
    }
    if let Some(kind) = message.error_kind {
        add(name::PROVIDER_ERRORS_TOTAL, error_label(message, kind), 1);
    }
}

fn error_label(message: &AssistantMessage, kind: ErrorKind) -> &'static str {
    if message.stop_reason == crate::model::StopReason::Aborted {
        return "aborted";
    }
    match kind {
        ErrorKind::AuthExpired => "auth_expired",
        ErrorKind::RateLimited => "rate_limited",
        ErrorKind::ContextOverflow => "context_overflow",
        ErrorKind::Transient => "transient",
        ErrorKind::Permanent => "permanent",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::{Config, MapEnv};
    use crate::ids::CountedIds;
    use crate::model::{StopReason, Usage};
    use crate::telemetry::Metrics;

    #[test]
    fn tokens_and_errors_are_counted() {
        let metrics = Metrics::new();
        let ports = Ports {
            clock: Arc::new(ManualClock::at(0)),
            ids: Arc::new(CountedIds::default()),
            env: Arc::new(MapEnv::default()),
            config: Arc::new(ArcSwap::from_pointee(Config::default())),
            metrics: metrics.clone(),
        };
        let mut message = AssistantMessage::empty("openai", "m", 0);
        message.usage = Some(Usage {
            input: Some(10),
            output: Some(3),
            cache_read: Some(0),
            ..Usage::default()
        });
        record(&ports, "openai", &message);
        message.stop_reason = StopReason::Error;
        message.error_kind = Some(ErrorKind::RateLimited);
        record(&ports, "openai", &message);
        message.stop_reason = StopReason::Aborted;
        record(&ports, "openai", &message);
        let text = metrics.render();
        let mut counted: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("harness_provider_"))
            .collect();
        counted.sort_unstable();
        assert_eq!(
            counted,
            [
                r#"harness_provider_errors_total{provider="openai",kind="aborted"} 1"#,
                r#"harness_provider_errors_total{provider="openai",kind="rate_limited"} 1"#,
                r#"harness_provider_tokens_total{provider="openai",kind="input"} 30"#,
                r#"harness_provider_tokens_total{provider="openai",kind="output"} 9"#,
            ]
        );
    }
}
