//! `run::abort` (contract 02 §3.1), whatever the run is doing.

mod foreign;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::bus::{CallContext, FunctionDef, StreamItem};
use harness::scripted::{Gate, Reply, Request, Script, Step};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, lines, of_type, said, user};
use crate::model_rig::ModelRig;
use crate::support::stub::{Door, Out, calls_then_ends, message, says};
use crate::support::timed::Frozen;
use crate::support::{TestBus, TestOptions, three_ways};

three_ways! {
    c02_abort_02_a_request_without_an_answer_is_cut,
    c02_abort_03_a_provider_that_does_not_listen_is_left_behind,
    c02_abort_05_parked_calls_are_answered_and_late_decisions_run_nothing,
    c02_abort_06_an_approved_call_under_way,
    c02_abort_07_a_run_that_has_not_begun_to_speak,
    c02_abort_08_during_the_look_before_the_model_is_asked,
    c02_abort_09_every_state_at_rest,
    c02_abort_11_no_agent_may_stop_a_run,
    c02_abort_12_while_a_step_waits_to_be_repeated,
    c02_abort_13_steering_is_kept,
    r1_stopped_at_every_event,
}

async fn abort(t: &TestBus, session: &str) -> Value {
    t.ok("run::abort", json!({ "session_id": session })).await
}

fn aborted(session: &str, state: &str) -> Value {
    json!({ "session_id": session, "aborted": true, "state": state })
}

/// Waits until an event of the session has been stored.
async fn shows(t: &TestBus, session: &str, such: impl Fn(&Value) -> bool) {
    t.eventually(async || t.events(session).await.iter().any(&such).then_some(()))
        .await;
}

fn is_text(event: &Value) -> bool {
    event["llm_event"]["type"] == "text_delta"
}

