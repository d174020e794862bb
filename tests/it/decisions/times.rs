//! When a decision counts: before, twice, after, across runs, while the program is down. None runs a call twice.

use harness::bus::TriggerSpec;
use harness::workers;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{asks_each_run, fates};
use crate::support::stub::{Door, calls, calls_then_ends, says};
use crate::support::{TestBus, TestOptions};
use crate::turn::{Rig, lines, said, user};

fn one() -> Vec<(&'static str, &'static str, Value)> {
    vec![("A", "ask", json!({}))]
}

#[tokio::test]
async fn decided_twice_before_it_is_looked_at_the_last_word_counts() {
    for (first, last) in [("allow", "deny"), ("deny", "allow"), ("deny", "aborted")] {
        let list = vec![("A", "ask", json!({})), ("B", "free", json!({}))];
        let rig = Rig::asking(asks_each_run(list)).await;
        let (asked, door) = (rig.t.record("ask", json!({})), Door::closed());
        let held = door.clone();
        rig.t.serve("free", move |_| {
            let held = held.clone();
            async move {
                held.pass().await;
                Ok(Value::Null)
            }
        });
        rig.start("s1").await;
        // The prompt stands; the batch is not parked yet, for B still runs.
        rig.t
            .eventually(async || rig.record("s1").await["work"]["started"].get("B").map(|_| ()))
            .await;
        rig.decide("s1", "A", first, None).await;
        rig.decide("s1", "A", last, None).await;
        door.open();
        let events = rig.t.ended("s1", 1).await;
        assert_eq!(fates(&events), ["B allow".to_owned(), format!("A {last}")]);
        assert_eq!(asked.count(), usize::from(last == "allow"));
        rig.t.stop().await;
    }
}

#[tokio::test]
async fn decided_twice_the_second_one_finds_the_call_settled() {
    for (first, second) in [("deny", "allow"), ("allow", "deny"), ("allow", "allow")] {
        let list = vec![("A", "ask", json!({})), ("B", "ask", json!({}))];
        let rig = Rig::asking(asks_each_run(list)).await;
        let asked = rig.t.record("ask", json!({}));
        rig.parked("s1").await;
        rig.decide("s1", "A", first, None).await;
        rig.t
            .eventually(async || (rig.waiting("s1").await.len() == 1).then_some(()))
            .await;
        rig.decide("s1", "A", second, None).await;
        rig.look("s1").await;
        rig.decide("s1", "B", "deny", None).await;
        let events = rig.t.ended("s1", 1).await;
        assert_eq!(fates(&events), [format!("A {first}"), "B deny".to_owned()]);
        assert_eq!(asked.count(), usize::from(first == "allow"));
        rig.t.stop().await;
    }
}

#[tokio::test]
async fn decided_after_the_end_it_runs_nothing_and_approves_nothing_later() {
    let rig = Rig::asking(asks_each_run(one())).await;
    let asked = rig.t.record("ask", json!({}));
    rig.parked("s1").await;
    rig.decide("s1", "A", "allow", None).await;
    let ended = lines(&rig.t.ended("s1", 1).await);
    // The second click of a double click, and one of a page that was left open.
    rig.decide("s1", "A", "allow", None).await;
    rig.look("s1").await;
    assert_eq!(lines(&rig.t.events("s1").await), ended);
    assert_eq!(asked.count(), 1);

    // The provider gives the same id to a call of the next run: it is another call.
    assert_eq!(rig.parked("s1").await.len(), 1);
    rig.look("s1").await;
    assert_eq!(asked.count(), 1);
    assert_eq!(rig.t.state("approvals", "s1/A").await, Value::Null);
    rig.decide("s1", "A", "deny", None).await;
    assert_eq!(fates(&rig.t.ended("s1", 2).await), ["A allow", "A deny"]);
    rig.t.stop().await;
}

