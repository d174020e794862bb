//! `turn::steering_check` and the pre-flight check.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, lines, of_type, run, said, user};
use crate::support::stub::{Door, Out, calls, says};
use crate::support::{TestOptions, three_ways};

three_ways! {
    c02_case_37_38_steering_goes_first_and_nothing_is_lost,
    c02_case_39_a_cap_on_turns_ends_the_run,
    what_waits_at_the_cap_stays_for_the_next_run,
    the_configured_cap_is_for_runs_that_name_none,
    c02_case_40_the_session_is_free_when_agent_end_arrives,
    c02_case_15_overflow_is_final,
    c02_case_15_compacted_or_not_needed_goes_on,
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
    let model = json!({ "id": "m", "provider": "stub", "context_window": 10, "max_output_tokens": 5 });
    rig.t.ok("models::register", model).await;
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

async fn c02_case_15_compacted_or_not_needed_goes_on() {
    for status in ["ok", "empty", "later word"] {
        let rig = preflight(json!({ "status": status })).await;
        let events = rig.t.ended("s1", 1).await;
        assert_eq!(
            of_type(&events, "message_complete")[0]["message"]["stop_reason"],
            "end",
            "{status}"
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
