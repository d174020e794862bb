//! `session-tree::*`: acceptance cases of contract 06, field lessons S6 and S8, a sequential model, hostile payloads.

use std::collections::HashMap;

use futures::future::join_all;
use harness::bus::embedded::{Embedded, EmbeddedOptions};
use harness::config::StoreBackend;
use harness::model::RawMessage;
use harness::model::api::session::{
    Append, AppendRequest, Compactions, Ensure, EnsureRequest, Messages, MessagesRequest, SessionRef,
};
use pretty_assertions::assert_eq;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::session_rig::{LATE, Rig, T0, a, r, u};

const UNUSED: [&str; 0] = [];

async fn list(rig: &Rig, request: Value) -> Value {
    rig.call("session-tree::list", request).await.unwrap()
}

fn ids(reply: &Value) -> Vec<&str> {
    let rows = reply["sessions"].as_array().unwrap();
    rows.iter()
        .map(|row| row["session_id"].as_str().unwrap())
        .collect()
}

fn entry(id: &str, parent: Option<&str>, timestamp: i64) -> Value {
    json!({"type": "message", "id": id, "parent_id": parent, "timestamp": timestamp, "message": u(id)})
}

fn compaction(id: &str, parent: Option<&str>, timestamp: i64) -> Value {
    json!({"type": "compaction", "id": id, "parent_id": parent, "timestamp": timestamp, "summary": "s",
           "tokens_before": 12345, "tail_start_id": null, "details": {"read_files": ["a.rs"]}})
}

#[tokio::test]
async fn c06_case_01_create() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    assert_eq!(uuid::Uuid::parse_str(&session).unwrap().get_version_num(), 4);
    assert_eq!(
        rig.meta(&session).await,
        json!({"session_id": session, "created_at": T0, "updated_at": T0, "branch_count": 1})
    );
}

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
async fn c06_case_03_ensure_needs_an_id() {
    let rig = Rig::start().await;
    for payload in [json!({}), json!({"session_id": ""}), json!(["abc"]), Value::Null] {
        let text = rig.refusal("session-tree::ensure", payload).await;
        assert_eq!(text, "missing required string field: session_id");
    }
    assert_eq!(list(&rig, json!({})).await, json!({"sessions": [], "total": 0}));
}

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
async fn c06_case_06_an_unknown_session_is_empty() {
    let rig = Rig::start().await;
    let request = json!({ "session_id": "ghost" });
    assert_eq!(
        rig.call("session-tree::messages", request.clone()).await,
        Ok(json!({"messages": []}))
    );
    assert_eq!(
        rig.call("session-tree::compactions", request).await,
        Ok(json!({"entries": []}))
    );
    assert_eq!(list(&rig, json!({})).await, json!({"sessions": [], "total": 0}));
    assert_eq!(rig.writes(), UNUSED);
}

#[tokio::test]
async fn c06_case_07_branches() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let root = rig.append(&session, u("a"), None).await;
    let left = rig.append(&session, a("b"), Some(&root)).await;
    let right = rig.append(&session, a("c"), Some(&root)).await;
    for rig in [rig.clone(), rig.reborn().await] {
        let path = async |leaf: Value| -> Vec<Value> {
            let request = json!({"session_id": session, "branch_leaf": leaf});
            rig.messages(request)
                .await
                .into_iter()
                .map(|mut row| row["entry_id"].take())
                .collect()
        };
        assert_eq!(path(json!(left)).await, [json!(root), json!(left)]);
        assert_eq!(path(json!(right)).await, [json!(root), json!(right)]);
        assert_eq!(path(Value::Null).await, [json!(root), json!(right)]);
        assert_eq!(path(json!("nobody")).await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn c06_case_16_compactions() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    for row in [
        entry("a", None, 10),
        entry("b", Some("a"), 20),
        compaction("k", Some("b"), 30),
        entry("c", Some("k"), 40),
    ] {
        rig.write_row(&session, row).await;
    }
    let reply = rig
        .call("session-tree::compactions", json!({ "session_id": session }))
        .await
        .unwrap();
    assert_eq!(
        reply,
        json!({"entries": [{"id": "k", "summary": "s", "tokens_before": 12345, "tail_start_id": null,
                            "details": {"read_files": ["a.rs"]}, "timestamp": 30, "on_path": true, "messages_before": 2}]})
    );
    assert_eq!(rig.texts(&session).await, ["a", "b", "c"]);
    let typed = rig
        .typed::<Compactions>(SessionRef {
            session_id: session.as_str().into(),
        })
        .await
        .unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), reply);
}

