//! `turn::steering_check` and the pre-flight check.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use harness::bus::{CallContext, CallOptions};
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, lines, of_type, run, said, user};
use crate::support::spy::Spy;
use crate::support::stub::{Door, Out, calls, says};
use crate::support::{TestOptions, three_ways};

three_ways! {
    c02_case_37_38_steering_goes_first_and_nothing_is_lost,
    c02_case_39_a_cap_on_turns_ends_the_run,
    what_waits_at_the_cap_stays_for_the_next_run,
    the_configured_cap_is_for_runs_that_name_none,
    c02_case_40_the_session_is_free_when_agent_end_arrives,
    c02_case_15_overflow_is_final,
    c02_case_15_not_needed_or_not_understood_goes_on,
    c02_5_2_a_compaction_that_fails_is_not_tried_again,
    c02_case_15_busy_is_a_passing_error,
    c02_case_15_an_unknown_model_is_not_compacted,
}

/// Holds the first turn until the test has filled the inboxes.
fn held_first(door: &Door) -> impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static {
    let door = door.clone();
    move |number, _| {
        if number == 0 {
            [vec![Out::Wait(door.clone())], says(&["one"])].concat()
        } else {
            says(&["next"])
        }
    }
}

async fn push(rig: &Rig, name: &str, text: &str) {
    let request = json!({ "name": name, "session_id": "s1", "item": user(text) });
    assert_eq!(rig.t.ok("session-inbox::push", request).await["ok"], true);
}

async fn inbox(rig: &Rig, name: &str) -> usize {
    let reply = rig
        .t
        .ok("session-inbox::peek", json!({ "name": name, "session_id": "s1" }))
        .await;
    reply["items"].as_array().unwrap().len()
}

async fn c02_case_37_38_steering_goes_first_and_nothing_is_lost() {
    let door = Door::closed();
    let rig = Rig::allowing(held_first(&door)).await;
    rig.start("s1").await;
    rig.t.reaches("s1", "assistant_streaming").await;
    push(&rig, "followup", "later").await;
    push(&rig, "steering", "first").await;
    push(&rig, "steering", "second").await;
    door.open();
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(
        rig.transcript("s1").await.iter().map(said).collect::<Vec<_>>(),
        [
            "user hi",
            "assistant one",
            "user first",
            "user second",
            "assistant next",
            "user later",
            "assistant next"
        ]
    );
    assert_eq!(
        (inbox(&rig, "steering").await, inbox(&rig, "followup").await),
        (0, 0)
    );
    let seen = lines(&events);
    let end = seen.iter().position(|line| line == "turn_end 0").unwrap();
    assert_eq!(seen[end + 1], "updated assistant_streaming");
    assert_eq!(of_type(&events, "turn_end").len(), 3);
    rig.t.stop().await;
}

async fn c02_case_39_a_cap_on_turns_ends_the_run() {
    let answer = |number: usize, _: &Value| calls(&[(if number == 0 { "A" } else { "B" }, "f", json!({}))]);
    for (cap, turns, text) in [(json!(2), 2, "2"), (json!(0), 1, "0"), (json!(-3), 1, "-3")] {
        let rig = Rig::allowing(answer).await;
        rig.t.record("f", json!({}));
        let mut request = run("s1");
        request["max_turns"] = cap;
        rig.t.ok("run::start", request).await;
        let events = rig.t.ended("s1", 1).await;
        assert_eq!(rig.stub.requests().len(), turns);
        let last = of_type(&events, "message_complete").pop().unwrap();
        assert_eq!(
            last["message"]["content"][0]["text"],
            format!("loop stopped: max_turns ({text}) reached")
        );
        assert_eq!(last["body_streamed"], false);
        assert_eq!(rig.transcript("s1").await.last().unwrap(), &last["message"]);
        assert_eq!(rig.record("s1").await["state"], "stopped");
        rig.t.stop().await;
    }
}

async fn what_waits_at_the_cap_stays_for_the_next_run() {
    let door = Door::closed();
    let rig = Rig::allowing(held_first(&door)).await;
    let mut request = run("s1");
    request["max_turns"] = json!(1);
    rig.t.ok("run::start", request).await;
    rig.t.reaches("s1", "assistant_streaming").await;
    push(&rig, "steering", "more").await;
    door.open();
    rig.t.ended("s1", 1).await;
    assert_eq!(inbox(&rig, "steering").await, 1);
    rig.start("s1").await;
    rig.t.ended("s1", 2).await;
    assert!(
        rig.transcript("s1")
            .await
            .iter()
            .map(said)
            .any(|line| line == "user more")
    );
    rig.t.stop().await;
}

