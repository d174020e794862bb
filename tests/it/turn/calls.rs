//! `turn::function_execute`: gate, dispatch, results.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, lines, of_type, said};
use crate::support::stub::{Door, calls, calls_then_ends, done, message, says};
use crate::support::{TestOptions, three_ways};

three_ways! {
    c02_case_20_an_allowed_call_runs_with_its_own_payload,
    each_call_carries_an_idempotency_key_beside_its_payload,
    c02_case_17_18_calls_without_a_target_are_answered,
    c02_case_19_payloads_given_as_text_are_read,
    c02_case_21_a_denied_call_does_not_run,
    c02_case_23_and_c03_case_36_settings_are_for_people,
    the_floor_holds_in_every_mode,
    c02_case_24_and_c03_case_37_38_settings_release_calls,
    c02_case_25_to_27_failures_are_explained,
    a_call_that_takes_too_long_has_its_own_error,
    field_lesson_c1_and_c3_calls_run_together_bounded_and_report_in_order,
    c02_case_35_executed_calls_do_not_run_again,
    field_lesson_d1_a_started_call_without_a_result_is_reported_not_repeated,
    c02_case_36_all_results_must_ask_to_end,
    c02_case_41_a_step_that_cannot_go_on_fails_the_run,
    calls_with_unusable_ids_get_usable_ones_everywhere,
}

/// The result of a call as the UI gets it.
fn result<'a>(events: &'a [Value], call: &str) -> &'a Value {
    events
        .iter()
        .find(|event| event["type"] == "function_execution_end" && event["function_call_id"] == call)
        .unwrap_or_else(|| panic!("no end of {call}"))
}

pub(super) fn details(events: &[Value], call: &str) -> Value {
    result(events, call)["result"]["details"].clone()
}

async fn c02_case_20_an_allowed_call_runs_with_its_own_payload() {
    let rig = Rig::allowing(calls_then_ends(vec![("A", "shell::run", json!({ "x": 1 }))])).await;
    let target = rig.t.record("shell::run", json!({ "ok": true }));
    let events = rig.run("s1").await;
    assert_eq!(target.all(), [json!({ "x": 1 })]);
    let end = result(&events, "A");
    assert_eq!(
        end["result"],
        json!({ "content": [{ "type": "text", "text": "{\"ok\":true}" }], "details": { "ok": true }, "terminate": false })
    );
    assert_eq!(end["is_error"], false);
    assert!(end["duration_ms"].as_i64().unwrap() >= 0);
    assert_eq!(
        lines(&events),
        [
            "created provisioning",
            "updated assistant_streaming",
            "complete function_call",
            "updated function_execute",
            "start A",
            "end A",
            "turn_end 1",
            "updated steering_check",
            "updated assistant_streaming",
            "start ",
            "text_delta done",
            "complete end",
            "updated steering_check",
            "turn_end 0",
            "updated stopped",
            "agent_end",
        ]
    );
    assert_eq!(
        rig.transcript("s1").await.iter().map(said).collect::<Vec<_>>(),
        [
            "user hi",
            "assistant calls shell::run",
            "A {\"ok\":true}",
            "assistant done"
        ]
    );
    rig.t.stop().await;
}

async fn each_call_carries_an_idempotency_key_beside_its_payload() {
    let rig = Rig::allowing(calls_then_ends(vec![("A", "f", json!({}))])).await;
    let seen = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&seen);
    rig.t.serve_with_metadata("f", move |_, metadata| {
        *kept.lock().unwrap() = metadata;
        std::future::ready(Ok(Value::Null))
    });
    rig.run("s1").await;
    let run_id = rig.record("s1").await["run_id"].as_str().unwrap().to_owned();
    let metadata = seen.lock().unwrap().clone().unwrap();
    assert_eq!(metadata["idempotency_key"], format!("s1/{run_id}/1/A"));
    rig.t.stop().await;
}

async fn c02_case_17_18_calls_without_a_target_are_answered() {
    let answer = |number: usize, _: &Value| {
        if number > 0 {
            return says(&["done"]);
        }
        let block = |id: &str, name: &str, arguments: Value| json!({ "type": "function_call", "id": id, "function_id": name, "arguments": arguments });
        vec![done(message(
            json!([
                block("A", "agent_trigger", json!({})),
                block("B", "shell::run", json!({ "x": 1 })),
                block("C", "agent_trigger", Value::Null),
            ]),
            "function_call",
        ))]
    };
    let rig = Rig::allowing(answer).await;
    let target = rig.t.record("shell::run", json!({}));
    let events = rig.run("s1").await;
    assert_eq!(details(&events, "A")["error"], "missing_function");
    assert_eq!(details(&events, "B")["error"], "missing_function");
    assert_eq!(details(&events, "C")["error"], "invalid_arguments");
    assert!(
        ["A", "B", "C"]
            .iter()
            .all(|call| result(&events, call)["is_error"] == true)
    );
    assert_eq!(target.count(), 0);
    rig.t.stop().await;
}