#[tokio::test]
async fn a_call_id_used_again_in_the_next_turn_waits_anew() {
    let rig = Rig::asking(|number, _| {
        if number < 2 {
            calls(&one())
        } else {
            says(&["done"])
        }
    })
    .await;
    let asked = rig.t.record("ask", json!({}));
    let first = rig.parked("s1").await;
    rig.decide("s1", "A", "allow", None).await;
    let second = rig
        .t
        .eventually(async || {
            let waiting = rig.waiting("s1").await;
            (!waiting.is_empty() && waiting != first).then_some(waiting)
        })
        .await;
    rig.look("s1").await;
    assert_eq!((asked.count(), rig.waiting("s1").await), (1, second));
    rig.decide("s1", "A", "deny", None).await;
    assert_eq!(fates(&rig.t.ended("s1", 1).await), ["A allow", "A deny"]);
    rig.t.stop().await;
}

#[tokio::test]
async fn what_an_event_says_stops_nothing_when_no_such_wish_is_stored() {
    let rig = Rig::asking(asks_each_run(one())).await;
    rig.t.record("ask", json!({}));
    rig.parked("s1").await;
    let run = rig.record("s1").await["run_id"].clone();
    let wish = json!({ "decision": "aborted", "reason": null, "run_id": run });
    let event =
        json!({ "event_type": "state:created", "scope": "approvals", "key": "s1", "new_value": wish });
    rig.t.ok("turn::on_approval", event).await;
    rig.look("s1").await;
    rig.decide("s1", "A", "allow", None).await;
    assert_eq!(fates(&rig.t.ended("s1", 1).await), ["A allow"]);
    rig.t.stop().await;
}

/// The engine takes decisions while the program that runs turns is away.
#[tokio::test]
async fn decided_during_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = |workers| TestOptions {
        rules: Some("rules: []"),
        data_dir: Some(dir.path().to_owned()),
        workers,
        ..TestOptions::default()
    };
    let list = vec![("A", "ask", json!({ "n": 1 })), ("B", "ask", json!({ "n": 2 }))];
    let rig = Rig::new(options(workers::all()), asks_each_run(list.clone())).await;
    rig.parked("s1").await;
    rig.t.stop().await;

    let gate = TestBus::with(options(vec![workers::approval::worker()])).await;
    for (call, decision) in [("A", "deny"), ("A", "allow"), ("B", "deny")] {
        let request = json!({ "session_id": "s1", "function_call_id": call, "decision": decision });
        assert_eq!(gate.ok("approval::resolve", request).await, json!({ "ok": true }));
    }
    gate.stop().await;

    let rig = Rig::new(options(workers::all()), asks_each_run(list)).await;
    let asked = rig.t.record("ask", json!({}));
    let events = rig.t.ended("s1", 1).await;
    let mut fates = fates(&events);
    fates.sort();
    assert_eq!(fates, ["A allow", "B deny"]);
    assert_eq!(asked.all(), [json!({ "n": 1 })]);
    rig.t.stop().await;
}

#[tokio::test]
async fn a3_a_gate_that_is_registered_many_times_asks_once_and_runs_once() {
    let rig = Rig::asking(asks_each_run(one())).await;
    let asked = rig.t.record("ask", json!({}));
    for n in 0..200 {
        let again = TriggerSpec {
            id: format!("again-{n}"),
            metadata: None,
            trigger_type: "state".into(),
            function_id: "turn::on_approval".into(),
            config: json!({ "scope": "approvals" }),
        };
        rig.t.bus().transport().bind(again).await.unwrap();
    }
    rig.parked("s1").await;
    rig.decide("s1", "A", "allow", None).await;
    let events = rig.t.ended("s1", 1).await;
    let prompts = lines(&events).iter().filter(|line| line.ends_with("[A]")).count();
    assert_eq!((prompts, asked.count()), (1, 1));
    rig.t.stop().await;
}

#[tokio::test]
async fn a9_a_parked_session_takes_messages_and_shows_what_it_waits_for() {
    let rig = Rig::asking(calls_then_ends(one())).await;
    rig.t.record("ask", json!("ran"));
    let waiting = rig.parked("s1").await;
    let push = json!({ "name": "steering", "session_id": "s1", "item": user("be quick") });
    rig.t.ok("session-inbox::push", push).await;
    assert_eq!(rig.waiting("s1").await, waiting);
    rig.decide("s1", "A", "allow", None).await;
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(fates(&events), ["A allow"]);
    let transcript: Vec<String> = rig.transcript("s1").await.iter().map(said).collect();
    assert!(transcript.contains(&"user be quick".to_owned()), "{transcript:?}");
    rig.t.stop().await;
}
