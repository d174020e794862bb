//! Making sessions and adding messages.

use std::collections::HashMap;

use futures::future::join_all;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{UNUSED, list};
use crate::session_rig::{Rig, T0, a, together, u};
use crate::support::three_ways;

three_ways! {
    c06_case_01_create,
    c06_case_01_create_takes_any_input,
    c06_case_02_ensure_twice,
    c06_case_02_of_many_first_calls_one_wins,
    c06_case_03_ensure_needs_an_id,
    c06_case_04_append_chains_to_the_tip,
    c06_case_04_messages_are_stored_unchanged,
    c06_case_05_append_names_what_is_missing,
    c06_case_29_concurrent_appends on 4 threads,
    c06_case_30_a_malformed_message_is_refused,
    c06_case_31_append_makes_the_session,
    an_append_with_an_id_is_repeat_safe,
    a_parent_that_does_not_exist_is_refused,
}

async fn c06_case_01_create() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    assert_eq!(uuid::Uuid::parse_str(&session).unwrap().get_version_num(), 4);
    assert_eq!(
        rig.meta(&session).await,
        json!({"session_id": session, "created_at": T0, "updated_at": T0, "branch_count": 1})
    );
}

async fn c06_case_01_create_takes_any_input() {
    let rig = Rig::start().await;
    for payload in [
        Value::Null,
        json!("x"),
        json!([1]),
        json!({"display_name": 5, "cwd": null}),
    ] {
        let reply = rig.call("session-tree::create", payload).await.unwrap();
        let session = reply["session_id"].as_str().unwrap();
        assert_eq!(rig.meta(session).await.get("display_name"), None);
    }
}

async fn c06_case_02_ensure_twice() {
    let rig = Rig::start().await;
    let first = json!({"session_id": "abc", "display_name": "N", "cwd": "/w"});
    let second = json!({"session_id": "abc", "display_name": "M"});
    assert_eq!(
        rig.call("session-tree::ensure", first).await,
        Ok(json!({"session_id": "abc"}))
    );
    rig.clock.advance(50);
    rig.clear();
    assert_eq!(
        rig.call("session-tree::ensure", second.clone()).await,
        Ok(json!({"session_id": "abc"}))
    );
    assert_eq!(rig.asked(), []);
    let expected = json!({"session_id": "abc", "display_name": "N", "cwd": "/w", "created_at": T0, "updated_at": T0,
                          "branch_count": 0});
    assert_eq!(rig.meta("abc").await, expected);
    let later = rig.reborn().await;
    later.call("session-tree::ensure", second).await.unwrap();
    assert_eq!(later.meta("abc").await, expected);
}

async fn c06_case_02_of_many_first_calls_one_wins() {
    let rig = Rig::start().await;
    rig.clear();
    let calls = (0..20).map(|n| {
        let request = json!({"session_id": "abc", "display_name": n.to_string()});
        rig.call("session-tree::ensure", request)
    });
    for reply in join_all(calls).await {
        assert_eq!(reply, Ok(json!({"session_id": "abc"})));
    }
    assert_eq!(rig.writes(), ["commit"]);
}

async fn c06_case_03_ensure_needs_an_id() {
    let rig = Rig::start().await;
    for payload in [json!({}), json!({"session_id": ""}), json!(["abc"]), Value::Null] {
        let text = rig.refusal("session-tree::ensure", payload).await;
        assert_eq!(text, "missing required string field: session_id");
    }
    assert_eq!(list(&rig, json!({})).await, json!({"sessions": [], "total": 0}));
}

async fn c06_case_04_append_chains_to_the_tip() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let first = rig.append(&session, u("a"), None).await;
    let second = rig.append(&session, a("b"), Some(&first)).await;
    let third = rig.append(&session, u("c"), None).await;
    let expected = vec![
        json!({"entry_id": first, "message": u("a")}),
        json!({"entry_id": second, "message": a("b")}),
        json!({"entry_id": third, "message": u("c")}),
    ];
    let request = json!({ "session_id": session });
    assert_eq!(rig.messages(request.clone()).await, expected);
    assert_eq!(rig.reborn().await.messages(request).await, expected);
    assert_eq!(
        rig.rows(&session).await,
        [
            json!({"type": "message", "id": first, "parent_id": null, "timestamp": T0, "message": u("a")}),
            json!({"type": "message", "id": second, "parent_id": first, "timestamp": T0 + 1, "message": a("b")}),
            json!({"type": "message", "id": third, "parent_id": second, "timestamp": T0 + 2, "message": u("c")}),
        ]
    );
}

async fn c06_case_04_messages_are_stored_unchanged() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let odd = json!({"zeta": {"deep": [null, 1.5]}, "role": "custom", "custom_type": "x", "content": [{"type": "new", "n": 1}],
                     "timestamp": 7});
    rig.append(&session, odd.clone(), None).await;
    rig.clock.advance(10);
    rig.append(&session, json!({"role": "user", "content": "plain"}), None)
        .await;
    let rows = rig.messages(json!({ "session_id": session })).await;
    assert_eq!(rows[0]["message"].to_string(), odd.to_string());
    assert_eq!(
        rows[1]["message"],
        json!({"role": "user", "content": [{"type": "text", "text": "plain"}], "timestamp": T0 + 10})
    );
}

