//! What a check against 1,000 rules costs.
//!
//! `cargo bench --bench policy`. Half of the rules are for exact ids, half have a `*`; every other one has a pattern on an
//! argument. The call fits the first rule, the last one, or none; its arguments are 1 KB or 100 KB, a text that the pattern
//! of the deciding rule has to search to its end. Beside it stands that search alone, without which no check can do, and the
//! same check as a call over the bus, with its JSON.

#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to say")]

#[path = "support/figures.rs"]
mod figures;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use harness::bus::embedded::{Embedded, EmbeddedOptions};
use harness::bus::{Bus, CallContext, CallOptions, Ports};
use harness::clock::SystemClock;
use harness::config::{Config, MapEnv};
use harness::ids::RandomIds;
use harness::model::api::approval::Verdict;
use harness::rules::RuleSet;
use harness::telemetry::Metrics;
use harness::workers::harness as worker;
use serde_json::{Map, Value, json};

use figures::{Samples, say, say_load};

const RULES: usize = 1_000;
const ROUNDS: usize = 60;
const CHECKS: u32 = 500;

/// Found at the end of the text only.
const PATTERN: &str = "(?:rm|mv) -[a-z]*f";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    say_load("before");
    let text = file();
    let rules = RuleSet::parse(&text).expect("rules");
    assert_eq!(rules.len(), RULES);
    let pattern = regex::Regex::new(PATTERN).expect("a pattern");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("rules.yaml");
    std::fs::write(&path, &text).expect("a file");
    let bus = runtime.block_on(bus(Config {
        permissions_path: path,
        ..Config::default()
    }));
    say("| rule that fits | arguments | check | search alone | over the bus |");
    say("|---|---|---|---|---|");
    for bytes in [1_000, 100_000] {
        let command = format!("{} -rf", "x ".repeat(bytes / 2) + "rm");
        let args = Map::from_iter([("command".to_owned(), Value::from(command.as_str()))]);
        let search = measured(|| {
            black_box(pattern.is_match(black_box(&command)));
        });
        // The last by a `*`: all others with one are looked at before.
        for (name, function) in [
            ("first", "work0::run"),
            ("last", "shell::exec"),
            ("none", "nobody::knows"),
        ] {
            let verdict = rules.check(function, &args);
            assert_eq!(matches!(verdict, Verdict::Deny { .. }), name != "none");
            let check = measured(|| {
                black_box(rules.check(black_box(function), black_box(&args)));
            });
            let request = json!({ "function_id": function, "args": args });
            let over_bus = runtime.block_on(called(&bus, &request));
            let search = if name == "none" {
                "none".to_owned()
            } else {
                shown(&search)
            };
            say(format!(
                "| {name} | {bytes} bytes | {} | {search} | {} |",
                shown(&check),
                shown(&over_bus)
            ));
        }
    }
    runtime.block_on(bus.shutdown(Duration::from_secs(5)));
    say_load("after");
}

/// 1,000 denials that differ, the last one for everything below `shell::`.
fn file() -> String {
    let rule = |function: String, is_searching: bool| {
        let args = if is_searching {
            json!({ "command": { "matches": PATTERN } })
        } else {
            json!({})
        };
        json!({ "function": function, "action": "deny", "args": args })
    };
    let rules = (0..RULES).map(|n| match n {
        0 => rule("work0::run".into(), true),
        n if n == RULES - 1 => rule("shell::*".into(), true),
        n if n % 2 == 0 => rule(format!("work{n}::run"), n % 4 == 0),
        n => rule(format!("work{n}::*"), n % 4 == 1),
    });
    json!({ "rules": rules.collect::<Vec<_>>() }).to_string()
}

async fn bus(config: Config) -> Bus {
    let ports = Ports {
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        env: Arc::new(MapEnv(std::collections::HashMap::new())),
        config: Arc::new(ArcSwap::from_pointee(config)),
        metrics: Metrics::new(),
    };
    let bus = Bus::new(
        ports,
        Embedded::open(EmbeddedOptions::default()).expect("an engine"),
    );
    bus.host(vec![worker::worker()]).await.expect("hosted");
    bus
}

fn measured(work: impl Fn()) -> Samples {
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..CHECKS {
            work();
        }
        samples.push(began.elapsed() / CHECKS);
    }
    samples
}

async fn called(bus: &Bus, request: &Value) -> Samples {
    let context = CallContext::default();
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..CHECKS {
            let call = bus.invoke(
                &context,
                "policy::check_permissions",
                request.clone(),
                CallOptions::default(),
            );
            black_box(call.await).expect("answered");
        }
        samples.push(began.elapsed() / CHECKS);
    }
    samples
}

fn shown(samples: &Samples) -> String {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    format!(
        "{:.2} µs (p90 {:.2})",
        us(samples.median()),
        us(samples.quantile(90))
    )
}
