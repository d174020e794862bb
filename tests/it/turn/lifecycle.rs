//! Restart, concurrency, an unreliable store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::bus::Write;
use harness::scripted::{Reply, Request, Script};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Rig, lines, of_type, run, said};
use crate::model_rig::ModelRig;
use crate::support::spy::{Op, Spy};
use crate::support::stub::{calls, calls_then_ends, message, says};
use crate::support::way::Way;
use crate::support::{TestOptions, three_ways};

three_ways! {
    many_sessions_do_not_mix on 2 threads,
    c02_weakness_10_a_stored_answer_is_not_asked_for_again,
    a_wake_queue_gets_every_hand_over_and_costs_nothing,
}

fn saves_record(op: &Op<'_>) -> bool {
    matches!(op, Op::Commit(writes)
        if writes.iter().any(|write| matches!(write, Write::StateSet { scope, .. } if scope == "turn_state")))
}

#[tokio::test]
async fn a_store_that_is_away_for_a_moment_costs_nothing() {
    let spy = Spy::default();
    let options = TestOptions {
        wrap: spy.wrap(),
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    };
    let rig = Rig::new(options, calls_then_ends(vec![("A", "f", json!({}))])).await;
    let target = rig.t.record("f", json!({}));
    let mut n = 0;
    spy.fail_when(move |op| {
        n += usize::from(saves_record(op));
        saves_record(op) && n.is_multiple_of(3) && n > 1
    });
    let events = rig.run("s1").await;
    assert_eq!(target.count(), 1);
    assert_eq!(rig.stub.requests().len(), 2);
    assert_eq!(of_type(&events, "agent_end").len(), 1);
    rig.t.stop().await;
}

#[tokio::test]
async fn a_step_that_waits_for_the_store_is_left_to_the_next_life() {
    let (spy, dir) = (Spy::default(), TempDir::new().unwrap());
    let mut options = TestOptions {
        wrap: spy.wrap(),
        data_dir: Some(dir.path().join("data")),
        ..TestOptions::default()
    };
    options.config.turn.step_backoff_ms = 60_000;
    let rig = Rig::new(options, |_, _| says(&["ok"])).await;
    let (away, met) = (spy.clone(), tokio::sync::mpsc::channel(8));
    away.fail_when(move |op| {
        let hit = matches!(op, Op::Call(call) if call.function_id == "state::get" && call.payload["scope"] == "run_request");
        hit && met.0.try_send(()).is_ok()
    });
    let mut failed = met.1;
    // The record is as `run::start` leaves it; a resumed step has no request in memory and asks the store.
    let record = json!({ "session_id": "s1", "state": "provisioning", "turn_count": 0, "run_id": "r" });
    rig.t.set_state("turn_state", "s1", record.clone()).await;
    let event = json!({ "event_type": "state:created", "scope": "approvals", "key": "s1/x", "new_value": { "decision": "allow" } });
    rig.t.ok("turn::on_approval", event).await;
    crate::support::engine::within(failed.recv()).await.unwrap();
    rig.t.stop().await;

    let options = TestOptions {
        data_dir: Some(dir.path().join("data")),
        ..TestOptions::default()
    };
    let rig = Rig::new(
        TestOptions {
            workers: Vec::new(),
            ..options
        },
        |_, _| vec![],
    )
    .await;
    assert_eq!(rig.record("s1").await, record);
    rig.t.stop().await;
}

#[tokio::test]
async fn a_run_that_cannot_be_stored_is_not_accepted() {
    let spy = Spy::default();
    let rig = Rig::new(
        TestOptions {
            wrap: spy.wrap(),
            ..TestOptions::default()
        },
        |_, _| says(&["ok"]),
    )
    .await;
    spy.fail_when(saves_record);
    assert!(rig.t.call("run::start", run("s1")).await.is_err());
    assert_eq!(rig.record("s1").await, Value::Null);
    assert_eq!(rig.t.events("s1").await, Vec::<Value>::new());
    spy.heal();
    rig.run("s1").await;
    rig.t.stop().await;
}

async fn c02_weakness_10_a_stored_answer_is_not_asked_for_again() {
    let rig = Rig::allowing(|_, _| says(&["second"])).await;
    let stored = message(json!([{ "type": "text", "text": "first" }]), "end");
    let append =
        |message: Value, entry: &str| json!({ "session_id": "s1", "message": message, "entry_id": entry });
    rig.t
        .ok("session-tree::append", append(super::user("hi"), "u"))
        .await;
    rig.t
        .ok("session-tree::append", append(stored, "r-t1-assistant"))
        .await;
    rig.t
        .set_state("run_request", "s1", json!({ "provider": "stub", "model": "m" }))
        .await;
    let record =
        json!({ "session_id": "s1", "state": "assistant_streaming", "turn_count": 0, "run_id": "r" });
    rig.t.set_state("turn_state", "s1", record).await;
    rig.t
        .ok("turn::assistant_streaming", json!({ "session_id": "s1" }))
        .await;
    rig.t.ended("s1", 1).await;
    assert_eq!(rig.stub.requests().len(), 0);
    assert_eq!(
        rig.transcript("s1").await.iter().map(said).collect::<Vec<_>>(),
        ["user hi", "assistant first"]
    );
    rig.t.stop().await;
}

