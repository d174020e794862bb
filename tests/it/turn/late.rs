//! After a restart workers come back one by one, and later than the sessions that need them (field lesson D4). The program is
//! on an engine elsewhere.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{of_type, run, user};
use crate::support::spy::{Op, Spy};
use crate::support::stub::{Stub, message, says};
use crate::support::way::Way;
use crate::support::{TestBus, TestOptions};

/// The next life of a program that died with this record.
struct Next {
    t: TestBus,
    spy: Spy,
    _dir: TempDir,
}

impl Next {
    async fn of(record: Value) -> Self {
        let dir = TempDir::new().unwrap();
        let options = || TestOptions {
            rules: Some("rules: ['*']"),
            data_dir: Some(dir.path().join("data")),
            workers: harness::workers::all()
                .into_iter()
                .filter(|worker| worker.name != "context-compaction")
                .collect(),
            ..TestOptions::default()
        };
        let last = TestBus::with(options()).await;
        let hi = json!({ "session_id": "s1", "message": user("hi") });
        last.ok("session-tree::append", hi).await;
        let model = json!({ "id": "m", "provider": "stub", "context_window": 10, "max_output_tokens": 5 });
        last.ok("models::register", model).await;
        last.set_state("run_request", "s1", json!({ "provider": "stub", "model": "m" }))
            .await;
        last.set_state("turn_state", "s1", record).await;
        last.stop().await;
        let spy = Spy::default();
        let mut options = TestOptions {
            way: Way::Connect,
            wrap: spy.wrap(),
            ..options()
        };
        options.config.compaction.auto = false;
        let t = TestBus::with(options).await;
        Self { t, spy, _dir: dir }
    }

    /// Waits until a function has been asked for in vain, and is again.
    async fn looks_for(&self, function: &str) {
        let times = || self.spy.calls().iter().filter(|(id, _)| id == function).count();
        self.t.eventually(async || (times() >= 2).then_some(())).await;
    }

    async fn ends_well(self) {
        let events = self.t.ended("s1", 1).await;
        let last = of_type(&events, "message_complete").pop().unwrap();
        assert_eq!(
            (
                &last["message"]["stop_reason"],
                &last["message"]["content"][0]["text"]
            ),
            (&json!("end"), &json!("here")),
            "{events:#?}"
        );
        self.t.stop().await;
    }
}

fn asking() -> Value {
    json!({ "session_id": "s1", "state": "assistant_streaming", "turn_count": 0, "run_id": "r" })
}

#[tokio::test]
async fn d4_a_call_waits_for_its_worker() {
    let call = json!({ "route": "dispatch", "call": { "id": "A", "function_id": "far::f", "arguments": { "x": 1 } } });
    let next = Next::of(json!({
        "session_id": "s1", "state": "function_execute", "turn_count": 1, "awaiting_approval": [], "run_id": "r",
        "last_assistant": message(json!([]), "function_call"), "work": { "prepared": [call], "executed": {} },
    }))
    .await;
    let _stub = Stub::register(&next.t, |_, _| says(&["here"]));
    next.looks_for("far::f").await;
    let target = next.t.record("far::f", json!({ "ok": true }));
    let events = next.t.ended("s1", 1).await;
    let end = of_type(&events, "function_execution_end")[0];
    assert_eq!(end["result"]["details"], json!({ "ok": true }));
    assert_eq!(target.all(), [json!({ "x": 1 })]);
    next.ends_well().await;
}

#[tokio::test]
async fn d4_a_model_call_waits_for_its_provider() {
    let next = Next::of(asking()).await;
    next.looks_for("engine::functions::info").await;
    // It says that it exists before its function is there.
    next.t
        .ok("harness::provider::register", json!({ "id": "stub" }))
        .await;
    next.looks_for("provider::stub::stream").await;
    let stub = Stub::register(&next.t, |_, _| says(&["here"]));
    stub.asked(&next.t, 1).await;
    next.ends_well().await;
}

#[tokio::test]
async fn d4_a_conversation_that_does_not_fit_waits_for_the_compaction_worker() {
    let next = Next::of(asking()).await;
    next.t.reconfigure(|config| config.compaction.auto = true);
    let stub = Stub::register(&next.t, |_, _| says(&["here"]));
    next.looks_for("context-compaction::compact_now").await;
    let compact = next
        .t
        .record("context-compaction::compact_now", json!({ "status": "ok" }));
    stub.asked(&next.t, 1).await;
    assert_eq!((compact.count(), stub.requests().len()), (1, 1));
    next.ends_well().await;
}

/// What cannot be looked up now may exist.
#[tokio::test]
async fn a_lookup_that_fails_is_no_unknown_provider() {
    const REFUSALS: usize = 7;
    let spy = Spy::default();
    let mut options = TestOptions {
        way: Way::Listener,
        wrap: spy.wrap(),
        ..TestOptions::default()
    };
    options.config.turn.step_retries = 20;
    let t = TestBus::with(options).await;
    let _stub = Stub::register(&t, |_, _| says(&["here"]));
    let mut left = REFUSALS;
    spy.fail_when(move |op| {
        let Op::Call(call) = op else { return false };
        let fails = call.function_id.as_str() == "engine::functions::info" && left > 0;
        left -= usize::from(fails);
        fails
    });
    t.ok("run::start", run("s1")).await;
    let events = t.ended("s1", 1).await;
    let last = of_type(&events, "message_complete").pop().unwrap();
    assert_eq!(last["message"]["content"][0]["text"], "here");
    t.stop().await;
}
