//! In every state, at every event, and when there is nothing to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::bus::StreamItem;
use harness::scripted::{Reply, Request, Script};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{abort, aborted};
use crate::model_rig::ModelRig;
use crate::support::stub::{calls_then_ends, message, says};
use crate::support::three_ways;
use crate::turn::{Rig, lines, of_type, said, user};

three_ways! {
    c02_abort_09_every_state_at_rest,
    c02_abort_11_no_agent_may_stop_a_run,
    c02_abort_13_steering_is_kept,
    r1_stopped_at_every_event,
}

/// Records as a process may have left them, with nobody at work.
async fn c02_abort_09_every_state_at_rest() {
    let call = json!({ "id": "A", "function_id": "f", "arguments": {} });
    let work =
        json!({ "prepared": [{ "route": "dispatch", "call": call }], "executed": {}, "started": { "A": 1 } });
    for state in [
        "provisioning",
        "assistant_streaming",
        "function_execute",
        "steering_check",
    ] {
        let rig = Rig::allowing(|_, _| says(&["never"])).await;
        let target = rig.t.record("f", json!({}));
        let mut record = json!({
            "session_id": "s1", "state": state, "turn_count": 1, "awaiting_approval": [], "run_id": "r",
            "last_assistant": message(json!([]), "function_call"),
        });
        if state == "function_execute" {
            record["work"] = work.clone();
        }
        rig.t.set_state("turn_state", "s1", record).await;
        assert_eq!(abort(&rig.t, "s1").await, aborted("s1", state));
        let events = rig.t.ended("s1", 1).await;
        let expected = if state == "function_execute" {
            vec!["start A", "end A error", "complete aborted", "turn_end 1"]
        } else {
            vec!["complete aborted", "turn_end 0"]
        };
        let ends = vec!["updated stopped", "agent_end"];
        assert_eq!(lines(&events), [expected, ends].concat(), "{state}");
        for end in of_type(&events, "function_execution_end") {
            assert_eq!(end["result"]["details"]["error"], "interrupted");
        }
        assert_eq!((target.count(), rig.stub.requests().len()), (0, 0));
        rig.t.stop().await;
    }
}

#[tokio::test]
async fn c02_abort_10_between_runs_and_again_and_again() {
    let (rig, door) = Rig::held_up().await;
    assert_eq!(
        abort(&rig.t, "s1").await,
        json!({ "session_id": "s1", "aborted": false, "state": null })
    );
    for request in [
        json!({}),
        Value::Null,
        json!({ "session_id": "" }),
        json!({ "session_id": 7 }),
    ] {
        let message = rig.t.error("run::abort", request.clone()).await;
        assert_eq!(message, "missing required string field: session_id", "{request}");
    }
    rig.t.error("run::abort", json!({ "session_id": "a/b" })).await;

    rig.start("s1").await;
    rig.stub.asked(&rig.t, 1).await;
    let both = futures::join!(abort(&rig.t, "s1"), abort(&rig.t, "s1"));
    let expected = aborted("s1", "assistant_streaming");
    assert_eq!(both, (expected.clone(), expected));
    let events = rig.t.ended("s1", 1).await;
    door.open();
    assert_eq!(
        abort(&rig.t, "s1").await,
        json!({ "session_id": "s1", "aborted": false, "state": "stopped" })
    );
    assert_eq!(rig.t.events("s1").await, events, "and nothing happens");
    // The next run is not the one that was stopped.
    rig.start("s1").await;
    let events = rig.t.ended("s1", 2).await;
    let reasons: Vec<&Value> = of_type(&events, "message_complete")
        .iter()
        .map(|event| &event["message"]["stop_reason"])
        .collect();
    assert_eq!(reasons, ["aborted", "end"]);
    rig.t.stop().await;
}

async fn c02_abort_11_no_agent_may_stop_a_run() {
    let list = vec![("A", "run::abort", json!({ "session_id": "s1" }))];
    let rig = Rig::allowing(calls_then_ends(list)).await;
    let full = json!({ "session_id": "s1", "mode": "full" });
    rig.t.ok("approval::set_mode", full).await;
    let events = rig.run("s1").await;
    let details = &of_type(&events, "function_execution_end")[0]["result"]["details"];
    assert_eq!(details["rule_id"], "human_only_function");
    assert_eq!(rig.transcript("s1").await.last().unwrap()["stop_reason"], "end");
    rig.t.stop().await;
}