async fn the_configured_cap_is_for_runs_that_name_none() {
    let mut options = TestOptions {
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    };
    options.config.turn.default_max_turns = Some(1);
    let rig = Rig::new(options, |_, _| calls(&[("A", "f", json!({}))])).await;
    rig.t.record("f", json!({}));
    rig.run("s1").await;
    assert_eq!(rig.stub.requests().len(), 1);
    rig.t.stop().await;
}

async fn c02_case_40_the_session_is_free_when_agent_end_arrives() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    let (sender, mut ends) = tokio::sync::mpsc::channel(64);
    rig.t.serve("ui::session::event::b", move |payload| {
        let sender = sender.clone();
        async move {
            if payload["event"]["type"] == "agent_end" {
                sender.send(()).await.ok();
            }
            Ok(Value::Null)
        }
    });
    rig.t
        .ok("ui::subscribe", json!({ "browser_id": "b", "session_id": "s1" }))
        .await;
    for _ in 0..20 {
        assert_eq!(rig.start("s1").await["started"], true);
        crate::support::engine::within(ends.recv()).await.unwrap();
    }
    let events = rig.t.ended("s1", 20).await;
    assert_eq!(of_type(&events, "agent_end").len(), 20);
    assert_eq!(of_type(&events, "turn_end").len(), 20);
    assert_eq!(events.last().unwrap()["type"], "agent_end");
    rig.t.stop().await;
}

async fn preflight(reply: Value) -> Rig {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    small_window(&rig).await;
    rig.t.reconfigure(|config| config.turn.step_retries = 1);
    rig.t.record("context-compaction::compact_now", reply);
    rig.start("s1").await;
    rig
}

async fn c02_case_15_overflow_is_final() {
    let rig = preflight(json!({ "status": "overflow", "message": "nothing to cut" })).await;
    rig.t.ended("s1", 1).await;
    assert_eq!(
        rig.record("s1").await["error"]["message"],
        "from assistant_streaming: session too large to compact: nothing to cut"
    );
    assert_eq!(rig.stub.requests().len(), 0);
    rig.t.stop().await;
}

/// A model whose window holds next to nothing.
async fn small_window(rig: &Rig) {
    let model = json!({ "id": "m", "provider": "stub", "context_window": 10, "max_output_tokens": 5 });
    rig.t.ok("models::register", model).await;
}

#[tokio::test]
async fn c02_case_15_compacted_once_and_read_again() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    small_window(&rig).await;
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (bus, calls) = (rig.t.bus().downgrade(), Arc::clone(&seen));
    rig.t.serve("context-compaction::compact_now", move |request| {
        let bus = bus.upgrade().unwrap();
        calls.lock().unwrap().push(request);
        async move {
            let append = json!({ "session_id": "s1", "message": user("in short") });
            let (context, options) = (CallContext::default(), CallOptions::default());
            bus.invoke(&context, "session-tree::append", append, options)
                .await?;
            Ok(json!({ "status": "ok" }))
        }
    });
    rig.run("s1").await;
    let rows = rig
        .t
        .ok("session-tree::messages", json!({ "session_id": "s1" }))
        .await;
    let mut calls = seen.lock().unwrap().clone();
    assert!(calls[0]["projected_tokens"].take().as_u64() > Some(10));
    let limit = json!({ "context": 10, "input": 10, "output": 5 });
    let expected = json!({
        "session_id": "s1", "projected_tokens": null, "last_user_message_id": rows["messages"][0]["entry_id"],
        "model": { "id": "m", "providerID": "stub", "limit": limit },
    });
    assert_eq!(calls, [expected]);
    let asked: Vec<Vec<String>> = rig
        .stub
        .requests()
        .iter()
        .map(|request| request["messages"].as_array().unwrap().iter().map(said).collect())
        .collect();
    assert_eq!(asked, [["user hi", "user in short"]]);
    rig.t.stop().await;
}

