//! Changes of settings release parked calls at once, without any decision (contract 03 weakness 3), and end with their
//! session (weakness 15).

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::asks_each_run;
use crate::support::bus::Recorded;
use crate::turn::Rig;

fn one() -> Vec<(&'static str, &'static str, Value)> {
    vec![("A", "ask", json!({}))]
}

async fn change(rig: &Rig, function: &str, session: &str, mut request: Value) {
    request["session_id"] = json!(session);
    let answer = rig.t.ok(function, request).await;
    assert_eq!(answer.get("ok"), None, "{answer}");
}

async fn default_mode(rig: &Rig, mode: &str) {
    let value = json!({ "permissions": { "default_mode": mode }, "providers": {} });
    rig.t
        .ok("configuration::set", json!({ "id": "harness", "value": value }))
        .await;
    rig.t
        .eventually(async || {
            let settings = rig
                .t
                .ok("approval::get_settings", json!({ "session_id": "fresh" }))
                .await;
            (settings["mode"] == mode).then_some(())
        })
        .await;
}

#[tokio::test]
async fn every_change_that_allows_a_parked_call_releases_it() {
    let ask = || json!({ "function_id": "ask" });
    let mode = |mode: &str| json!({ "mode": mode });
    let (set, add) = ("approval::set_mode", "approval::add_always_allow");
    for steps in [
        vec![(set, mode("full"))],
        vec![(add, ask()), (set, mode("auto"))],
        vec![(set, mode("auto")), (add, ask())],
        vec![("approval::approve_always", ask())],
    ] {
        let rig = Rig::asking(asks_each_run(one())).await;
        let asked = rig.t.record("ask", json!({}));
        for session in ["s1", "s2"] {
            rig.parked(session).await;
        }
        let (last, first) = steps.split_last().unwrap();
        for (function, request) in first {
            change(&rig, function, "s1", request.clone()).await;
            rig.look("s1").await;
            assert_eq!(asked.count(), 0, "{function} {request}");
        }
        change(&rig, last.0, "s1", last.1.clone()).await;
        rig.t.ended("s1", 1).await;
        // The other session is as it was.
        rig.look("s2").await;
        assert_eq!((asked.count(), rig.waiting("s2").await.len()), (1, 1));
        rig.t.stop().await;
    }
}

#[tokio::test]
async fn changes_that_allow_nothing_release_nothing() {
    let rig = Rig::asking(asks_each_run(one())).await;
    let asked = rig.t.record("ask", json!({}));
    rig.parked("s1").await;
    for (function, request) in [
        ("approval::set_mode", json!({ "mode": "auto" })),
        (
            "approval::add_always_allow",
            json!({ "function_id": "ask::more" }),
        ),
        ("approval::approve_always", json!({ "function_id": "as" })),
        ("approval::set_mode", json!({ "mode": "manual" })),
        ("approval::add_always_allow", json!({ "function_id": "ask" })),
        ("approval::remove_always_allow", json!({ "function_id": "ask" })),
        ("approval::set_mode", json!({ "mode": "auto" })),
    ] {
        change(&rig, function, "s1", request).await;
        rig.look("s1").await;
    }
    assert_eq!((asked.count(), rig.waiting("s1").await.len()), (0, 1));
    rig.t.stop().await;
}

#[tokio::test]
async fn the_default_mode_releases_sessions_that_never_chose_one() {
    let rig = Rig::asking(asks_each_run(one())).await;
    let asked = rig.t.record("ask", json!({}));
    for session in ["follows", "chose", "left"] {
        rig.parked(session).await;
    }
    for session in ["chose", "left"] {
        change(&rig, "approval::set_mode", session, json!({ "mode": "manual" })).await;
    }
    default_mode(&rig, "full").await;
    rig.t.ended("follows", 1).await;
    for session in ["chose", "left"] {
        rig.look(session).await;
    }
    assert_eq!(asked.count(), 1);
    // Without a choice of its own the default is in force again.
    rig.t
        .ok("approval::clear_settings", json!({ "session_id": "left" }))
        .await;
    rig.t.ended("left", 1).await;
    rig.look("chose").await;
    assert_eq!((asked.count(), rig.waiting("chose").await.len()), (2, 1));
    rig.t.stop().await;
}

#[tokio::test]
async fn changes_at_once_lose_nothing_and_release_what_they_allow() {
    let list = vec![
        ("A", "one", json!({})),
        ("B", "two", json!({})),
        ("C", "three", json!({})),
    ];
    let rig = Rig::asking(asks_each_run(list)).await;
    let ran: Vec<_> = ["one", "two", "three"]
        .map(|id| rig.t.record(id, json!({})))
        .into();
    rig.parked("s1").await;
    tokio::join!(
        change(&rig, "approval::set_mode", "s1", json!({ "mode": "auto" })),
        change(
            &rig,
            "approval::add_always_allow",
            "s1",
            json!({ "function_id": "one" })
        ),
        change(
            &rig,
            "approval::approve_always",
            "s1",
            json!({ "function_id": "two" })
        ),
        rig.decide("s1", "C", "allow", None),
    );
    rig.t.ended("s1", 1).await;
    assert_eq!(ran.iter().map(Recorded::count).collect::<Vec<_>>(), [1, 1, 1]);
    rig.t.stop().await;
}

#[tokio::test]
async fn weakness_15_settings_and_decisions_end_with_their_session() {
    let rig = Rig::asking(asks_each_run(one())).await;
    // Of a session that is over when its last batch is decided on once more, and one that is not.
    let record = json!({
        "state": "stopped",
        "awaiting_approval": [{ "function_call_id": "A", "function_id": "ask" }],
        "function_results": [{ "function_call_id": "B" }],
    });
    for session in ["gone", "stays"] {
        rig.t.set_state("turn_state", session, record.clone()).await;
        for call in ["A", "B"] {
            rig.decide(session, call, "allow", None).await;
        }
        change(&rig, "approval::set_mode", session, json!({ "mode": "full" })).await;
    }
    let row = json!({ "scope": "turn_state", "key": "gone" });
    rig.t.ok("state::delete", row).await;
    rig.t
        .eventually(async || {
            let rows = [
                rig.t.state("approval_settings", "gone").await,
                rig.t.state("approvals", "gone/A").await,
                rig.t.state("approvals", "gone/B").await,
            ];
            rows.iter().all(Value::is_null).then_some(())
        })
        .await;
    assert_eq!(rig.t.state("approval_settings", "stays").await["mode"], "full");
    let kept = rig.t.ok("state::list", json!({ "scope": "approvals" })).await;
    assert_eq!(kept.as_array().unwrap().len(), 2);
    rig.t.stop().await;
}