/// What waits in the inboxes is for the next run.
async fn c02_abort_13_steering_is_kept() {
    let (rig, door) = Rig::held_up().await;
    rig.start("s1").await;
    rig.stub.asked(&rig.t, 1).await;
    let item = json!({ "name": "steering", "session_id": "s1", "item": user("wait") });
    rig.t.ok("session-inbox::push", item).await;
    abort(&rig.t, "s1").await;
    rig.t.ended("s1", 1).await;
    door.open();
    let inbox = json!({ "name": "steering", "session_id": "s1" });
    assert_eq!(
        rig.t.ok("session-inbox::peek", inbox).await["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    rig.start("s1").await;
    rig.t.ended("s1", 2).await;
    let texts: Vec<String> = rig.transcript("s1").await.iter().map(said).collect();
    assert_eq!(
        texts,
        [
            "user hi",
            "assistant ",
            "user hi",
            "assistant ok",
            "user wait",
            "assistant ok"
        ]
    );
    rig.t.stop().await;
}

/// Field lesson: stop at every event of a turn with three parallel calls; the strict server takes what is left.
async fn r1_stopped_at_every_event() {
    let script = Script::answer(|request: &Request| match request.last_user_text().as_str() {
        "go" if request.tool_results().is_empty() => Reply::says("Let me see. ", 2).then(Reply::calls([
            ("a", "agent_trigger", r#"{"function":"free","payload":{}}"#),
            ("b", "agent_trigger", r#"{"function":"free","payload":{}}"#),
            ("c", "agent_trigger", r#"{"function":"ask","payload":{}}"#),
        ])),
        _ => Reply::says("Fine.", 2),
    });
    let rig = ModelRig::with(script, |options| options.config.events.coalesce_ms = 0).await;
    rig.t.record("free", json!({}));
    // Set when the event with number `at` of the session at hand is shown.
    let (at, seen, shown) = (
        Arc::new(AtomicUsize::new(usize::MAX)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (when, count, hit) = (Arc::clone(&at), Arc::clone(&seen), Arc::clone(&shown));
    rig.t.bus().tap_stream(
        "agent::events",
        Arc::new(move |_: &StreamItem| {
            if count.fetch_add(1, Ordering::SeqCst) == when.load(Ordering::SeqCst) {
                hit.store(true, Ordering::SeqCst);
            }
        }),
    );
    let mut stopped = 0;
    loop {
        let session = format!("s{stopped}");
        seen.store(0, Ordering::SeqCst);
        shown.store(false, Ordering::SeqCst);
        at.store(stopped, Ordering::SeqCst);
        let go = json!({ "session_id": session, "provider": "openai", "model": "gpt-5", "messages": [user("go")] });
        rig.t.ok("run::start", go).await;
        let parked_before = rig
            .t
            .eventually(async || {
                if shown.load(Ordering::SeqCst) {
                    return Some(false);
                }
                let view = rig
                    .t
                    .ok("turn::get_state", json!({ "session_id": session }))
                    .await;
                let parked = view["state"] == "function_awaiting_approval";
                (parked && !shown.load(Ordering::SeqCst)).then_some(true)
            })
            .await;
        let reply = abort(&rig.t, &session).await;
        assert_eq!(reply["aborted"], true, "{stopped}: {reply}");
        let events = rig.t.ended(&session, 1).await;
        check(&rig, &session, &events).await;
        at.store(usize::MAX, Ordering::SeqCst);
        rig.run(&session, "and now?", 2).await;
        assert_eq!(
            rig.server.violations(),
            Vec::<String>::new(),
            "stopped at {stopped}"
        );
        if parked_before {
            break;
        }
        stopped += 1;
    }
    assert!(stopped > 10, "{stopped}");
    rig.t.stop().await;
}

/// One `turn_end`, one `agent_end`, the last; each call begins and ends once and has one result.
async fn check(rig: &ModelRig, session: &str, events: &[Value]) {
    let tail = lines(events).split_off(events.len() - 3);
    assert!(tail[0].starts_with("turn_end"), "{tail:?}");
    assert_eq!(tail[1..], ["updated stopped", "agent_end"]);
    assert_eq!(
        (
            of_type(events, "turn_end").len(),
            of_type(events, "agent_end").len()
        ),
        (1, 1)
    );
    let ids = |events: &[&Value]| -> Vec<String> {
        events
            .iter()
            .map(|event| event["function_call_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (starts, ends) = (
        ids(&of_type(events, "function_execution_start")),
        ids(&of_type(events, "function_execution_end")),
    );
    assert_eq!((starts.len(), &starts), (ends.len(), &ends));
    let transcript = rig.transcript(session).await;
    let made: Vec<String> = transcript
        .iter()
        .filter(|message| message["role"] == "assistant")
        .flat_map(|message| message["content"].as_array().unwrap().clone())
        .filter(|block| block["type"] == "function_call")
        .map(|block| block["id"].as_str().unwrap().to_owned())
        .collect();
    let answered: Vec<String> = transcript
        .iter()
        .filter(|message| message["role"] == "function_result")
        .map(|message| message["function_call_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((&made, &answered), (&starts, &starts));
    assert_eq!(transcript.last().unwrap()["stop_reason"], "aborted");
}