/// A chunk of a Chat Completions stream.
fn chunk(delta: Value, usage: Value) -> Step {
    let chunk = json!({ "id": "x", "object": "chat.completion.chunk", "created": 0, "model": "gpt-5",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": null }], "usage": usage });
    Step::send(format!("data: {chunk}\n\n"))
}

/// Half an answer and half a call, then nothing.
fn half() -> Reply {
    let text = json!({ "role": "assistant", "content": "Half an " });
    let call = json!({ "tool_calls": [{ "index": 0, "id": "c1", "type": "function",
        "function": { "name": "agent_trigger", "arguments": "{}" } }] });
    let usage = json!({ "prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103 });
    Reply::raw([
        chunk(text, usage),
        chunk(call, Value::Null),
        Step::Wait(Gate::new()),
    ])
}

#[tokio::test]
async fn c02_abort_01_a_stream_is_cut_and_its_text_kept() {
    let script = Script::answer(|request: &Request| match request.last_user_text().as_str() {
        "hello" => half(),
        text => Reply::says(format!("Re: {text}"), 2),
    });
    let rig = ModelRig::with(script, |options| options.config.events.coalesce_ms = 0).await;
    let request =
        json!({ "session_id": "s1", "provider": "openai", "model": "gpt-5", "messages": [user("hello")] });
    rig.t.ok("run::start", request).await;
    shows(&rig.t, "s1", |event| {
        event["llm_event"]["type"] == "functioncall_delta"
    })
    .await;

    let mut open = rig.server.open_replies();
    assert_eq!(*open.borrow(), 1);
    // The server sees the socket close, and that waits for no timer: none fires now.
    let frozen = Frozen::start();
    let now = tokio::time::Instant::now();
    assert_eq!(abort(&rig.t, "s1").await, aborted("s1", "assistant_streaming"));
    open.wait_for(|open| *open == 0).await.unwrap();
    assert_eq!(tokio::time::Instant::now(), now);
    drop(frozen);
    tokio::time::resume();

    let events = rig.t.ended("s1", 1).await;
    let tail: Vec<String> = lines(&events)
        .into_iter()
        .skip_while(|line| !line.starts_with("complete"))
        .collect();
    assert_eq!(
        tail,
        ["complete aborted", "turn_end 0", "updated stopped", "agent_end"]
    );
    let complete = of_type(&events, "message_complete")[0];
    assert_eq!(complete["body_streamed"], true);
    let message = &complete["message"];
    assert_eq!(
        message["content"],
        json!([{ "type": "text", "text": "Half an " }]),
        "the call never ran"
    );
    assert_eq!(
        (&message["error_message"], &message["error_kind"]),
        (&json!("aborted"), &json!("transient"))
    );
    assert_eq!(
        (&message["usage"]["input"], &message["usage"]["output"]),
        (&json!(100), &json!(3))
    );
    assert_eq!(rig.transcript("s1").await[1], *message);
    assert_eq!(of_type(&events, "turn_end")[0]["message"], *message);

    // The session goes on; the model is told, and the strict server has nothing to refuse.
    rig.run("s1", "and now?", 2).await;
    let rows = rig.server.requests()[1].rows().to_vec();
    let spoken: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["content"].as_str())
        .skip(1)
        .collect();
    assert_eq!(spoken[..2], ["hello", "Half an "]);
    assert!(spoken[2].contains("stopped"), "{spoken:?}");
    assert_eq!(spoken.last(), Some(&"and now?"));
    assert_eq!(rig.server.violations(), Vec::<String>::new());
    rig.t.stop().await;
}

async fn c02_abort_02_a_request_without_an_answer_is_cut() {
    let hanging = Gate::new();
    let script = Script::queue([Reply::hangs(hanging), Reply::says("Yes.", 1)]);
    let rig = ModelRig::start(script).await;
    let request =
        json!({ "session_id": "s1", "provider": "openai", "model": "gpt-5", "messages": [user("hi")] });
    rig.t.ok("run::start", request).await;
    let mut open = rig.server.open_replies();
    crate::support::engine::within(open.wait_for(|open| *open == 1))
        .await
        .unwrap();
    assert_eq!(abort(&rig.t, "s1").await, aborted("s1", "assistant_streaming"));
    crate::support::engine::within(open.wait_for(|open| *open == 0))
        .await
        .unwrap();
    let events = rig.t.ended("s1", 1).await;
    let message = &of_type(&events, "message_complete")[0]["message"];
    assert_eq!(
        (&message["content"], &message["stop_reason"]),
        (&json!([]), &json!("aborted"))
    );
    assert_eq!(
        (&message["provider"], &message["model"]),
        (&json!("openai"), &json!("gpt-5"))
    );
    rig.run("s1", "still there?", 2).await;
    assert_eq!(rig.server.violations(), Vec::<String>::new());
    rig.t.stop().await;
}

async fn c02_abort_03_a_provider_that_does_not_listen_is_left_behind() {
    let door = Door::closed();
    let held = door.clone();
    let rig = Rig::allowing(move |_, _| {
        let mut out = says(&["half a "]);
        out.pop();
        [out, vec![Out::Wait(held.clone())], says(&["whole"])].concat()
    })
    .await;
    rig.start("s1").await;
    shows(&rig.t, "s1", is_text).await;
    abort(&rig.t, "s1").await;
    let events = rig.t.ended("s1", 1).await;
    door.open();
    let message = &of_type(&events, "message_complete")[0]["message"];
    assert_eq!(message["content"], json!([{ "type": "text", "text": "half a " }]));
    assert_eq!(message["stop_reason"], "aborted");
    rig.t.stop().await;
}

/// A: done. B: running, deaf. C: running, listening. D: waits for its turn.
#[tokio::test]
async fn c02_abort_04_every_call_of_a_batch_gets_a_result() {
    let mut options = TestOptions {
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    };
    options.config.turn.parallel_calls = 2;
    let list = ["done", "deaf", "listens", "late"].map(|id| (id, id, json!({ "n": 1 })));
    let rig = Rig::new(options, calls_then_ends(list.to_vec())).await;
    let (done, late) = (
        rig.t.record("done", json!({ "ok": true })),
        rig.t.record("late", json!({})),
    );
    let door = Door::closed();
    let held = door.clone();
    rig.t.serve("deaf", move |_| {
        let held = held.clone();
        async move {
            held.pass().await;
            Ok(json!({ "ok": true }))
        }
    });
    let listening = Door::closed();
    let begun = listening.clone();
    let handler = move |_: Value, context: CallContext| {
        let begun = begun.clone();
        async move {
            begun.open();
            context.cancelled().await;
            Ok(json!({ "ok": true }))
        }
    };
    rig.t
        .bus()
        .register(FunctionDef::ad_hoc("listens", handler))
        .unwrap();
    rig.start("s1").await;
    listening.pass().await;
    assert_eq!(abort(&rig.t, "s1").await, aborted("s1", "function_execute"));
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(
        lines(&events)[3..],
        [
            "updated function_execute",
            "start done",
            "end done",
            "start deaf",
            "end deaf error",
            "start listens",
            "end listens error",
            "start late",
            "end late error",
            "complete aborted",
            "turn_end 4",
            "updated stopped",
            "agent_end"
        ]
    );
    let details: Vec<Value> = of_type(&events, "function_execution_end")
        .iter()
        .map(|end| end["result"]["details"].clone())
        .collect();
    assert_eq!(details[0], json!({ "ok": true }));
    assert_eq!(
        (&details[1]["error"], &details[2]["error"]),
        (&json!("interrupted"), &json!("interrupted"))
    );
    assert_eq!(
        details[3],
        json!({ "schema_version": 1, "status": "denied", "denied_by": "user", "function_id": "late",
            "approval_denied": true, "decision": "aborted", "reason": "session_aborted", "args_excerpt": { "n": 1 } })
    );
    let transcript = rig.transcript("s1").await;
    let roles: Vec<String> = transcript
        .iter()
        .map(|message| {
            let id = message["function_call_id"].as_str().unwrap_or_default();
            format!("{} {id}", message["role"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        roles,
        [
            "user ",
            "assistant ",
            "function_result done",
            "function_result deaf",
            "function_result listens",
            "function_result late",
            "assistant "
        ]
    );
    assert_eq!(transcript[6]["stop_reason"], "aborted");
    assert_eq!(of_type(&events, "turn_end")[0]["message"], transcript[6]);

    // A late answer changes nothing.
    door.open();
    rig.start("s1").await;
    rig.t.ended("s1", 2).await;
    assert_eq!(rig.transcript("s1").await[..7], transcript);
    assert_eq!((done.count(), late.count()), (1, 0));
    let asked = rig.stub.requests().pop().unwrap()["messages"].clone();
    let asked: Vec<String> = asked.as_array().unwrap().iter().map(said).collect();
    assert_eq!(asked.len(), 8, "the empty message is left out: {asked:?}");
    assert!(asked[6].contains("stopped"), "{asked:?}");
    rig.t.stop().await;
}

/// Field lesson: a call that hears of the stop has ended before the run does, without any timer.
#[tokio::test]
async fn c2_a_call_that_listens_is_waited_for() {
    let rig = Rig::allowing(calls_then_ends(vec![("A", "listens", json!({}))])).await;
    let (listening, heard) = (Door::closed(), Arc::new(AtomicBool::new(false)));
    let (begun, told) = (listening.clone(), Arc::clone(&heard));
    let handler = move |_: Value, context: CallContext| {
        let (begun, told) = (begun.clone(), Arc::clone(&told));
        async move {
            begun.open();
            context.cancelled().await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            told.store(true, Ordering::SeqCst);
            Ok(Value::Null)
        }
    };
    rig.t
        .bus()
        .register(FunctionDef::ad_hoc("listens", handler))
        .unwrap();
    let (sender, mut ends) = tokio::sync::mpsc::channel(1);
    rig.t.bus().tap_stream(
        "agent::events",
        Arc::new(move |item: &StreamItem| {
            if item.data["type"] == "agent_end" {
                sender.try_send(heard.load(Ordering::SeqCst)).unwrap();
            }
        }),
    );
    rig.start("s1").await;
    listening.pass().await;
    let frozen = Frozen::start();
    let now = tokio::time::Instant::now();
    abort(&rig.t, "s1").await;
    assert_eq!(ends.recv().await, Some(true));
    assert_eq!(tokio::time::Instant::now(), now);
    drop(frozen);
    tokio::time::resume();
    rig.t.stop().await;
}

async fn c02_abort_05_parked_calls_are_answered_and_late_decisions_run_nothing() {
    let list = vec![
        ("A", "ask", json!({})),
        ("B", "free", json!({})),
        ("C", "ask", json!({})),
    ];
    let rig = Rig::asking(calls_then_ends(list)).await;
    let (asked, _free) = (rig.t.record("ask", json!({})), rig.t.record("free", json!({})));
    rig.start("s1").await;
    shows(&rig.t, "s1", |event| {
        event["new_value"]["state"] == "function_awaiting_approval"
    })
    .await;
    let before = rig.t.events("s1").await.len();
    assert_eq!(
        abort(&rig.t, "s1").await,
        aborted("s1", "function_awaiting_approval")
    );
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(
        lines(&events)[before..],
        [
            "end A error",
            "end C error",
            "complete aborted",
            "turn_end 3",
            "updated stopped",
            "agent_end"
        ]
    );
    let view = rig.t.ok("turn::get_state", json!({ "session_id": "s1" })).await;
    assert_eq!(
        view,
        json!({ "session_id": "s1", "state": "stopped", "turn_count": 1 })
    );

    rig.decide("s1", "A", "allow", None).await;
    let step = rig
        .t
        .ok("turn::function_awaiting_approval", json!({ "session_id": "s1" }))
        .await;
    assert_eq!(step["reason"], "stale");
    assert_eq!(asked.count(), 0);
    assert_eq!(rig.t.events("s1").await, events);
    rig.t.stop().await;
}

/// An approved call runs while its sibling still waits.
async fn c02_abort_06_an_approved_call_under_way() {
    let rig = Rig::asking(calls_then_ends(vec![
        ("A", "slow", json!({})),
        ("B", "ask", json!({})),
    ]))
    .await;
    let (begun, door) = (Door::closed(), Door::closed());
    let (entered, held) = (begun.clone(), door.clone());
    rig.t.serve("slow", move |_| {
        let (entered, held) = (entered.clone(), held.clone());
        async move {
            entered.open();
            held.pass().await;
            Ok(json!({}))
        }
    });
    rig.start("s1").await;
    rig.t.reaches("s1", "function_awaiting_approval").await;
    rig.decide("s1", "A", "allow", None).await;
    begun.pass().await;
    assert_eq!(
        abort(&rig.t, "s1").await,
        aborted("s1", "function_awaiting_approval")
    );
    let events = rig.t.ended("s1", 1).await;
    door.open();
    let reasons: Vec<&Value> = of_type(&events, "function_execution_end")
        .iter()
        .map(|end| {
            let details = &end["result"]["details"];
            details.get("error").or_else(|| details.get("reason")).unwrap()
        })
        .collect();
    assert_eq!(reasons, ["interrupted", "session_aborted"]);
    assert_eq!(rig.t.state("approvals", "s1/A").await, Value::Null);
    rig.t.stop().await;
}

async fn c02_abort_07_a_run_that_has_not_begun_to_speak() {
    let rig = Rig::allowing(|_, _| says(&["never"])).await;
    rig.t.bus().unregister("models::get");
    let (begun, door) = (Door::closed(), Door::closed());
    let (entered, held) = (begun.clone(), door.clone());
    rig.t.serve("models::get", move |_| {
        let (entered, held) = (entered.clone(), held.clone());
        async move {
            entered.open();
            held.pass().await;
            Ok(Value::Null)
        }
    });
    rig.start("s1").await;
    begun.pass().await;
    assert_eq!(abort(&rig.t, "s1").await, aborted("s1", "provisioning"));
    let events = rig.t.ended("s1", 1).await;
    door.open();
    assert_eq!(
        lines(&events),
        [
            "created provisioning",
            "complete aborted",
            "turn_end 0",
            "updated stopped",
            "agent_end"
        ]
    );
    assert_eq!(rig.stub.requests().len(), 0);
    assert_eq!(rig.transcript("s1").await[1]["stop_reason"], "aborted");
    rig.t.stop().await;
}

/// A compaction before the model is asked may take minutes; a stop does not wait for it.
async fn c02_abort_08_during_the_look_before_the_model_is_asked() {
    let rig = Rig::allowing(|_, _| says(&["never"])).await;
    let model = json!({ "id": "m", "provider": "stub", "context_window": 10, "max_output_tokens": 5 });
    rig.t.ok("models::register", model).await;
    let (begun, door) = (Door::closed(), Door::closed());
    let (entered, held) = (begun.clone(), door.clone());
    rig.t.serve("context-compaction::compact_now", move |_| {
        let (entered, held) = (entered.clone(), held.clone());
        async move {
            entered.open();
            held.pass().await;
            Ok(json!({ "status": "ok" }))
        }
    });
    rig.start("s1").await;
    begun.pass().await;
    assert_eq!(abort(&rig.t, "s1").await, aborted("s1", "assistant_streaming"));
    rig.t.ended("s1", 1).await;
    door.open();
    assert_eq!(rig.stub.requests().len(), 0);
    rig.t.stop().await;
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

/// A step that waits for better times does not keep a stop waiting.
async fn c02_abort_12_while_a_step_waits_to_be_repeated() {
    let mut options = TestOptions {
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    };
    options.config.turn.step_backoff_ms = 60_000;
    let rig = Rig::new(options, |_, _| says(&["never"])).await;
    let model = json!({ "id": "m", "provider": "stub", "context_window": 10, "max_output_tokens": 5 });
    rig.t.ok("models::register", model).await;
    let compact = rig
        .t
        .record("context-compaction::compact_now", json!({ "status": "busy" }));
    rig.start("s1").await;
    rig.t
        .eventually(async || (compact.count() == 1).then_some(()))
        .await;
    assert_eq!(abort(&rig.t, "s1").await, aborted("s1", "assistant_streaming"));
    rig.t.ended("s1", 1).await;
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

#[tokio::test]
async fn a_call_to_an_outside_worker_is_not_waited_for() {
    let rig = Rig::allowing(calls_then_ends(vec![("A", "far::f", json!({ "x": 1 }))])).await;
    let mut worker = crate::support::ws::Ws::join(rig.t.listen().await).await;
    worker.host(&["far::f"]).await;
    rig.start("s1").await;
    let call = worker.called("far::f").await;
    assert_eq!(call["data"], json!({ "x": 1 }));
    assert_eq!(abort(&rig.t, "s1").await, aborted("s1", "function_execute"));
    let events = rig.t.ended("s1", 1).await;
    let details = &of_type(&events, "function_execution_end")[0]["result"]["details"];
    assert_eq!(details["error"], "interrupted");
    worker.answer(&call, json!({})).await;
    rig.t.stop().await;
}