async fn c02_case_19_payloads_given_as_text_are_read() {
    let list = vec![("A", "f", json!("{\"a\":1}")), ("B", "f", json!("hello"))];
    let rig = Rig::allowing(calls_then_ends(list)).await;
    let target = rig.t.record("f", json!({}));
    rig.run("s1").await;
    let mut seen: Vec<String> = target.all().iter().map(Value::to_string).collect();
    seen.sort();
    assert_eq!(seen, ["\"hello\"", "{\"a\":1}"]);
    rig.t.stop().await;
}

async fn c02_case_21_a_denied_call_does_not_run() {
    let rules = "rules:\n  - rule_id: r1\n    function: f\n    action: deny\n    args: { path: { matches: '^/$' } }\n";
    let options = TestOptions {
        rules: Some(rules),
        ..TestOptions::default()
    };
    let rig = Rig::new(
        options,
        calls_then_ends(vec![("A", "f", json!({ "path": "/", "token": "t" }))]),
    )
    .await;
    let target = rig.t.record("f", json!({}));
    let events = rig.run("s1").await;
    let denied = details(&events, "A");
    assert_eq!(denied["status"], "denied");
    assert_eq!(denied["denied_by"], "permissions");
    assert_eq!(denied["rule_id"], "r1");
    assert_eq!(
        denied["matched_constraint"],
        json!({ "field": "path", "operator": "matches", "value": "^/$" })
    );
    assert_eq!(
        denied["args_excerpt"],
        json!({ "path": "/", "token": "<redacted>" })
    );
    assert_eq!(result(&events, "A")["is_error"], true);
    assert_eq!(target.count(), 0);
    rig.t.stop().await;
}

#[tokio::test]
async fn c02_case_22_and_c03_case_39_an_unreachable_policy_denies() {
    let rig = Rig::allowing(calls_then_ends(vec![("A", "f", json!({}))])).await;
    let target = rig.t.record("f", json!({}));
    rig.t.bus().unregister("policy::check_permissions");
    let events = rig.run("s1").await;
    let denied = details(&events, "A");
    assert_eq!(denied["denied_by"], "gate_unavailable");
    assert_eq!(denied["schema_version"], 1);
    assert!(
        denied["reason"]
            .as_str()
            .unwrap()
            .starts_with("policy unreachable: "),
        "{denied}"
    );
    assert_eq!(target.count(), 0);
    assert_eq!(lines(&events).last().unwrap(), "agent_end");
    rig.t.stop().await;
}

#[tokio::test]
async fn c02_case_22_an_unclean_answer_of_the_policy_waits_for_a_person() {
    let rig = Rig::allowing(calls_then_ends(vec![("A", "f", json!({}))])).await;
    rig.t.bus().unregister("policy::check_permissions");
    rig.t.record(
        "policy::check_permissions",
        json!({ "decision": "allow", "rule_id": 7 }),
    );
    rig.start("s1").await;
    rig.t.reaches("s1", "function_awaiting_approval").await;
    rig.t.stop().await;
}

async fn c02_case_23_and_c03_case_36_settings_are_for_people() {
    let rig = Rig::allowing(calls_then_ends(vec![(
        "A",
        "approval::set_mode",
        json!({ "mode": "full" }),
    )]))
    .await;
    rig.t
        .ok(
            "approval::set_mode",
            json!({ "session_id": "s1", "mode": "full" }),
        )
        .await;
    let checks = rig.t.calls_of("policy::check_permissions");
    let reads = rig.t.calls_of("approval::get_settings");
    let events = rig.run("s1").await;
    assert_eq!(details(&events, "A")["rule_id"], "human_only_function");
    assert_eq!(rig.t.calls_of("policy::check_permissions"), checks);
    assert_eq!(rig.t.calls_of("approval::get_settings"), reads);
    rig.t.stop().await;
}