async fn c06_case_05_append_names_what_is_missing() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.clear();
    let text = rig
        .refusal("session-tree::append", json!({ "session_id": session }))
        .await;
    assert_eq!(text, "missing required field: message");
    let text = rig
        .refusal("session-tree::append", json!({ "message": u("a") }))
        .await;
    assert_eq!(text, "missing required string field: session_id");
    assert_eq!(rig.asked(), []);
}

async fn c06_case_29_concurrent_appends() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let calls = (0..100).map(|n| {
        let (rig, session) = (rig.clone(), session.clone());
        async move { rig.append(&session, u(&n.to_string()), None).await }
    });
    let mut returned = together(calls).await;
    for rig in [rig.clone(), rig.reborn().await] {
        let rows = rig.messages(json!({ "session_id": session })).await;
        let mut ids: Vec<_> = rows
            .iter()
            .map(|row| row["entry_id"].as_str().unwrap().to_owned())
            .collect();
        let stored = rig.rows(&session).await;
        let parents: HashMap<_, _> = stored
            .iter()
            .map(|row| (row["id"].as_str().unwrap(), &row["parent_id"]))
            .collect();
        for pair in ids.windows(2) {
            assert_eq!(parents[pair[1].as_str()], &json!(pair[0]));
        }
        let mut times: Vec<_> = stored
            .iter()
            .map(|row| row["timestamp"].as_i64().unwrap())
            .collect();
        times.dedup();
        assert_eq!(times.len(), 100);
        ids.sort();
        returned.sort();
        assert_eq!(ids, returned);
        ids.dedup();
        assert_eq!(ids.len(), 100);
    }
}

async fn c06_case_30_a_malformed_message_is_refused() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.clear();
    let text = rig
        .refusal(
            "session-tree::append",
            json!({"session_id": session, "message": "hi"}),
        )
        .await;
    assert_eq!(text, "invalid message: not an object");
    assert_eq!(rig.writes(), UNUSED);
    assert_eq!(list(&rig, json!({})).await["total"], json!(1));
}

async fn c06_case_31_append_makes_the_session() {
    let rig = Rig::start().await;
    rig.append("ghost", u("boo"), None).await;
    let row = json!({"session_id": "ghost", "created_at": T0, "updated_at": T0, "entry_count": 1, "last_message_summary": "boo"});
    assert_eq!(
        list(&rig, json!({})).await,
        json!({"sessions": [row], "total": 1})
    );
    assert_eq!(
        rig.meta("ghost").await,
        json!({"session_id": "ghost", "created_at": T0, "updated_at": T0, "branch_count": 0, "entry_count": 1,
               "last_message_summary": "boo"})
    );
}

async fn an_append_with_an_id_is_repeat_safe() {
    let rig = Rig::start().await;
    let request = json!({"session_id": "s", "message": u("once"), "entry_id": "run-1/0"});
    assert_eq!(
        rig.call("session-tree::append", request.clone()).await,
        Ok(json!({"entry_id": "run-1/0"}))
    );
    rig.clear();
    let other =
        json!({"session_id": "s", "message": u("twice"), "entry_id": "run-1/0", "parent_id": "nowhere"});
    assert_eq!(
        rig.call("session-tree::append", other).await,
        Ok(json!({"entry_id": "run-1/0"}))
    );
    assert_eq!(rig.asked(), []);
    let later = rig.reborn().await;
    assert_eq!(
        later.call("session-tree::append", request).await,
        Ok(json!({"entry_id": "run-1/0"}))
    );
    assert_eq!(later.writes(), UNUSED);
    assert_eq!(later.texts("s").await, ["once"]);
    for unusable in [json!(""), json!("x".repeat(201)), json!("a\nb"), json!(5)] {
        let request = json!({"session_id": "s", "message": u("more"), "entry_id": unusable});
        let reply = rig.call("session-tree::append", request).await.unwrap();
        assert!(uuid::Uuid::parse_str(reply["entry_id"].as_str().unwrap()).is_ok());
    }
}

async fn a_parent_that_does_not_exist_is_refused() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.clear();
    let request = json!({"session_id": session, "message": u("x"), "parent_id": "nowhere"});
    assert_eq!(
        rig.refusal("session-tree::append", request).await,
        "entry not found: nowhere"
    );
    let request = json!({"session_id": "fresh", "message": u("x"), "parent_id": "p".repeat(1 << 20)});
    let text = rig.refusal("session-tree::append", request).await;
    assert_eq!(text, format!("entry not found: {}", "p".repeat(256)));
    assert_eq!(rig.writes(), UNUSED);
    let request = json!({"session_id": session, "message": u("x"), "parent_id": 7});
    rig.call("session-tree::append", request).await.unwrap();
}

#[tokio::test]
async fn field_lesson_s6_an_append_costs_the_same_at_any_length() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let mut cost = HashMap::new();
    for n in 1..=1000 {
        rig.clear();
        rig.append(&session, u("the same text"), None).await;
        if n == 10 || n == 1000 {
            cost.insert(n, rig.asked());
        }
    }
    let (early, late) = (&cost[&10], &cost[&1000]);
    assert_eq!((early.len(), late.len()), (1, 1));
    assert_eq!((early[0].what.as_str(), early[0].rows.len()), ("commit", 2));
    // The count in the row grows from "10" to "1000".
    assert_eq!(late[0].bytes, early[0].bytes + 2);
    rig.clear();
    assert_eq!(rig.texts(&session).await.len(), 1000);
    assert_eq!(rig.asked(), []);
}
