//! What runs is what was shown: the hash of a parked call.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::asks_each_run;
use crate::turn::{Rig, of_type};

fn one() -> Vec<(&'static str, &'static str, Value)> {
    vec![("A", "ask", json!({ "path": "/srv", "token": "t" }))]
}

fn ok() -> Value {
    json!({ "ok": true })
}

fn refused() -> Value {
    json!({ "ok": false, "error": "call_changed" })
}

fn still_parked() -> Value {
    json!({ "ok": true, "from_state": "function_awaiting_approval", "to_state": "function_awaiting_approval" })
}

#[tokio::test]
async fn every_parked_call_shows_its_own_hash_wherever_it_is_listed() {
    let list = vec![
        ("A", "ask", json!({ "n": 1 })),
        ("B", "ask", json!({ "n": 1 })),
        ("C", "ask", json!({ "n": 2 })),
    ];
    let rig = Rig::asking(asks_each_run(list)).await;
    let mut hashes = Vec::new();
    for session in ["s1", "s2"] {
        let waiting = rig.parked(session).await;
        let events = rig.t.events(session).await;
        let shown = of_type(&events, "turn_state_changed").pop().unwrap();
        assert_eq!(shown["new_value"]["awaiting_approval"], json!(waiting));
        assert_eq!(rig.record(session).await["awaiting_approval"], json!(waiting));
        for call in waiting {
            let hash = call["call_hash"].as_str().unwrap().to_owned();
            assert!(
                hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{hash}"
            );
            hashes.push(hash);
        }
    }
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 6, "one call, one hash");
    rig.t.stop().await;
}

#[tokio::test]
async fn a_decision_with_the_hash_that_was_shown_counts() {
    let rig = Rig::asking(asks_each_run(one())).await;
    let asked = rig.t.record("ask", json!({}));
    let waiting = rig.parked("s1").await;
    assert_eq!(rig.allow_seen("s1", &waiting[0]["call_hash"]).await, ok());
    rig.t.ended("s1", 1).await;
    // Field lesson A7: what runs is not redacted.
    assert_eq!(asked.all(), [json!({ "path": "/srv", "token": "t" })]);
    assert_eq!(rig.t.state("approvals", "s1/A").await, Value::Null);
    rig.t.stop().await;
}

#[tokio::test]
async fn a_decision_with_another_hash_is_refused_and_nothing_is_written() {
    let rig = Rig::asking(asks_each_run(one())).await;
    let asked = rig.t.record("ask", json!({}));
    let waiting = rig.parked("s1").await;
    assert_eq!(rig.allow_seen("s1", &json!("0".repeat(64))).await, refused());
    assert_eq!(rig.allow_seen("s1", &json!("")).await, refused());
    for odd in [json!(7), json!([]), json!({}), json!(true)] {
        assert_eq!(
            rig.allow_seen("s1", &odd).await,
            json!({ "ok": false, "error": "invalid_payload" })
        );
    }
    assert_eq!(rig.t.state("approvals", "s1/A").await, Value::Null);
    assert_eq!(rig.look("s1").await, still_parked());
    assert_eq!((asked.count(), rig.waiting("s1").await), (0, waiting.clone()));
    // Null is as good as absent.
    assert_eq!(rig.allow_seen("s1", &Value::Null).await, ok());
    rig.t.ended("s1", 1).await;
    assert_eq!(asked.count(), 1);
    rig.t.stop().await;
}

#[tokio::test]
async fn a_row_with_another_hash_approves_nothing_however_it_came_there() {
    let rig = Rig::asking(asks_each_run(one())).await;
    let asked = rig.t.record("ask", json!({}));
    rig.parked("s1").await;
    let row = json!({ "decision": "allow", "reason": null, "call_hash": "0".repeat(64) });
    rig.t.set_state("approvals", "s1/A", row).await;
    assert_eq!(rig.look("s1").await, still_parked());
    assert_eq!(asked.count(), 0);
    rig.decide("s1", "A", "allow", None).await;
    rig.t.ended("s1", 1).await;
    assert_eq!(asked.count(), 1);
    rig.t.stop().await;
}

#[tokio::test]
async fn a2_a_call_that_was_changed_after_it_was_shown_does_not_run() {
    for (member, value, mode) in [
        ("args", json!({ "path": "/" }), "manual"),
        ("function_id", json!("other"), "manual"),
        ("args", json!({ "path": "/" }), "full"),
    ] {
        let rig = Rig::asking(asks_each_run(one())).await;
        let (asked, other) = (rig.t.record("ask", json!({})), rig.t.record("other", json!({})));
        rig.parked("s1").await;
        assert_eq!(rig.look("s1").await, still_parked());
        let mut record = rig.record("s1").await;
        record["awaiting_approval"][0][member] = value;
        rig.t.set_state("turn_state", "s1", record).await;
        if mode == "full" {
            let request = json!({ "session_id": "s1", "mode": "full" });
            rig.t.ok("approval::set_mode", request).await;
        } else {
            rig.decide("s1", "A", "allow", None).await;
        }
        let events = rig.t.ended("s1", 1).await;
        let end = of_type(&events, "function_execution_end")[0];
        assert_eq!(
            (&end["result"]["details"]["error"], &end["is_error"]),
            (&json!("call_changed"), &json!(true))
        );
        assert_eq!((asked.count(), other.count()), (0, 0));
        rig.t.stop().await;
    }
}

#[tokio::test]
async fn the_hash_of_the_last_run_is_refused_for_the_same_call_of_the_next() {
    let rig = Rig::asking(asks_each_run(one())).await;
    let asked = rig.t.record("ask", json!({}));
    let first = rig.parked("s1").await[0]["call_hash"].clone();
    assert_eq!(rig.allow_seen("s1", &first).await, ok());
    rig.t.ended("s1", 1).await;
    let second = rig.parked("s1").await[0]["call_hash"].clone();
    assert_eq!(rig.allow_seen("s1", &first).await, refused());
    assert_eq!(rig.look("s1").await, still_parked());
    assert_eq!(asked.count(), 1);
    assert_eq!(rig.allow_seen("s1", &second).await, ok());
    rig.t.ended("s1", 2).await;
    assert_eq!(asked.count(), 2);
    rig.t.stop().await;
}

#[tokio::test]
async fn a_hash_for_a_call_that_does_not_wait_is_stored_with_the_decision() {
    let rig = Rig::asking(asks_each_run(one())).await;
    assert_eq!(rig.allow_seen("nobody", &json!("abc")).await, ok());
    assert_eq!(
        rig.t.state("approvals", "nobody/A").await,
        json!({ "decision": "allow", "reason": null, "call_hash": "abc" })
    );
    rig.t.stop().await;
}