async fn the_floor_holds_in_every_mode() {
    let list = vec![
        ("A", "run::start", json!({})),
        (
            "B",
            "approval::resolve",
            json!({ "session_id": "s1", "function_call_id": "x", "decision": "allow" }),
        ),
        (
            "C",
            "state::set",
            json!({ "scope": "approvals", "key": "s1/x", "value": {} }),
        ),
        ("D", "state::get", json!({ "scope": "approvals", "key": "s1/x" })),
    ];
    let rig = Rig::allowing(calls_then_ends(list)).await;
    rig.t
        .ok(
            "approval::set_mode",
            json!({ "session_id": "s1", "mode": "full" }),
        )
        .await;
    let events = rig.run("s1").await;
    for call in ["A", "B", "C"] {
        assert_eq!(details(&events, call)["rule_id"], "human_only_function", "{call}");
    }
    assert_eq!(result(&events, "D")["is_error"], false);
    rig.t.stop().await;
}

async fn c02_case_24_and_c03_case_37_38_settings_release_calls() {
    let rules = "rules: ['!f']";
    let options = || TestOptions {
        rules: Some(rules),
        ..TestOptions::default()
    };
    for (mode, list, runs) in [
        ("full", None, true),
        ("auto", Some("approval::add_always_allow"), true),
        ("manual", Some("approval::add_always_allow"), false),
        ("manual", Some("approval::approve_always"), true),
    ] {
        let rig = Rig::new(options(), calls_then_ends(vec![("A", "f", json!({}))])).await;
        let target = rig.t.record("f", json!({}));
        rig.t
            .ok("approval::set_mode", json!({ "session_id": "s1", "mode": mode }))
            .await;
        if let Some(list) = list {
            rig.t
                .ok(list, json!({ "session_id": "s1", "function_id": "f" }))
                .await;
        }
        rig.run("s1").await;
        assert_eq!(target.count(), usize::from(runs), "{mode} {list:?}");
        assert_eq!(
            rig.t.calls_of("policy::check_permissions"),
            u64::from(!runs),
            "{mode} {list:?}"
        );
        rig.t.stop().await;
    }
}

