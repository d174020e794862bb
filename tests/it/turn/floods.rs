//! More inputs at once than wait for a session: what asks for a look is looked at once, and nobody is refused.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::{join, join_all};
use harness::bus::{CallFuture, Invocation, Transport, Write};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Rig, run};
use crate::support::pass_on::pass_on_to;
use crate::support::stub::calls_then_ends;
use crate::support::timed::settle;
use crate::support::{TestBus, TestOptions};

/// More than the mailbox of a session takes.
const MANY: usize = 100;

const LOOK: &str = "turn::function_awaiting_approval";

/// The answer to a look that was made.
fn looked() -> Value {
    let state = "function_awaiting_approval";
    json!({ "ok": true, "from_state": state, "to_state": state })
}

/// Holds the reads of turn records while its door is shut.
struct Holding {
    inner: Arc<dyn Transport>,
    shut: watch::Receiver<bool>,
}

impl Transport for Holding {
    pass_on_to!(inner);

    fn call(&self, invocation: Invocation) -> CallFuture {
        if invocation.function_id != "state::get" || invocation.payload["scope"] != "turn_state" {
            return self.inner.call(invocation);
        }
        let (inner, mut shut) = (Arc::clone(&self.inner), self.shut.clone());
        async move {
            shut.wait_for(|shut| !shut).await.unwrap();
            inner.call(invocation).await
        }
        .boxed()
    }

    fn commit(&self, writes: Vec<Write>) -> CallFuture<()> {
        self.inner.commit(writes)
    }

    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive()
    }
}

/// A session with a parked call; its record is not read from now on, until the door opens.
async fn parked() -> (Rig, watch::Sender<bool>) {
    let (door, shut) = watch::channel(false);
    let options = TestOptions {
        rules: Some("rules: []"),
        wrap: Box::new(move |inner| Arc::new(Holding { inner, shut })),
        ..TestOptions::default()
    };
    let rig = Rig::new(options, calls_then_ends(vec![("A", "f", json!({}))])).await;
    rig.t.record("f", json!({}));
    rig.start("s1").await;
    // At rest a look is made at once, and finds nothing to do.
    let session = json!({ "session_id": "s1" });
    rig.t
        .eventually(async || (rig.t.ok(LOOK, session.clone()).await == looked()).then_some(()))
        .await;
    door.send_replace(true);
    (rig, door)
}

/// Calls many times at once, and opens the door once nothing more happens.
async fn flood(t: &TestBus, door: &watch::Sender<bool>, id: &str) -> Vec<Value> {
    let calls = join_all((0..MANY).map(|_| t.ok(id, json!({ "session_id": "s1" }))));
    let opening = async {
        settle().await;
        door.send_replace(false);
    };
    join(calls, opening).await.0
}

#[tokio::test]
async fn many_changes_of_settings_make_no_session_busy() {
    let (rig, door) = parked().await;
    for _ in 0..MANY {
        // Neither releases the call that waits.
        let mode = json!({ "session_id": "s1", "mode": "auto" });
        rig.t.ok("approval::set_mode", mode).await;
        let other = json!({ "session_id": "s1", "function_id": "g" });
        rig.t.ok("approval::approve_always", other).await;
    }
    let opening = async {
        settle().await;
        door.send_replace(false);
    };
    let (answer, ()) = join(rig.t.call("run::start", run("s1")), opening).await;
    let busy = json!({ "session_id": "s1", "started": false, "reason": "session_busy" });
    assert_eq!(answer, Ok(busy));
    rig.decide("s1", "A", "allow", None).await;
    rig.t.ended("s1", 1).await;
    rig.t.stop().await;
}

#[tokio::test]
async fn of_many_wakes_one_is_a_step() {
    let (rig, door) = parked().await;
    let answers = flood(&rig.t, &door, "turn::function_awaiting_approval").await;
    let skipped = json!({ "ok": true, "skipped": true, "reason": "running" });
    let done: Vec<&Value> = answers.iter().filter(|answer| **answer != skipped).collect();
    let state = "function_awaiting_approval";
    assert_eq!(
        done,
        [&json!({ "ok": true, "from_state": state, "to_state": state })]
    );
    rig.t.stop().await;
}

#[tokio::test]
async fn many_stops_are_one_stop_that_all_hear_of() {
    let (rig, door) = parked().await;
    let answers = flood(&rig.t, &door, "run::abort").await;
    let heard = json!({ "session_id": "s1", "aborted": true, "state": "function_awaiting_approval" });
    assert_eq!(answers, vec![heard; MANY]);
    assert_eq!(rig.t.ended("s1", 1).await.last().unwrap()["type"], "agent_end");
    rig.t.stop().await;
}
