//! `approval::resolve`.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{failed, ok, refused, rig};
use crate::support::three_ways;

three_ways! {
    c03_case_01_a_decision_is_stored,
    c03_case_02_a_missing_reason_is_null,
    c03_cases_03_to_06_bad_payloads_write_nothing,
    c03_case_07_aborted_is_a_decision,
    c03_case_09_unknown_ids_are_accepted_and_the_last_decision_wins,
    a1_every_decision_stays_with_its_call,
}

async fn c03_case_01_a_decision_is_stored() {
    let rig = rig().await;
    let request = json!({"session_id": "s1", "function_call_id": "fc-1", "decision": "deny", "reason": "no"});
    assert_eq!(rig.resolve(request).await, ok());
    assert_eq!(
        rig.state("approvals", "s1/fc-1").await,
        json!({"decision": "deny", "reason": "no"})
    );
}

async fn c03_case_02_a_missing_reason_is_null() {
    let rig = rig().await;
    let request = json!({"session_id": "s1", "function_call_id": "fc-1", "decision": "deny", "x": [1]});
    assert_eq!(rig.resolve(request).await, ok());
    assert_eq!(
        rig.state("approvals", "s1/fc-1").await,
        json!({"decision": "deny", "reason": null})
    );
}

async fn c03_cases_03_to_06_bad_payloads_write_nothing() {
    let rig = rig().await;
    for request in [
        json!({"session_id": "a/b", "function_call_id": "f", "decision": "allow"}),
        json!({"session_id": "s", "function_call_id": "x/y", "decision": "allow"}),
        json!({"session_id": "s", "function_call_id": "f", "decision": "maybe"}),
        json!({"session_id": "s", "function_call_id": "f", "decision": "ALLOW"}),
        json!({"session_id": "s", "function_call_id": "f", "decision": ["allow"]}),
        json!({"session_id": "s", "function_call_id": "f", "decision": "allow", "reason": 7}),
        json!({"session_id": "", "function_call_id": "f", "decision": "allow"}),
        json!({"session_id": 1, "function_call_id": "f", "decision": "allow"}),
        json!({"session_id": "s", "tool_call_id": "t", "decision": "allow"}),
        json!({"body": {"session_id": "s", "function_call_id": "f", "decision": "allow"}}),
        json!({}),
        json!(null),
        json!("allow"),
        json!([]),
        json!(7),
        json!({"session_id": "s", "function_call_id": "f", "decision": "allow", "x": "y".repeat(17 * 1024 * 1024)}),
    ] {
        assert_eq!(rig.resolve(request).await, failed("invalid_payload"));
    }
    assert_eq!(rig.decisions().await, json!([]));
}

/// No client can write such a payload; another worker of this process can make one.
#[tokio::test]
async fn c03_case_04_a_very_deep_payload_writes_nothing() {
    let rig = rig().await;
    let deep = (0..100_000).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    assert_eq!(rig.resolve(deep).await, failed("invalid_payload"));
    assert_eq!(rig.decisions().await, json!([]));
}

async fn c03_case_07_aborted_is_a_decision() {
    let rig = rig().await;
    let request =
        json!({"session_id": "s1", "function_call_id": "fc-1", "decision": "aborted", "reason": null});
    assert_eq!(rig.resolve(request).await, ok());
    assert_eq!(
        rig.state("approvals", "s1/fc-1").await,
        json!({"decision": "aborted", "reason": null})
    );
}

#[tokio::test]
async fn c03_case_08_a_refused_write_is_told() {
    let rig = rig().await;
    rig.record_with("state::set", refused);
    let request = json!({"session_id": "s1", "function_call_id": "fc-1", "decision": "allow"});
    assert_eq!(rig.resolve(request).await, failed("resume_failed"));
}

async fn c03_case_09_unknown_ids_are_accepted_and_the_last_decision_wins() {
    let rig = rig().await;
    for decision in ["allow", "deny"] {
        let request = json!({"session_id": "nobody", "function_call_id": "never", "decision": decision});
        assert_eq!(rig.resolve(request).await, ok());
    }
    assert_eq!(
        rig.decisions().await,
        json!([{"decision": "deny", "reason": null}])
    );
}

#[tokio::test]
async fn c03_case_10_one_state_write_and_nothing_else() {
    let rig = rig().await;
    let [writes, events, woken] = ["state::set", "stream::set", "turn::function_awaiting_approval"]
        .map(|id| rig.record(id, Value::Null));
    let request = json!({"session_id": "s", "function_call_id": "f", "decision": "allow"});
    assert_eq!(rig.resolve(request).await, ok());
    let write = json!({"scope": "approvals", "key": "s/f", "value": {"decision": "allow", "reason": null}});
    assert_eq!(writes.all(), [write]);
    assert_eq!((events.count(), woken.count()), (0, 0));
}

async fn a1_every_decision_stays_with_its_call() {
    let rig = rig().await;
    let calls = [
        ("s1", "a", "allow"),
        ("s1", "b", "deny"),
        ("s2", "a", "aborted"),
        ("s2", "b", "allow"),
    ];
    for (session_id, call_id, decision) in calls {
        rig.resolve(json!({"session_id": session_id, "function_call_id": call_id, "decision": decision}))
            .await;
    }
    for (session_id, call_id, decision) in calls {
        let row = rig.state("approvals", &format!("{session_id}/{call_id}")).await;
        assert_eq!(row["decision"], decision);
    }
}
