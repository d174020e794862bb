//! `turn::function_awaiting_approval`, `turn::on_approval`.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, lines, of_type, said};
use crate::support::stub::{Door, calls, calls_then_ends, says};
use crate::support::three_ways;

three_ways! {
    c02_case_28_30_pending_calls_park_and_settle_one_by_one,
    c02_case_31_aborted_settles_its_one_call,
    c02_case_32_and_c03_case_42_approve_always_releases_the_sibling,
    c02_case_33_concurrent_steps_run_a_call_once,
    c02_case_34_a_call_that_never_ran_runs_after_the_decisions,
    a_decision_made_before_the_batch_parks_counts,
    a_decision_left_over_from_an_earlier_call_approves_nothing,
    field_lesson_a10_an_approved_call_does_not_wait_for_its_running_sibling,
    field_lesson_a4_deciding_twice_runs_once,
    field_lesson_a1_a_decision_is_for_one_call_of_one_session,
}

fn three() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("A", "ask", json!({ "n": 1 })),
        ("B", "free", json!({})),
        ("C", "ask", json!({ "n": 3 })),
    ]
}

async fn c02_case_28_30_pending_calls_park_and_settle_one_by_one() {
    let rig = Rig::asking(calls_then_ends(three())).await;
    let (asked, free) = (
        rig.t.record("ask", json!({ "ran": true })),
        rig.t.record("free", json!({})),
    );
    rig.start("s1").await;
    let view = rig.t.reaches("s1", "function_awaiting_approval").await;
    let waiting: Vec<&str> = view["awaiting_approval"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["function_call_id"].as_str().unwrap())
        .collect();
    assert_eq!(waiting, ["A", "C"]);
    assert_eq!((asked.count(), free.count()), (0, 1));
    let parked = lines(&rig.t.events_once("s1", 9).await);
    assert_eq!(
        parked[4..],
        [
            "start A",
            "start B",
            "end B",
            "start C",
            "updated function_awaiting_approval [A,C]"
        ]
    );

    let checks = rig.t.calls_of("policy::check_permissions");
    rig.decide("s1", "C", "allow", None).await;
    rig.t
        .eventually(async || {
            (rig.record("s1").await["awaiting_approval"].as_array()?.len() == 1).then_some(())
        })
        .await;
    assert_eq!(asked.all(), [json!({ "n": 3 })]);
    assert_eq!(rig.t.calls_of("policy::check_permissions"), checks);
    assert_eq!(
        rig.t.state("approvals", "s1/C").await,
        Value::Null,
        "a used decision is gone"
    );
    assert_eq!(
        lines(&rig.t.events_once("s1", parked.len() + 2).await)[parked.len()..],
        ["end C", "updated function_awaiting_approval [A]"]
    );

    rig.decide("s1", "A", "deny", Some("no")).await;
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(
        lines(&events)[parked.len() + 2..][..4],
        [
            "end A error",
            "turn_end 3",
            "updated steering_check",
            "updated assistant_streaming"
        ]
    );
    let end = of_type(&events, "function_execution_end").pop().unwrap();
    assert_eq!(
        end["result"]["content"],
        json!([{ "type": "text", "text": "Permission denied by user: no" }])
    );
    let denied = &end["result"]["details"];
    assert_eq!(
        *denied,
        json!({ "schema_version": 1, "status": "denied", "denied_by": "user", "function_id": "ask",
            "approval_denied": true, "decision": "deny", "reason": "no", "args_excerpt": { "n": 1 } })
    );
    let transcript = rig.transcript("s1").await;
    assert_eq!(
        transcript[2..5]
            .iter()
            .map(|m| m["function_call_id"].clone())
            .collect::<Vec<_>>(),
        [json!("A"), json!("B"), json!("C")]
    );
    assert_eq!(rig.record("s1").await.get("work"), None);
    rig.t.stop().await;
}