#[tokio::test]
async fn a_name_is_held_by_one_and_forgotten_by_the_last() {
    use futures::FutureExt;
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    let bus = rig.t.bus();
    let first = bus.hold("a").await;
    let mut second = Box::pin(bus.hold("a"));
    assert!(second.as_mut().now_or_never().is_none());
    let other = bus.hold("b").await;
    assert_eq!(bus.held(), ["a", "b"]);
    drop(first);
    let second = second.await;
    // One that gives up while waiting leaves nothing behind either.
    assert!(bus.hold("a").now_or_never().is_none());
    drop((second, other));
    assert_eq!(bus.held(), Vec::<String>::new());
    rig.t.stop().await;
}

async fn a_wake_queue_gets_every_hand_over_and_costs_nothing() {
    for (queue, fails) in [("default", false), ("nowhere", true)] {
        let mut options = TestOptions {
            rules: Some("rules: ['*']"),
            ..TestOptions::default()
        };
        options.config.turn.wake_queue = Some(queue.to_owned());
        let rig = Rig::new(options, calls_then_ends(vec![("A", "f", json!({}))])).await;
        let target = rig.t.record("f", json!({}));
        let events = rig.run("s1").await;
        assert_eq!(of_type(&events, "agent_end").len(), 1);
        assert_eq!((target.count(), rig.stub.requests().len()), (1, 2));
        if !fails {
            // Each queued wake comes late, finds another state and does nothing.
            let step = |state: &str| rig.t.calls_of(&format!("turn::{state}"));
            rig.t
                .eventually(async || {
                    let woken = [
                        step("provisioning"),
                        step("assistant_streaming"),
                        step("function_execute"),
                        step("steering_check"),
                    ];
                    (woken == [1, 2, 1, 2]).then_some(())
                })
                .await;
            assert_eq!(rig.transcript("s1").await.len(), 4);
        }
        rig.t.stop().await;
    }
}

/// Every record of a scripted run becomes the state of a restarted program; each ends the run by itself.
#[tokio::test]
async fn every_stored_state_of_a_run_can_be_continued() {
    let list = || vec![("A", "f", json!({})), ("B", "ask", json!({}))];
    let rules = Some("rules: [f]");
    let spy = Spy::default();
    let rig = Rig::new(
        TestOptions {
            wrap: spy.wrap(),
            rules,
            ..TestOptions::default()
        },
        calls_then_ends(list()),
    )
    .await;
    rig.t.record("f", json!({}));
    rig.t.record("ask", json!({}));
    rig.start("s1").await;
    rig.t.reaches("s1", "function_awaiting_approval").await;
    rig.decide("s1", "B", "allow", None).await;
    rig.t.ended("s1", 1).await;
    let states: Vec<Value> = spy
        .writes()
        .into_iter()
        .filter_map(|write| match write {
            Write::StateSet { scope, value, .. } if scope == "turn_state" => Some(value.as_ref().clone()),
            _ => None,
        })
        .collect();
    let request = rig.t.state("run_request", "s1").await;
    rig.t.stop().await;
    assert!(states.len() >= 8, "{}", states.len());

    for (n, record) in states.iter().enumerate() {
        let dir = TempDir::new().unwrap();
        let at = |dir: &TempDir| Some(dir.path().join("data"));
        let before = Rig::new(
            TestOptions {
                data_dir: at(&dir),
                rules,
                ..TestOptions::default()
            },
            |_, _| vec![],
        )
        .await;
        before.t.set_state("run_request", "s1", request.clone()).await;
        before
            .t
            .ok(
                "session-tree::append",
                json!({ "session_id": "s1", "message": super::user("hi") }),
            )
            .await;
        before
            .t
            .set_state(
                "approvals",
                "s1/B",
                json!({ "decision": "allow", "reason": null }),
            )
            .await;
        before.t.stop().await;
        // A second life on the same directory finds the record as an earlier one left it.
        let seed = Rig::new(
            TestOptions {
                data_dir: at(&dir),
                rules,
                ..TestOptions::default()
            },
            |_, _| vec![],
        )
        .await;
        seed.t.set_state("turn_state", "s1", record.clone()).await;
        seed.t.stop().await;

        let t = crate::support::TestBus::with(TestOptions {
            data_dir: at(&dir),
            rules,
            workers: Vec::new(),
            ..TestOptions::default()
        })
        .await;
        t.stop().await;
        let list = list();
        let rig = Rig::new(
            TestOptions {
                data_dir: at(&dir),
                rules,
                ..TestOptions::default()
            },
            move |_, request| {
                let answered = request["messages"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|m| m["role"] == "function_result");
                if answered { says(&["done"]) } else { calls(&list) }
            },
        )
        .await;
        rig.t.record("f", json!({}));
        rig.t.record("ask", json!({}));
        if record["state"] == "stopped" {
            assert_eq!(rig.record("s1").await, *record, "state {n}");
        } else {
            let parked = rig.t.eventually(async || {
                let state = rig.record("s1").await["state"].clone();
                (state == "stopped" || state == "function_awaiting_approval").then_some(state)
            });
            if parked.await == "function_awaiting_approval" {
                rig.decide("s1", "B", "allow", None).await;
            }
            let events = rig.t.ended("s1", 1).await;
            assert_eq!(
                of_type(&events, "agent_end").len(),
                1,
                "state {n}: {:?}",
                lines(&events)
            );
            assert_eq!(events.last().unwrap()["type"], "agent_end", "state {n}");
        }
        rig.t.stop().await;
    }
}