async fn c02_case_25_to_27_failures_are_explained() {
    let list = vec![
        ("A", "misspelled", json!({})),
        ("B", "boom", json!({})),
        ("C", "picky", json!({})),
        ("D", "broke", json!({})),
    ];
    let rig = Rig::allowing(calls_then_ends(list)).await;
    let fails = |id: &str, error: Error| rig.t.serve(id, move |_| std::future::ready(Err(error.clone())));
    fails(
        "boom",
        Error::invalid(r#"handler error: {"code":"S211","message":"m"}"#),
    );
    fails(
        "picky",
        Error::invalid("serialization error: missing field \"path\""),
    );
    fails("broke", Error::coded("S9", "disk full"));
    let events = rig.run("s1").await;
    assert_eq!(details(&events, "A")["error"], "function_not_found");
    assert!(
        !details(&events, "A")["hint"]
            .as_str()
            .unwrap()
            .contains("Did you mean")
    );
    assert_eq!(
        details(&events, "B"),
        json!({ "error": "handler_error", "code": "S211", "message": "m" })
    );
    assert_eq!(details(&events, "C")["error"], "invalid_arguments");
    assert_eq!(details(&events, "C")["contract"]["function_id"], "picky");
    assert_eq!(
        details(&events, "D"),
        json!({ "error": "call_failed", "function": "broke", "code": "S9", "message": "disk full" })
    );
    let text = result(&events, "D")["result"]["content"][0]["text"]
        .as_str()
        .unwrap();
    assert_eq!(text, details(&events, "D").to_string());
    rig.t.stop().await;
}

async fn a_call_that_takes_too_long_has_its_own_error() {
    let mut options = TestOptions {
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    };
    options.config.turn.call_timeout_ms = 20;
    let rig = Rig::new(options, calls_then_ends(vec![("A", "slow", json!({}))])).await;
    let door = Door::closed();
    let held = door.clone();
    rig.t.serve("slow", move |_| {
        let held = held.clone();
        async move {
            held.pass().await;
            Ok(Value::Null)
        }
    });
    let events = rig.run("s1").await;
    assert_eq!(details(&events, "A")["error"], "timeout");
    door.open();
    rig.t.stop().await;
}

#[tokio::test]
async fn a_panicking_target_is_a_failed_call() {
    let rig = Rig::allowing(calls_then_ends(vec![("A", "bad", json!({}))])).await;
    rig.t.serve("bad", |_| async { panic!("on purpose") });
    let events = rig.run("s1").await;
    assert_eq!(details(&events, "A")["error"], "call_failed");
    rig.t.stop().await;
}

async fn field_lesson_c1_and_c3_calls_run_together_bounded_and_report_in_order() {
    let list: Vec<_> = [("A"), ("B"), ("C"), ("D")]
        .map(|id| (id, "f", json!({ "id": id })))
        .to_vec();
    let mut options = TestOptions {
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    };
    options.config.turn.parallel_calls = 3;
    let rig = Rig::new(options, calls_then_ends(list)).await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let doors = Arc::new(["A", "B", "C", "D"].map(|id| (id, Door::closed())));
    let (now, peak, held) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&doors));
    rig.t.serve("f", move |payload| {
        let (now, peak, held) = (Arc::clone(&now), Arc::clone(&peak), Arc::clone(&held));
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let door = held.iter().find(|(id, _)| payload["id"] == *id).unwrap();
            door.1.pass().await;
            now.fetch_sub(1, Ordering::SeqCst);
            if payload["id"] == "B" {
                Err(Error::invalid("B failed"))
            } else {
                Ok(payload)
            }
        }
    });
    rig.start("s1").await;
    rig.t
        .eventually(async || (running.load(Ordering::SeqCst) == 3).then_some(()))
        .await;
    for id in ["C", "B"] {
        doors.iter().find(|(door, _)| *door == id).unwrap().1.open();
    }
    rig.t
        .eventually(async || {
            let executed = rig.record("s1").await["work"]["executed"].clone();
            (executed.get("C").is_some() && executed.get("B").is_some()).then_some(())
        })
        .await;
    let seen = lines(&rig.t.events("s1").await);
    assert_eq!(
        seen.iter().filter(|line| line.starts_with("end ")).count(),
        0,
        "{seen:?}"
    );
    for id in ["D", "A"] {
        doors.iter().find(|(door, _)| *door == id).unwrap().1.open();
    }
    let events = rig.t.ended("s1", 1).await;
    let pairs: Vec<String> = lines(&events)
        .into_iter()
        .filter(|line| (line.starts_with("start ") && line.len() > 6) || line.starts_with("end "))
        .collect();
    assert_eq!(
        pairs,
        [
            "start A",
            "end A",
            "start B",
            "end B error",
            "start C",
            "end C",
            "start D",
            "end D"
        ]
    );
    assert_eq!(most.load(Ordering::SeqCst), 3);
    let results: Vec<String> = rig.transcript("s1").await[2..6]
        .iter()
        .map(|m| m["function_call_id"].to_string())
        .collect();
    assert_eq!(results, ["\"A\"", "\"B\"", "\"C\"", "\"D\""]);
    rig.t.stop().await;
}

async fn c02_case_35_executed_calls_do_not_run_again() {
    let rig = Rig::allowing(|_, _| says(&["done"])).await;
    let target = rig.t.record("f", json!({}));
    let call = |id: &str| json!({ "id": id, "function_id": "f", "arguments": {} });
    let assistant = message(json!([]), "function_call");
    let executed = json!({ "call": call("fc-1"), "result": { "content": [], "details": {}, "terminate": false },
        "is_error": false, "duration_ms": 1 });
    let record = json!({
        "session_id": "s1", "state": "function_execute", "turn_count": 1, "last_assistant": assistant,
        "function_results": [], "turn_end_emitted": false, "awaiting_approval": [], "run_id": "r",
        "started_at_ms": 1, "updated_at_ms": 1,
        "work": { "prepared": [{ "route": "dispatch", "call": call("fc-1") }, { "route": "pre_approved", "call": call("fc-2") }],
            "executed": { "fc-1": executed } },
    });
    for _ in 0..2 {
        rig.t.set_state("turn_state", "s1", record.clone()).await;
        let reply = rig
            .t
            .ok("turn::function_execute", json!({ "session_id": "s1" }))
            .await;
        assert_eq!(
            reply,
            json!({ "ok": true, "from_state": "function_execute", "to_state": "steering_check" })
        );
        // The last that is written of a run, which must not meet the record below.
        rig.t
            .eventually(async || (rig.record("s1").await["agent_end_emitted"] == true).then_some(()))
            .await;
    }
    assert_eq!(target.count(), 2, "fc-2 once per repetition, fc-1 never");
    let results = rig
        .transcript("s1")
        .await
        .iter()
        .filter(|m| m["role"] == "function_result")
        .count();
    assert_eq!(results, 2, "one result per call although finalised twice");
    rig.t.stop().await;
}