async fn c02_case_31_aborted_settles_its_one_call() {
    let rig = Rig::asking(calls_then_ends(vec![("A", "ask", json!({}))])).await;
    let asked = rig.t.record("ask", json!({}));
    rig.start("s1").await;
    rig.t.reaches("s1", "function_awaiting_approval").await;
    rig.decide("s1", "A", "aborted", None).await;
    let events = rig.t.ended("s1", 1).await;
    let end = of_type(&events, "function_execution_end")[0];
    assert_eq!(
        end["result"]["content"][0]["text"],
        "Function call aborted: session_aborted"
    );
    assert_eq!(end["result"]["details"]["decision"], "aborted");
    assert_eq!(asked.count(), 0);
    assert_eq!(rig.stub.requests().len(), 2, "the run goes on");
    rig.t.stop().await;
}

async fn c02_case_32_and_c03_case_42_approve_always_releases_the_sibling() {
    let list = vec![("X", "ask", json!({ "n": 1 })), ("Y", "ask", json!({ "n": 2 }))];
    let rig = Rig::asking(calls_then_ends(list)).await;
    let asked = rig.t.record("ask", json!({}));
    rig.start("s1").await;
    rig.t.reaches("s1", "function_awaiting_approval").await;
    rig.t
        .ok(
            "approval::approve_always",
            json!({ "session_id": "s1", "function_id": "ask" }),
        )
        .await;
    rig.decide("s1", "Y", "allow", None).await;
    rig.t.ended("s1", 1).await;
    assert_eq!(asked.count(), 2);
    rig.t.stop().await;
}

async fn c02_case_33_concurrent_steps_run_a_call_once() {
    let rig = Rig::asking(calls_then_ends(vec![("A", "ask", json!({}))])).await;
    let asked = rig.t.record("ask", json!({}));
    rig.start("s1").await;
    rig.t.reaches("s1", "function_awaiting_approval").await;
    rig.t
        .set_state(
            "approvals",
            "s1/A",
            json!({ "decision": "allow", "reason": null }),
        )
        .await;
    let step = || {
        rig.t
            .call("turn::function_awaiting_approval", json!({ "session_id": "s1" }))
    };
    let replies = futures::future::join_all((0..10).map(|_| step())).await;
    rig.t.ended("s1", 1).await;
    assert_eq!(asked.count(), 1);
    for reply in replies {
        let reply = reply.unwrap();
        assert_eq!(reply["ok"], true, "{reply}");
    }
    rig.t.stop().await;
}

async fn c02_case_34_a_call_that_never_ran_runs_after_the_decisions() {
    let rig = Rig::asking(|_, _| says(&["done"])).await;
    let (asked, free) = (rig.t.record("ask", json!({})), rig.t.record("free", json!({})));
    let call = |id: &str, target: &str| json!({ "id": id, "function_id": target, "arguments": {} });
    let record = json!({
        "session_id": "s1", "state": "function_awaiting_approval", "turn_count": 1, "run_id": "r",
        "last_assistant": crate::support::stub::message(json!([]), "function_call"),
        "awaiting_approval": [{ "function_call_id": "A", "function_id": "ask", "args": {} }],
        "work": { "prepared": [{ "route": "dispatch", "call": call("A", "ask") }, { "route": "dispatch", "call": call("B", "free") }],
            "executed": {} },
    });
    rig.t.set_state("turn_state", "s1", record).await;
    rig.t
        .set_state(
            "approvals",
            "s1/A",
            json!({ "decision": "allow", "reason": null }),
        )
        .await;
    let events = rig.t.ended("s1", 1).await;
    assert!(
        lines(&events).contains(&"updated function_execute".to_owned()),
        "{:?}",
        lines(&events)
    );
    assert_eq!((asked.count(), free.count()), (1, 1));
    rig.t.stop().await;
}

async fn a_decision_made_before_the_batch_parks_counts() {
    let door = Door::closed();
    let list = vec![("A", "ask", json!({})), ("B", "free", json!({}))];
    let rig = Rig::asking(calls_then_ends(list)).await;
    let asked = rig.t.record("ask", json!({}));
    let held = door.clone();
    rig.t.serve("free", move |_| {
        let held = held.clone();
        async move {
            held.pass().await;
            Ok(Value::Null)
        }
    });
    rig.start("s1").await;
    rig.t
        .eventually(async || rig.record("s1").await["work"]["started"].get("B").map(|_| ()))
        .await;
    rig.decide("s1", "A", "allow", None).await;
    door.open();
    rig.t.ended("s1", 1).await;
    assert_eq!(asked.count(), 1);
    rig.t.stop().await;
}

