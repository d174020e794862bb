//! Parts of the turn machine that panic: no session stays as it was left (field lesson D11).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::bus::{CallFuture, Invocation, Transport, Write};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, of_type, said, user};
use crate::support::pass_on::pass_on_to;
use crate::support::spy::Spy;
use crate::support::stub::says;
use crate::support::{TestBus, TestOptions};

/// Reads of a record, and commits of one in this state, that panic so many times.
#[derive(Clone, Default)]
struct Panics {
    reads: Arc<AtomicUsize>,
    commits: Arc<AtomicUsize>,
}

impl Panics {
    fn options(&self) -> TestOptions {
        let panics = self.clone();
        TestOptions {
            wrap: Box::new(move |inner| Arc::new(Panicking { inner, panics })),
            rules: Some("rules: ['*']"),
            ..TestOptions::default()
        }
    }
}

struct Panicking {
    inner: Arc<dyn Transport>,
    panics: Panics,
}

fn panic_while(left: &AtomicUsize) {
    let next = |left: usize| left.checked_sub(1);
    assert!(
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next)
            .is_err(),
        "asked for by a test"
    );
}

impl Transport for Panicking {
    pass_on_to!(inner);

    fn call(&self, invocation: Invocation) -> CallFuture {
        if invocation.function_id == "state::get" && invocation.payload["scope"] == "turn_state" {
            panic_while(&self.panics.reads);
        }
        self.inner.call(invocation)
    }

    fn commit(&self, writes: Vec<Write>) -> CallFuture<()> {
        let is_end = |write: &Write| matches!(write, Write::StateSet { scope, value, .. } if scope == "turn_state" && value["state"] == "stopped");
        if writes.iter().any(is_end) {
            panic_while(&self.panics.commits);
        }
        self.inner.commit(writes)
    }

    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive()
    }
}

/// A run that was accepted, with nobody at work on it.
async fn accepted(t: &TestBus) {
    let append = json!({ "session_id": "s1", "message": user("hi") });
    t.ok("session-tree::append", append).await;
    t.set_state("run_request", "s1", json!({ "provider": "stub", "model": "m" }))
        .await;
    let record = json!({ "session_id": "s1", "state": "provisioning", "turn_count": 0, "run_id": "r",
        "updated_at_ms": t.bus().now_ms() });
    t.set_state("turn_state", "s1", record).await;
}

async fn wake(t: &TestBus) {
    let event = json!({ "event_type": "state:created", "scope": "approvals", "key": "s1/x",
        "new_value": { "decision": "allow" } });
    t.ok("turn::on_approval", event).await;
}

async fn ends_well(rig: &Rig) {
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(of_type(&events, "agent_end").len(), 1);
    assert_eq!(events.last().unwrap()["type"], "agent_end");
    let transcript: Vec<String> = rig.transcript("s1").await.iter().map(said).collect();
    assert_eq!(transcript, ["user hi", "assistant ok"]);
}

/// Moves timers on while nothing is under way.
async fn later() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn an_actor_that_panics_goes_on_from_what_is_stored() {
    let panics = Panics::default();
    let rig = Rig::new(panics.options(), |_, _| says(&["ok"])).await;
    accepted(&rig.t).await;
    panics.reads.store(2, Ordering::SeqCst);
    wake(&rig.t).await;
    ends_well(&rig).await;
    assert_eq!(panics.reads.load(Ordering::SeqCst), 0);
    rig.t.stop().await;
}

#[tokio::test]
async fn an_actor_that_panics_and_panics_rests_and_tries_again() {
    let panics = Panics::default();
    let rig = Rig::new(panics.options(), |_, _| says(&["ok"])).await;
    accepted(&rig.t).await;
    // Once, five times more, and once as it gives up.
    panics.reads.store(7, Ordering::SeqCst);
    wake(&rig.t).await;
    rig.t
        .eventually(async || (panics.reads.load(Ordering::SeqCst) == 0).then_some(()))
        .await;
    assert_eq!(rig.record("s1").await["state"], "provisioning");
    later().await;
    ends_well(&rig).await;
    rig.t.stop().await;
}

/// What numbers and stores the events has a task of its own.
#[tokio::test]
async fn a_commit_that_panics_is_made_again() {
    let panics = Panics::default();
    let rig = Rig::new(panics.options(), |_, _| says(&["ok"])).await;
    panics.commits.store(2, Ordering::SeqCst);
    rig.start("s1").await;
    ends_well(&rig).await;
    assert_eq!(panics.commits.load(Ordering::SeqCst), 0);
    assert_eq!(rig.stub.requests().len(), 1);
    rig.t.stop().await;
}

/// Who asks for a run of a session that nobody has in hand makes it go on.
#[tokio::test]
async fn a_session_that_was_left_open_is_looked_at_after_a_busy_answer() {
    let spy = Spy::default();
    let options = TestOptions {
        wrap: spy.wrap(),
        ..TestOptions::default()
    };
    let rig = Rig::new(options, |_, _| says(&["ok"])).await;
    // The second look for open sessions, the last one on an engine of our own, comes before.
    let looks = || {
        let is_look = |call: &&(String, Value)| call.0 == "state::list" && call.1 == "turn_state";
        spy.calls().iter().filter(is_look).count()
    };
    let before = looks();
    for _ in 0..100 {
        if looks() == before {
            later().await;
            assert_eq!(rig.record("s1").await, Value::Null);
        }
    }
    assert_eq!(looks(), before + 1);
    accepted(&rig.t).await;
    let busy = json!({ "session_id": "s1", "started": false, "reason": "session_busy" });
    for _ in 0..3 {
        assert_eq!(rig.start("s1").await, busy);
    }
    assert_eq!(rig.record("s1").await["state"], "provisioning");
    later().await;
    ends_well(&rig).await;
    rig.t.stop().await;
}