async fn c02_5_2_a_compaction_that_fails_is_not_tried_again() {
    let rig = Rig::allowing(|_, _| says(&["never"])).await;
    small_window(&rig).await;
    let away = Error::coded("invocation_stopped", "Invocation stopped");
    let compact = rig
        .t
        .record_with("context-compaction::compact_now", move |_| Err(away.clone()));
    rig.start("s1").await;
    rig.t.ended("s1", 1).await;
    assert_eq!((compact.count(), rig.stub.requests().len()), (1, 0));
    let error = rig.record("s1").await["error"]["message"].clone();
    let error = error.as_str().unwrap();
    assert!(
        error.starts_with("from assistant_streaming: ") && error.ends_with("Invocation stopped"),
        "{error}"
    );
    rig.t.stop().await;
}

/// A step that waits for a compaction reads the events of the session once, for what an earlier life may have streamed, and
/// a step of this life does not even do that.
#[tokio::test]
async fn a_step_that_is_repeated_does_not_read_all_events_again() {
    let spy = Spy::default();
    let options = TestOptions {
        wrap: spy.wrap(),
        ..TestOptions::default()
    };
    let rig = Rig::new(options, |_, _| says(&["ok"])).await;
    small_window(&rig).await;
    let busy = Arc::new(AtomicUsize::new(0));
    let times = Arc::clone(&busy);
    rig.t.record_with("context-compaction::compact_now", move |_| {
        let is_busy = times.fetch_add(1, Ordering::SeqCst) % 4 < 3;
        Ok(json!({ "status": if is_busy { "busy" } else { "empty" } }))
    });
    let lists = || spy.calls().iter().filter(|(id, _)| id == "stream::list").count();
    rig.start("s1").await;
    rig.stub.asked(&rig.t, 1).await;
    assert_eq!((busy.load(Ordering::SeqCst), lists()), (4, 0));
    rig.t.reaches("s1", "stopped").await;

    let record =
        json!({ "session_id": "s1", "state": "assistant_streaming", "turn_count": 0, "run_id": "r" });
    rig.t.set_state("turn_state", "s1", record).await;
    let event = json!({ "event_type": "state:created", "key": "s1/x", "new_value": { "decision": "allow" } });
    rig.t.ok("turn::on_approval", event).await;
    rig.stub.asked(&rig.t, 2).await;
    assert_eq!((busy.load(Ordering::SeqCst), lists()), (8, 1));
    rig.t.ended("s1", 2).await;
    rig.t.stop().await;
}

async fn c02_case_15_not_needed_or_not_understood_goes_on() {
    for reply in [
        json!({ "status": "empty" }),
        json!({ "status": "later word" }),
        json!({}),
    ] {
        let rig = preflight(reply.clone()).await;
        let events = rig.t.ended("s1", 1).await;
        assert_eq!(
            of_type(&events, "message_complete")[0]["message"]["stop_reason"],
            "end",
            "{reply}"
        );
        rig.t.stop().await;
    }
}

async fn c02_case_15_busy_is_a_passing_error() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    let model = json!({ "id": "m", "provider": "stub", "context_window": 10 });
    rig.t.ok("models::register", model).await;
    let compact = rig
        .t
        .record("context-compaction::compact_now", json!({ "status": "busy" }));
    rig.t
        .set_state("run_request", "s1", json!({ "provider": "stub", "model": "m" }))
        .await;
    rig.t
        .ok(
            "session-tree::append",
            json!({ "session_id": "s1", "message": user("hi") }),
        )
        .await;
    let record =
        json!({ "session_id": "s1", "state": "assistant_streaming", "turn_count": 0, "run_id": "r" });
    rig.t.set_state("turn_state", "s1", record.clone()).await;
    let message = rig
        .t
        .error("turn::assistant_streaming", json!({ "session_id": "s1" }))
        .await;
    assert_eq!(message, "compaction already in progress");
    assert_eq!(rig.record("s1").await, record);
    let request = compact.all().remove(0);
    assert_eq!(request["session_id"], "s1");
    assert_eq!(request["model"]["id"], "m");
    assert_eq!(request["model"]["providerID"], "stub");
    rig.t.stop().await;
}

async fn c02_case_15_an_unknown_model_is_not_compacted() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    let compact = rig
        .t
        .record("context-compaction::compact_now", json!({ "status": "ok" }));
    rig.run("s1").await;
    assert_eq!(compact.count(), 0);
    rig.t.stop().await;
}