/// Over real HTTP, with one scripted model server for all; connected to an engine, over one connection.
async fn many_sessions_do_not_mix() {
    let answer = |request: &Request| {
        let who = request.last_user_text();
        if let Some((_, result)) = request.tool_results().first() {
            return Reply::says(format!("{who} got {result}"), 4);
        }
        let arguments = json!({ "function": "free", "payload": { "who": who } }).to_string();
        Reply::calls([("A", "agent_trigger", arguments.as_str())])
    };
    // On a busy machine no push counts as lost.
    let patient = |options: &mut TestOptions| options.config.ui.push_timeout_ms = 60_000;
    let rig = ModelRig::with(Script::answer(answer), patient).await;
    rig.t.record("ui::sessions::changed::b", Value::Null);
    rig.t
        .serve("free", |payload| std::future::ready(Ok(payload["who"].clone())));
    let ends = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ends);
    let pushed = rig.t.record_with("ui::session::event::b", move |push| {
        let is_end = push["event"]["type"] == "agent_end";
        counted.fetch_add(usize::from(is_end), Ordering::SeqCst);
        Ok(Value::Null)
    });
    rig.t
        .ok("ui::subscribe", json!({ "browser_id": "b", "session_id": null }))
        .await;
    // Each frame of the wire costs more than the turn it tells of.
    let many = if Way::here() == Way::InProcess { 200 } else { 60 };
    let sessions: Vec<String> = (0..many).map(|n| format!("s{n}")).collect();
    let starts = sessions.iter().map(async |session| {
        let request = json!({ "session_id": session, "provider": "openai", "model": "gpt-5", "messages": [super::user(session)] });
        assert_eq!(rig.t.ok("run::start", request).await["started"], true);
    });
    futures::future::join_all(starts).await;
    // A busy machine may take long for all of them, not for the next push.
    let ended = || ends.load(Ordering::SeqCst) == many;
    while !ended() {
        let seen = pushed.count();
        rig.t
            .eventually(async || (pushed.count() > seen || ended()).then_some(()))
            .await;
    }
    let pushed = pushed.all();
    for session in &sessions {
        let events = rig.t.ended(session, 1).await;
        let mine = pushed.iter().filter(|push| push["session_id"] == **session);
        let mine: Vec<Value> = mine.map(|push| push["event"].clone()).collect();
        assert_eq!(mine, events, "{session}");
        assert_eq!(
            order(&events),
            [
                "created provisioning".to_owned(),
                "updated assistant_streaming".to_owned(),
                "complete function_call".to_owned(),
                "updated function_execute".to_owned(),
                "start A".to_owned(),
                "end A".to_owned(),
                "turn_end 1".to_owned(),
                "updated steering_check".to_owned(),
                "updated assistant_streaming".to_owned(),
                format!("streams {session} got {session}"),
                "complete end".to_owned(),
                "updated steering_check".to_owned(),
                "turn_end 0".to_owned(),
                "updated stopped".to_owned(),
                "agent_end".to_owned(),
            ],
            "{session}"
        );
        let transcript: Vec<String> = rig.transcript(session).await.iter().map(said).collect();
        assert_eq!(
            transcript,
            [
                format!("user {session}"),
                "assistant calls free".to_owned(),
                format!("A {session}"),
                format!("assistant {session} got {session}"),
            ]
        );
    }
    assert_eq!(rig.server.requests().len(), 2 * many);
    assert_eq!(rig.server.violations(), Vec::<String>::new());
    rig.t.stop().await;
}

/// Events as lines; what is streamed as one line per text, however it was cut, and argument text left out.
fn order(events: &[Value]) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    for (event, line) in events.iter().zip(lines(events)) {
        if event["type"] != "message_update" {
            order.push(line);
        } else if let Some(delta) = line.strip_prefix("text_delta ") {
            match order.last_mut().filter(|last| last.starts_with("streams ")) {
                Some(text) => text.push_str(delta),
                None => order.push(format!("streams {delta}")),
            }
        }
    }
    order
}
