//! What comes at an awkward moment, and what must not come at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::bus::StreamItem;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, of_type, said, user};
use crate::support::engine::within;
use crate::support::stub::{calls_then_ends, says};

/// A step that changes nothing saves nothing that anybody sees, and hands on to nobody.
#[tokio::test]
async fn c02_case_43_a_step_that_changes_nothing_is_silent() {
    let rig = Rig::asking(calls_then_ends(vec![("A", "ask", json!({}))])).await;
    rig.start("s1").await;
    rig.t.reaches("s1", "function_awaiting_approval").await;
    let (events, record) = (rig.t.events("s1").await, rig.record("s1").await);
    for _ in 0..3 {
        let reply = rig
            .t
            .ok("turn::function_awaiting_approval", json!({ "session_id": "s1" }))
            .await;
        // Also `running`, while the step before it looks at the decisions.
        assert_eq!(reply["ok"], true);
    }
    assert_eq!(rig.t.events("s1").await, events);
    assert_eq!(rig.record("s1").await, record);
    assert_eq!(rig.stub.requests().len(), 1);
    rig.t.stop().await;
}

/// Field lesson: a message that arrives as the run ends joins it or is there for the next one.
#[tokio::test]
async fn d8_a_message_at_any_moment_is_taken_once() {
    let rig = Rig::allowing(|_, _| says(&["a", "b"])).await;
    rig.t.reconfigure(|config| config.events.coalesce_ms = 0);
    let (sender, mut shown) = tokio::sync::mpsc::channel(1024);
    let (at, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (when, count) = (Arc::clone(&at), Arc::clone(&seen));
    rig.t.bus().tap_stream(
        "agent::events",
        Arc::new(move |_: &StreamItem| {
            if count.fetch_add(1, Ordering::SeqCst) == when.load(Ordering::SeqCst) {
                sender.try_send(()).unwrap();
            }
        }),
    );
    let length = rig.run("s0").await.len();
    shown.recv().await.unwrap();
    for n in 0..length {
        let session = format!("n{n}");
        seen.store(0, Ordering::SeqCst);
        at.store(n, Ordering::SeqCst);
        let steer = async {
            within(shown.recv()).await.unwrap();
            let push = json!({ "name": "steering", "session_id": session, "item": user("wait") });
            rig.t.ok("session-inbox::push", push).await;
        };
        futures::join!(rig.start(&session), steer);
        rig.t.ended(&session, 1).await;
        at.store(usize::MAX, Ordering::SeqCst);
        rig.t
            .eventually(async || (rig.start(&session).await["started"] == true).then_some(()))
            .await;
        rig.t.ended(&session, 2).await;
        let transcript: Vec<String> = rig.transcript(&session).await.iter().map(said).collect();
        let taken = transcript.iter().filter(|line| *line == "user wait").count();
        assert_eq!(taken, 1, "at event {n}: {transcript:?}");
        assert_eq!(transcript.last().unwrap(), "assistant ab", "at event {n}");
    }
    rig.t.stop().await;
}

/// Field lesson: a session that hangs holds back no other one.
#[tokio::test]
async fn d11_a_stuck_session_blocks_nobody() {
    let (rig, door) = Rig::held_up().await;
    rig.start("stuck").await;
    rig.stub.asked(&rig.t, 1).await;
    for n in 0..20 {
        let events = rig.run(&format!("s{n}")).await;
        let complete: Vec<&Value> = of_type(&events, "message_complete");
        assert_eq!(complete[0]["message"]["stop_reason"], "end");
    }
    assert_eq!(rig.record("stuck").await["state"], "assistant_streaming");
    door.open();
    rig.t.ended("stuck", 1).await;
    rig.t.stop().await;
}