#[tokio::test]
async fn c06_case_17_compactions_come_in_time_order_from_all_branches() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    for row in [
        compaction("late", Some("a"), 50),
        compaction("off", Some("a"), 30),
        entry("a", None, 10),
        json!({"type": "compaction", "id": "old", "timestamp": 20, "summary": "o"}),
    ] {
        rig.write_row(&session, row).await;
    }
    let reply = rig
        .call("session-tree::compactions", json!({ "session_id": session }))
        .await
        .unwrap();
    let rows: Vec<_> = reply["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            json!([
                row["id"],
                row["tokens_before"],
                row["details"],
                row["on_path"],
                row["messages_before"]
            ])
        })
        .collect();
    assert_eq!(
        rows,
        [
            json!(["old", 0, {}, false, null]),
            json!(["off", 12345, {"read_files": ["a.rs"]}, false, null]),
            json!(["late", 12345, {"read_files": ["a.rs"]}, true, 1]),
        ]
    );
}

#[tokio::test]
async fn c06_case_25_list_pages() {
    let rig = Rig::start().await;
    let mut sessions = Vec::new();
    for _ in 0..12 {
        sessions.push(rig.session().await);
        rig.clock.advance(10);
    }
    let newest_first: Vec<&str> = sessions.iter().rev().map(String::as_str).collect();
    let oldest_first: Vec<&str> = sessions.iter().map(String::as_str).collect();
    let cases = [
        (json!({}), &newest_first[..]),
        (json!({"limit": 5}), &newest_first[..5]),
        (json!({"limit": 5, "offset": 10}), &newest_first[10..]),
        (json!({"offset": 12}), &[]),
        (json!({"limit": 0}), &[]),
        (json!({"limit": -1}), &[]),
        (json!({"limit": 2.9, "offset": 1.9}), &newest_first[1..3]),
        (json!({"offset": -4, "limit": 1}), &newest_first[..1]),
        (json!({"limit": "3"}), &newest_first[..]),
        (json!({"order": "asc"}), &oldest_first[..]),
        (json!({"order": "asc", "limit": 1}), &oldest_first[..1]),
        (json!({"order": "x"}), &newest_first[..]),
        (json!({"order": 7}), &newest_first[..]),
        (json!("x"), &newest_first[..]),
        (Value::Null, &newest_first[..]),
    ];
    for (request, expected) in cases {
        let reply = list(&rig, request.clone()).await;
        assert_eq!(ids(&reply), expected, "{request}");
        assert_eq!(reply["total"], json!(12));
    }
}

#[tokio::test]
async fn c06_case_25_newest_first_within_one_millisecond() {
    let rig = Rig::start().await;
    let mut sessions = Vec::new();
    for _ in 0..12 {
        sessions.push(rig.session().await);
    }
    sessions.reverse();
    assert_eq!(ids(&list(&rig, json!({})).await), sessions);
}

#[tokio::test]
async fn c06_case_25_equal_times_never_overlap_pages() {
    let rig = Rig::start().await;
    for n in 0..7 {
        let id = format!("s{n}");
        let row = json!({"session_id": id, "created_at": 5, "updated_at": 5, "branch_count": 1});
        let request = json!({"scope": "session_tree_meta", "key": id, "value": row});
        rig.call("state::set", request).await.unwrap();
    }
    let mut seen = Vec::new();
    for offset in 0..7 {
        let page = list(&rig, json!({"limit": 1, "offset": offset})).await;
        seen.extend(ids(&page).into_iter().map(str::to_owned));
    }
    assert_eq!(seen, ["s6", "s5", "s4", "s3", "s2", "s1", "s0"]);
}

