//! Contract 00 §10 on the embedded engine: `cron`. Time is paused and leaps to the next timer.

use std::time::Duration;

use harness::bus::embedded::EmbeddedOptions;
use harness::config::MapEnv;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::engine::Engine;
use crate::support::timed::timed_engine;

// The clock starts at 2026-05-28T20:26:40Z.
fn at(seconds: u32) -> String {
    let seconds = 40 + seconds;
    format!("2026-05-28T20:{:02}:{:02}Z", 26 + seconds / 60, seconds % 60)
}

fn payload(job: &str, seconds: u32) -> Value {
    json!({"trigger": "cron", "job_id": job, "scheduled_time": at(seconds), "actual_time": at(seconds)})
}

async fn engine() -> Engine {
    timed_engine(EmbeddedOptions::default(), MapEnv::default()).await
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_at_its_times_with_its_metadata() {
    let engine = engine().await;
    let mut calls = engine.record("t::f");
    let config = json!({"expression": "*/15 * * * * *"});
    engine
        .bind_with("job", "cron", "t::f", config, Some(json!({"m": 1})))
        .await
        .unwrap();
    for seconds in [5, 20, 35, 50] {
        let (seen, context) = calls.next_with_context().await;
        assert_eq!(seen, payload("job", seconds));
        assert_eq!(context.metadata.as_deref(), Some(&json!({"m": 1})));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_skips_runs_and_a_hanging_one_does_not_stop_the_job() {
    let engine = engine().await;
    let (sender, mut calls) = mpsc::channel(10);
    engine.serve("t::slow", move |payload, _| {
        let sent = sender.try_send(payload["scheduled_time"].clone());
        async move {
            match sent {
                Ok(()) => tokio::time::sleep(Duration::from_secs(12)).await,
                Err(_) => std::future::pending().await,
            }
            Ok(Value::Null)
        }
    });
    let (sender, mut hung) = mpsc::channel(10);
    engine.serve("t::hangs", move |payload, _| {
        sender.try_send(payload["scheduled_time"].clone()).unwrap();
        std::future::pending()
    });
    for function in ["t::slow", "t::hangs"] {
        engine
            .bind(function, "cron", function, json!({"expression": "*/5 * * * * *"}))
            .await
            .unwrap();
    }
    for seconds in [5, 20, 35] {
        assert_eq!(calls.recv().await, Some(json!(at(seconds))));
    }
    for seconds in [5, 40, 75] {
        assert_eq!(hung.recv().await, Some(json!(at(seconds))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_far_run_is_waited_for_in_steps_and_a_job_without_runs_ends() {
    let engine = engine().await;
    let (sender, mut calls) = mpsc::channel(10);
    engine.serve("t::f", move |payload, _| {
        sender.try_send(payload).unwrap();
        std::future::ready(Ok(Value::Null))
    });
    engine
        .bind("far", "cron", "t::f", json!({"expression": "0 29 20 * * *"}))
        .await
        .unwrap();
    assert_eq!(calls.recv().await, Some(payload("far", 140)));
    engine
        .bind("past", "cron", "t::f", json!({"expression": "0 0 0 1 1 * 2020"}))
        .await
        .unwrap();
    tokio::time::advance(Duration::from_hours(1)).await;
    assert!(calls.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_condition_blocks_a_replaced_job_is_replaced_and_an_unbound_one_ends() {
    let engine = engine().await;
    engine.serve("t::no", |_, _| std::future::ready(Ok(json!(false))));
    let blocked = engine.record("t::blocked");
    let condition = json!({"expression": "* * * * * *", "condition_function_id": "t::no"});
    engine
        .bind("blocked", "cron", "t::blocked", condition)
        .await
        .unwrap();
    let old = engine.record("t::old");
    engine
        .bind("job", "cron", "t::old", json!({"expression": "* * * * * *"}))
        .await
        .unwrap();
    let mut new = engine.record("t::new");
    engine
        .bind("job", "cron", "t::new", json!({"expression": "*/10 * * * * *"}))
        .await
        .unwrap();
    assert_eq!(new.next().await, payload("job", 10));
    assert!(engine.embedded.unbind("job"));
    let mut other = engine
        .watch("t::other", "cron", json!({"expression": "*/10 * * * * *"}))
        .await;
    assert_eq!(other.next().await, payload("t::other", 20));
    assert_eq!(other.next().await, payload("t::other", 30));
    assert!(blocked.is_empty() && old.is_empty() && new.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_job_ends_with_the_process() {
    let engine = engine().await;
    engine
        .bind("job", "cron", "t::f", json!({"expression": "0 0 0 1 1 *"}))
        .await
        .unwrap();
    assert!(engine.bus.shutdown(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_expression_is_refused() {
    let engine = engine().await;
    for (config, text) in [
        (json!({}), "config: expression is required"),
        (
            json!({"expression": "* * * * *"}),
            "Invalid cron expression '* * * * *': 5 fields, expected 6 or 7 (seconds first)",
        ),
    ] {
        let error = engine.bind("b", "cron", "t::f", config).await.unwrap_err();
        assert_eq!(
            (error.wire_code(), error.to_string().as_str()),
            ("trigger_registration_failed", text)
        );
    }
}