async fn field_lesson_d1_a_started_call_without_a_result_is_reported_not_repeated() {
    let rig = Rig::allowing(|_, _| says(&["done"])).await;
    let (plain, listed) = (rig.t.record("f", json!({})), rig.t.record("safe::f", json!({})));
    rig.t
        .reconfigure(|config| config.turn.retry_safe = vec!["safe::*".into()]);
    let call = |id: &str, target: &str| json!({ "id": id, "function_id": target, "arguments": {} });
    let record = json!({
        "session_id": "s1", "state": "function_execute", "turn_count": 1, "awaiting_approval": [], "run_id": "r",
        "last_assistant": message(json!([]), "function_call"),
        "work": { "prepared": [{ "route": "dispatch", "call": call("A", "f") }, { "route": "dispatch", "call": call("B", "safe::f") }],
            "executed": {}, "started": { "A": 1, "B": 1 } },
    });
    rig.t.set_state("turn_state", "s1", record).await;
    rig.t
        .ok("turn::function_execute", json!({ "session_id": "s1" }))
        .await;
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(details(&events, "A")["error"], "interrupted");
    assert_eq!(result(&events, "A")["is_error"], true);
    assert_eq!((plain.count(), listed.count()), (0, 1));
    rig.t.stop().await;
}

async fn c02_case_36_all_results_must_ask_to_end() {
    let ends = json!({ "content": [{ "type": "text", "text": "x" }], "terminate": true });
    for (second, turns) in [(ends.clone(), 1), (json!({}), 2)] {
        let rig = Rig::allowing(calls_then_ends(vec![
            ("A", "f", json!({})),
            ("B", "g", json!({})),
        ]))
        .await;
        rig.t.record("f", ends.clone());
        rig.t.record("g", second);
        let events = rig.run("s1").await;
        assert_eq!(rig.stub.requests().len(), turns);
        assert_eq!(of_type(&events, "agent_end").len(), 1);
        rig.t.stop().await;
    }
}

async fn c02_case_41_a_step_that_cannot_go_on_fails_the_run() {
    let rig = Rig::allowing(|_, _| says(&["done"])).await;
    let record = json!({
        "session_id": "s1", "state": "function_execute", "turn_count": 1, "awaiting_approval": [],
        "last_assistant": message(json!([]), "function_call"), "work": { "prepared": "odd", "executed": {} },
    });
    rig.t.set_state("turn_state", "s1", record).await;
    let reply = rig
        .t
        .ok("turn::function_execute", json!({ "session_id": "s1" }))
        .await;
    assert_eq!(
        reply,
        json!({ "ok": true, "from_state": "function_execute", "to_state": "failed" })
    );
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(lines(&events), ["updated failed", "complete error", "agent_end"]);
    let error = rig.record("s1").await["error"].clone();
    assert_eq!(
        error,
        json!({ "kind": "transition_error", "message": "from function_execute: record has no work" })
    );
    assert_eq!(events[1]["message"]["error_message"], error["message"]);
    assert_eq!(events[1]["body_streamed"], false);
    assert_eq!(rig.transcript("s1").await.last().unwrap()["stop_reason"], "error");
    rig.t.stop().await;
}

async fn calls_with_unusable_ids_get_usable_ones_everywhere() {
    let answer = |number: usize, _: &Value| {
        if number == 0 {
            calls(&[
                ("", "f", json!({})),
                ("a/b", "f", json!({})),
                ("a_b", "f", json!({})),
            ])
        } else {
            says(&["done"])
        }
    };
    let rig = Rig::allowing(answer).await;
    rig.t.record("f", json!({}));
    let events = rig.run("s1").await;
    let ids: Vec<Value> = of_type(&events, "function_execution_end")
        .iter()
        .map(|e| e["function_call_id"].clone())
        .collect();
    assert_eq!(ids, [json!("call-1-1"), json!("a_b"), json!("a_b-2")]);
    let transcript = rig.transcript("s1").await;
    let asked: Vec<Value> = transcript[1]["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b["id"].clone())
        .collect();
    let answered: Vec<Value> = transcript[2..5]
        .iter()
        .map(|m| m["function_call_id"].clone())
        .collect();
    assert_eq!((asked.clone(), answered), (ids.clone(), ids));
    rig.t.stop().await;
}