#[tokio::test]
async fn c06_case_26_append_brings_a_session_to_the_front() {
    let rig = Rig::start().await;
    let oldest = rig.session().await;
    rig.append(&oldest, u("before"), None).await;
    rig.session().await;
    let text = "ü".repeat(200);
    rig.append(&oldest, a(&text), None).await;
    for rig in [rig.clone(), rig.reborn().await] {
        rig.clear();
        let reply = list(&rig, json!({"limit": 1})).await;
        let row = &reply["sessions"][0];
        assert_eq!(row["session_id"], json!(oldest));
        assert_eq!(row["entry_count"], json!(2));
        assert_eq!(row["last_message_summary"], json!("ü".repeat(80)));
        assert_eq!(rig.counts(), HashMap::from([("state::list".to_owned(), 1)]));
    }
}

#[tokio::test]
async fn c06_case_27_a_result_has_no_summary() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.append(&session, u("words"), None).await;
    rig.append(&session, r("result"), None).await;
    for rig in [rig.clone(), rig.reborn().await] {
        let reply = list(&rig, json!({})).await;
        assert_eq!(
            reply["sessions"],
            json!([{"session_id": session, "created_at": T0, "updated_at": T0 + 2, "entry_count": 2}])
        );
    }
}

#[tokio::test]
async fn a_cold_list_counts_only_the_sessions_of_its_page_that_do_not_say() {
    let rig = Rig::start().await;
    for n in 0..3 {
        let id = format!("told{n}");
        rig.append(&id, u("x"), None).await;
        rig.clock.advance(10);
    }
    for n in 0..3 {
        let id = format!("hand{n}");
        let row = json!({"session_id": id, "created_at": n, "updated_at": n});
        let request = json!({"scope": "session_tree_meta", "key": id, "value": row});
        rig.call("state::set", request).await.unwrap();
        rig.write_row(&id, entry("e", None, 1)).await;
    }
    let cold = rig.reborn().await;
    let reply = list(&cold, json!({"limit": 4})).await;
    assert_eq!(ids(&reply), ["told2", "told1", "told0", "hand2"]);
    for row in reply["sessions"].as_array().unwrap() {
        assert_eq!(row["entry_count"], json!(1));
    }
    assert_eq!(reply["sessions"][3]["last_message_summary"], json!("e"));
    assert_eq!(cold.counts(), HashMap::from([("state::list".to_owned(), 2)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c06_case_29_concurrent_appends() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let calls = (0..100).map(|n| {
        let (rig, session) = (rig.clone(), session.clone());
        tokio::task::spawn(async move { rig.append(&session, u(&n.to_string()), None).await })
    });
    let mut returned: Vec<String> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
async fn c06_case_38_rows_written_by_hand_follow_their_chain() {
    let rig = Rig::start().await;
    for row in [
        entry("e1", None, 100),
        entry("e3", Some("e2"), 100),
        entry("e2", Some("e1"), 300),
        entry("e4", Some("e3"), 99),
    ] {
        rig.write_row("X", row).await;
    }
    assert_eq!(rig.texts("X").await, ["e1", "e2", "e3", "e4"]);
    let next = rig.append("X", u("next"), None).await;
    assert_eq!(rig.texts("X").await, ["e1", "e2", "e3", "e4", "next"]);
    let stored = rig
        .rows("X")
        .await
        .into_iter()
        .find(|row| row["id"] == json!(next))
        .unwrap();
    assert_eq!(
        (&stored["parent_id"], &stored["timestamp"]),
        (&json!("e4"), &json!(T0))
    );
}

#[tokio::test]
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

#[tokio::test]
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
async fn s6_an_append_costs_the_same_at_any_length() {
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

#[tokio::test]
async fn s8_a_bad_record_spoils_only_itself() {
    let rig = Rig::start().await;
    for row in [
        entry("a", None, 10),
        json!({"type": "message", "id": "b", "parent_id": "a", "timestamp": 20, "message": "hi"}),
        json!({"type": "riddle", "id": "c", "parent_id": "b", "timestamp": 30}),
        json!({"type": "compaction", "id": "k", "parent_id": "c", "timestamp": 35}),
        entry("d", Some("k"), 40),
    ] {
        rig.write_row("X", row).await;
    }
    for (key, value) in [("n", json!(17)), ("t", json!("text")), ("o", json!({"no": "id"}))] {
        let request = json!({"scope": "session_tree:X", "key": key, "value": value});
        rig.call("state::set", request).await.unwrap();
    }
    for (key, value) in [("m1", json!("text")), ("m2", json!({"session_id": 4}))] {
        let request = json!({"scope": "session_tree_meta", "key": key, "value": value});
        rig.call("state::set", request).await.unwrap();
    }
    assert_eq!(rig.texts("X").await, ["a", "d"]);
    assert_eq!(
        rig.call("session-tree::compactions", json!({"session_id": "X"}))
            .await,
        Ok(json!({"entries": []}))
    );
    rig.append("X", u("e"), None).await;
    assert_eq!(rig.texts("X").await, ["a", "d", "e"]);
    let reply = list(&rig, json!({})).await;
    assert_eq!(
        (ids(&reply), &reply["sessions"][0]["entry_count"]),
        (vec!["X"], &json!(6))
    );
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_left_alone() {
    let rig = Rig::start().await;
    let request = json!({"scope": "session_tree_meta", "key": "s", "value": "precious"});
    rig.call("state::set", request).await.unwrap();
    rig.call("session-tree::ensure", json!({"session_id": "s"}))
        .await
        .unwrap();
    rig.append("s", u("x"), None).await;
    assert_eq!(rig.texts("s").await, ["x"]);
    assert_eq!(rig.meta("s").await, json!("precious"));
}

#[tokio::test]
async fn storage_errors_are_strict_and_named() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let request = json!({ "session_id": session });
    let append = json!({"session_id": session, "message": u("x")});
    let cases = [
        (
            "state::list",
            "session-tree::messages",
            request.clone(),
            "state::list entries: disk on fire",
        ),
        (
            "state::list",
            "session-tree::compactions",
            request.clone(),
            "state::list entries: disk on fire",
        ),
        (
            "state::list",
            "session-tree::append",
            append.clone(),
            "state::list entries: disk on fire",
        ),
        (
            "state::list",
            "session-tree::list",
            json!({}),
            "state::list meta: disk on fire",
        ),
        (
            "state::get",
            "session-tree::ensure",
            json!({"session_id": "new"}),
            "state::get meta: disk on fire",
        ),
        (
            "commit",
            "session-tree::ensure",
            json!({"session_id": "new"}),
            "state::set meta: disk on fire",
        ),
        (
            "commit",
            "session-tree::create",
            json!({}),
            "state::set meta: disk on fire",
        ),
        (
            "commit",
            "session-tree::append",
            append.clone(),
            "state::set entry: disk on fire",
        ),
    ];
    for (failing, id, payload, text) in cases {
        rig.fail(Some(failing));
        assert_eq!(rig.refusal(id, payload).await, text, "{id} while {failing} fails");
        rig.fail(None);
    }
    assert_eq!(rig.texts(&session).await, Vec::<String>::new());
    rig.call("session-tree::append", append).await.unwrap();
    assert_eq!(rig.texts(&session).await, ["x"]);
    assert_eq!(list(&rig, json!({})).await["total"], json!(1));
}

#[tokio::test]
async fn a_session_whose_entries_cannot_be_read_is_listed() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.write_row(&session, entry("a", None, 1)).await;
    rig.fail(Some(&format!("session_tree:{session}")));
    let row = json!({"session_id": session, "created_at": T0, "updated_at": T0, "entry_count": 0});
    assert_eq!(
        list(&rig, json!({})).await,
        json!({"sessions": [row], "total": 1})
    );
}

#[tokio::test]
async fn a_write_with_an_unknown_outcome_is_looked_up() {
    let rig = Rig::start().await;
    rig.append("s", u("one"), None).await;
    rig.fail(Some(LATE));
    let request = json!({"session_id": "s", "message": u("two"), "entry_id": "e2"});
    let text = rig.refusal("session-tree::append", request.clone()).await;
    assert_eq!(text, "state::set entry: no answer");
    rig.fail(None);
    rig.clear();
    assert_eq!(
        rig.call("session-tree::append", request).await,
        Ok(json!({"entry_id": "e2"}))
    );
    assert_eq!(rig.writes(), UNUSED);
    rig.append("s", u("three"), None).await;
    assert_eq!(rig.texts("s").await, ["one", "two", "three"]);
}

#[tokio::test]
async fn on_an_engine_a_failed_refresh_of_the_row_is_only_reported() {
    let engine = Embedded::open(EmbeddedOptions::default()).unwrap();
    let rig = Rig::over(engine, false, |_| {}).await;
    rig.append("s", u("one"), None).await;
    rig.fail(Some("commit session_tree_meta"));
    rig.append("s", u("two"), None).await;
    let text = rig
        .refusal(
            "session-tree::append",
            json!({"session_id": "new", "message": u("x")}),
        )
        .await;
    assert_eq!(text, "state::set meta: disk on fire");
    rig.fail(Some("commit session_tree:s"));
    let text = rig
        .refusal(
            "session-tree::append",
            json!({"session_id": "s", "message": u("x")}),
        )
        .await;
    assert_eq!(text, "state::set entry: disk on fire");
    rig.fail(None);
    let reply = list(&rig, json!({})).await;
    assert_eq!(
        (ids(&reply), &reply["sessions"][0]["entry_count"]),
        (vec!["s"], &json!(2))
    );
    rig.append("s", u("three"), None).await;
    assert_eq!(rig.texts("s").await, ["one", "two", "three"]);
    assert_eq!(rig.meta("s").await["entry_count"], json!(3));
}

#[tokio::test]
async fn sessions_beyond_the_memory_limit_are_read_again() {
    let rig = Rig::with(|config| config.session.cache_bytes = 40_000).await;
    for n in 0..40 {
        let session = format!("s{}", n % 20);
        rig.append(&session, u(&"x".repeat(2_000)), None).await;
    }
    rig.clear();
    for n in 0..20 {
        assert_eq!(rig.texts(&format!("s{n}")).await.len(), 2);
    }
    let reads = rig.counts()["state::list"];
    assert!(reads >= 10, "{reads} of 20 sessions were read again");
    rig.clear();
    assert_eq!(rig.texts("s19").await.len(), 2);
    assert_eq!(rig.asked(), []);
}

#[tokio::test]
async fn the_memory_backend_needs_no_engine() {
    let rig = Rig::with(|config| {
        config.session.store_backend = StoreBackend::Memory;
        config.session.cache_bytes = 0;
    })
    .await;
    let session = rig.session().await;
    rig.append("ghost", u("one"), None).await;
    rig.append("ghost", u("two"), None).await;
    rig.call(
        "session-tree::ensure",
        json!({"session_id": "abc", "display_name": "N"}),
    )
    .await
    .unwrap();
    assert_eq!(rig.texts("ghost").await, ["one", "two"]);
    let reply = list(&rig, json!({})).await;
    assert_eq!(ids(&reply), ["abc", "ghost", session.as_str()]);
    let counts: Vec<_> = (0..3)
        .map(|n| reply["sessions"][n]["entry_count"].clone())
        .collect();
    assert_eq!(counts, [json!(0), json!(2), json!(0)]);
    assert_eq!(rig.asked(), []);
}

#[tokio::test]
async fn typed_and_json_callers_are_checked_alike() {
    let rig = Rig::start().await;
    rig.clear();
    let message = RawMessage::new(u("x")).unwrap();
    for (id, text) in [
        (String::new(), "missing required string field: session_id"),
        ("i".repeat(1 << 20), "invalid session_id: longer than 256 bytes"),
        (
            "a\u{1}b".to_owned(),
            "invalid session_id: contains a control character",
        ),
    ] {
        let append = AppendRequest {
            session_id: id.as_str().into(),
            message: message.clone(),
            parent_id: None,
            entry_id: None,
        };
        let ensure = EnsureRequest {
            session_id: id.as_str().into(),
            display_name: None,
            cwd: None,
        };
        let messages = MessagesRequest {
            session_id: id.as_str().into(),
            branch_leaf: None,
        };
        let compactions = SessionRef {
            session_id: id.as_str().into(),
        };
        let typed = [
            rig.typed::<Append>(append).await.unwrap_err(),
            rig.typed::<Ensure>(ensure).await.unwrap_err(),
            rig.typed::<Messages>(messages).await.unwrap_err(),
            rig.typed::<Compactions>(compactions).await.unwrap_err(),
        ];
        for error in typed {
            assert_eq!(error.to_string(), text);
        }
        for function in ["append", "ensure", "messages", "compactions"] {
            let request = json!({"session_id": id, "message": u("x")});
            assert_eq!(
                rig.refusal(&format!("session-tree::{function}"), request).await,
                text
            );
        }
    }
    assert_eq!(rig.asked(), []);
}

#[tokio::test]
async fn messages_are_shared_not_copied() {
    let rig = Rig::start().await;
    rig.append("s", u("x"), None).await;
    let request = MessagesRequest {
        session_id: "s".into(),
        branch_leaf: None,
    };
    let first = rig.typed::<Messages>(request.clone()).await.unwrap();
    let second = rig.typed::<Messages>(request).await.unwrap();
    assert!(std::ptr::eq(
        first.messages[0].message.object(),
        second.messages[0].message.object()
    ));
}

#[tokio::test]
async fn metadata_of_an_entry_is_shown() {
    let rig = Rig::start().await;
    let mut row = entry("e", None, 1);
    row["metadata"] = json!({"compaction_continue": true});
    rig.write_row("s", row).await;
    let rows = rig.messages(json!({"session_id": "s"})).await;
    assert_eq!(
        rows,
        [json!({"entry_id": "e", "message": u("e"), "metadata": {"compaction_continue": true}})]
    );
}

#[tokio::test]
async fn hostile_payloads_are_refused_and_write_nothing() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.clear();
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let needing_a_session = ["ensure", "append", "messages", "compactions"];
    for function in needing_a_session {
        let id = format!("session-tree::{function}");
        for payload in [
            json!(5),
            json!("s"),
            json!([session]),
            json!(true),
            json!({"session_id": {"a": 1}}),
            nested(500),
        ] {
            let text = rig.refusal(&id, payload).await;
            assert_eq!(text, "missing required string field: session_id", "{id}");
        }
        let deep = json!({"session_id": session, "message": u("x"), "more": nested(200)});
        assert_eq!(
            rig.refusal(&id, deep).await,
            "payload is nested deeper than 128 levels"
        );
        let large = json!({"session_id": session, "message": u(&"x".repeat(16 << 20))});
        let error = rig.call(&id, large).await.unwrap_err();
        assert_eq!(error.wire_code(), "payload_too_large");
    }
    for function in ["create", "list"] {
        let id = format!("session-tree::{function}");
        let deep = json!({ "more": nested(200) });
        assert_eq!(
            rig.refusal(&id, deep).await,
            "payload is nested deeper than 128 levels"
        );
        let error = rig
            .call(&id, json!({"cwd": "x".repeat(16 << 20)}))
            .await
            .unwrap_err();
        assert_eq!(error.wire_code(), "payload_too_large");
    }
    let mut message = u("x");
    message["details"] = nested(121);
    let text = rig
        .refusal(
            "session-tree::append",
            json!({"session_id": session, "message": message}),
        )
        .await;
    assert_eq!(text, "invalid message: nested deeper than 120 levels");
    assert_eq!(rig.asked(), []);

    let mut message = u("x");
    message["details"] = nested(118);
    rig.append(&session, message.clone(), None).await;
    let rows = rig
        .reborn()
        .await
        .messages(json!({ "session_id": session }))
        .await;
    assert_eq!(rows[0]["message"], message);
}

/// What one writer does: appends to the tip, or under an earlier entry.
#[derive(Debug, Clone)]
enum Step {
    Append {
        branch: Option<prop::sample::Index>,
        repeat: bool,
    },
    Look {
        leaf: Option<prop::sample::Index>,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (prop::option::weighted(0.3, any::<prop::sample::Index>()), prop::bool::weighted(0.2))
            .prop_map(|(branch, repeat)| Step::Append { branch, repeat }),
        2 => prop::option::of(any::<prop::sample::Index>()).prop_map(|leaf| Step::Look { leaf }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

/// The naive model: entries in order of append, each with its parent.
#[derive(Default)]
struct Model(Vec<(String, Option<String>)>);

impl Model {
    fn path(&self, leaf: Option<&str>) -> Vec<String> {
        let tip = || {
            self.0
                .iter()
                .rev()
                .find(|(id, _)| !self.0.iter().any(|(_, parent)| parent.as_ref() == Some(id)))
        };
        let mut next = match leaf {
            Some(leaf) => Some(leaf.to_owned()),
            None => tip().map(|(id, _)| id.clone()),
        };
        let mut path = Vec::new();
        while let Some(id) = next {
            next = self
                .0
                .iter()
                .find(|(known, _)| *known == id)
                .and_then(|(_, parent)| parent.clone());
            path.push(id);
        }
        path.reverse();
        path
    }

    fn pick(&self, index: Option<prop::sample::Index>) -> Option<String> {
        let index = index.filter(|_| !self.0.is_empty())?;
        Some(index.get(&self.0).0.clone())
    }
}

async fn path_of(rig: &Rig, leaf: Option<&str>) -> Vec<String> {
    let rows = rig
        .messages(json!({"session_id": "s", "branch_leaf": leaf}))
        .await;
    rows.iter()
        .map(|row| row["entry_id"].as_str().unwrap().to_owned())
        .collect()
}

async fn against_the_model(steps: Vec<Step>) {
    let mut rig = Rig::start().await;
    let mut model = Model::default();
    for (n, step) in steps.into_iter().enumerate() {
        match step {
            Step::Append { branch, repeat } => {
                let parent = model.pick(branch);
                let id = format!("e{n}");
                let request =
                    json!({"session_id": "s", "message": u(&id), "parent_id": parent, "entry_id": id});
                for _ in 0..=usize::from(repeat) {
                    let reply = rig.call("session-tree::append", request.clone()).await.unwrap();
                    assert_eq!(reply, json!({ "entry_id": id }));
                }
                let parent = parent.or_else(|| model.path(None).pop());
                model.0.push((id, parent));
            }
            Step::Look { leaf } => {
                let leaf = model.pick(leaf);
                assert_eq!(path_of(&rig, leaf.as_deref()).await, model.path(leaf.as_deref()));
            }
            Step::Restart => rig = rig.reborn().await,
        }
    }
    assert_eq!(path_of(&rig, None).await, model.path(None));
    let reply = list(&rig, json!({})).await;
    let count = reply["sessions"]
        .get(0)
        .map_or(json!(0), |row| row["entry_count"].clone());
    assert_eq!(count, json!(model.0.len()));
}

/// Concurrent writers, each appending its own numbers to the tip: all of them are on one path, each writer's in order.
async fn concurrent_writers(writers: usize, each: usize) {
    let rig = Rig::start().await;
    let tasks = (0..writers).map(|writer| {
        let rig = rig.clone();
        tokio::task::spawn(async move {
            for n in 0..each {
                rig.append("s", u(&format!("{writer}:{n}")), None).await;
                tokio::task::yield_now().await;
                path_of(&rig, None).await;
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    let texts = rig.texts("s").await;
    assert_eq!(texts, rig.reborn().await.texts("s").await);
    assert_eq!(texts.len(), writers * each);
    for writer in 0..writers {
        let own: Vec<_> = texts
            .iter()
            .filter(|text| text.starts_with(&format!("{writer}:")))
            .cloned()
            .collect();
        let expected: Vec<_> = (0..each).map(|n| format!("{writer}:{n}")).collect();
        assert_eq!(own, expected);
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_agrees_with_the_model(steps in steps()) {
        run(against_the_model(steps));
    }

    #[test]
    fn any_number_of_writers_share_one_chain(writers in 1..6_usize, each in 1..12_usize) {
        run(concurrent_writers(writers, each));
    }
}

#[test]
fn the_worker_registers_what_the_catalog_names() {
    run(async {
        let rig = Rig::start().await;
        let catalog: Vec<_> = rig
            .bus
            .catalog()
            .into_iter()
            .filter(|info| info.id.starts_with("session-tree::"))
            .map(|info| (info.id.to_string(), info.description))
            .collect();
        let expected = [
            ("session-tree::append", "Append an AgentMessage entry to a session"),
            ("session-tree::compactions", "Return all compaction entries for a session, sorted by timestamp ascending"),
            ("session-tree::create", "Create a new empty session record"),
            ("session-tree::ensure", "Idempotently ensure a session exists with the given id"),
            ("session-tree::list", "List sessions with optional pagination and ordering"),
            (
                "session-tree::messages",
                "Load every AgentMessage on the active path of a session, paired with its entry_id, oldest first",
            ),
        ]
        .map(|(id, description)| (id.to_owned(), description.to_owned()));
        assert_eq!(catalog, expected);
    });
}