async fn a_decision_left_over_from_an_earlier_call_approves_nothing() {
    let rig = Rig::asking(calls_then_ends(vec![("A", "ask", json!({}))])).await;
    let asked = rig.t.record("ask", json!({}));
    rig.decide("s1", "A", "allow", None).await;
    rig.start("s1").await;
    rig.t.reaches("s1", "function_awaiting_approval").await;
    assert_eq!(rig.t.state("approvals", "s1/A").await, Value::Null);
    assert_eq!(asked.count(), 0);
    rig.t.stop().await;
}

async fn field_lesson_a10_an_approved_call_does_not_wait_for_its_running_sibling() {
    let list = vec![
        ("A", "ask", json!({ "id": "A" })),
        ("B", "ask", json!({ "id": "B" })),
    ];
    let rig = Rig::asking(calls_then_ends(list)).await;
    let door = Door::closed();
    let held = door.clone();
    rig.t.serve("ask", move |payload| {
        let held = held.clone();
        async move {
            if payload["id"] == "A" {
                held.pass().await;
            }
            Ok(payload)
        }
    });
    rig.start("s1").await;
    rig.t.reaches("s1", "function_awaiting_approval").await;
    rig.decide("s1", "A", "allow", None).await;
    rig.t
        .eventually(async || rig.record("s1").await["work"]["started"].get("A").map(|_| ()))
        .await;
    rig.decide("s1", "B", "allow", None).await;
    rig.t
        .eventually(async || rig.record("s1").await["work"]["executed"].get("B").map(|_| ()))
        .await;
    assert_eq!(rig.record("s1").await["work"]["executed"].get("A"), None);
    door.open();
    let events = rig.t.ended("s1", 1).await;
    let ends: Vec<String> = lines(&events)
        .into_iter()
        .filter(|line| line.starts_with("end "))
        .collect();
    assert_eq!(ends, ["end B", "end A"]);
    rig.t.stop().await;
}

async fn field_lesson_a4_deciding_twice_runs_once() {
    let rig = Rig::asking(calls_then_ends(vec![("A", "ask", json!({}))])).await;
    let asked = rig.t.record("ask", json!({}));
    rig.start("s1").await;
    rig.t.reaches("s1", "function_awaiting_approval").await;
    futures::future::join_all((0..5).map(|_| rig.decide("s1", "A", "allow", None))).await;
    rig.t.ended("s1", 1).await;
    rig.decide("s1", "A", "deny", None).await;
    assert_eq!(asked.count(), 1);
    assert_eq!(
        rig.transcript("s1")
            .await
            .iter()
            .map(said)
            .collect::<Vec<_>>()
            .len(),
        4
    );
    rig.t.stop().await;
}

async fn field_lesson_a1_a_decision_is_for_one_call_of_one_session() {
    let list = [("A", "ask", json!({})), ("B", "ask", json!({}))];
    let rig = Rig::asking(move |_, request| {
        let messages = request["messages"].as_array().unwrap();
        let answered = messages
            .iter()
            .any(|message| message["role"] == "function_result");
        if answered { says(&["done"]) } else { calls(&list) }
    })
    .await;
    let asked = rig.t.record("ask", json!({}));
    for session in ["s1", "s2"] {
        rig.start(session).await;
        rig.t.reaches(session, "function_awaiting_approval").await;
    }
    let waiting = async |session: &str| {
        let view = rig
            .t
            .ok("turn::get_state", json!({ "session_id": session }))
            .await;
        let calls = view["awaiting_approval"].as_array().cloned().unwrap_or_default();
        calls
            .iter()
            .map(|call| call["function_call_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    // Neither a call that is not there nor a session that is not: nothing moves.
    rig.decide("s1", "C", "allow", None).await;
    rig.decide("s3", "A", "allow", None).await;
    for (session, call, left) in [("s1", "B", vec!["A"]), ("s2", "A", vec!["B"])] {
        let before = asked.count();
        rig.decide(session, call, "allow", None).await;
        rig.t
            .eventually(async || (waiting(session).await == left).then_some(()))
            .await;
        assert_eq!(asked.count(), before + 1);
    }
    assert_eq!(waiting("s1").await, ["A"]);
    assert_eq!(rig.record("s3").await, Value::Null);
    rig.t.stop().await;
}
