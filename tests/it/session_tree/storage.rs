//! Bad records, a failing store, the memory limit, the memory backend.

use harness::config::StoreBackend;
use pretty_assertions::assert_eq;
use serde_json::json;

use super::{UNUSED, entry, ids, list};
use crate::session_rig::{LATE, Rig, T0, u};
use crate::support::three_ways;

three_ways! {
    field_lesson_s8_a_bad_record_spoils_only_itself,
    a_row_that_cannot_be_read_is_left_alone,
}

async fn field_lesson_s8_a_bad_record_spoils_only_itself() {
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
    let rig = Rig::on_shared_engine().await;
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
async fn rows_that_others_write_are_seen_at_once() {
    let rig = Rig::start().await;
    let first = rig.append("s", u("ours"), None).await;
    rig.write_row("s", entry("theirs", Some(&first), T0 + 50)).await;
    assert_eq!(rig.texts("s").await, ["ours", "theirs"]);
    rig.append("s", u("next"), None).await;
    assert_eq!(rig.texts("s").await, ["ours", "theirs", "next"]);

    let unloaded = rig.reborn().await;
    unloaded
        .write_row("s", entry("more", Some("theirs"), T0 + 90))
        .await;
    let request = json!({"scope": "session_tree:s", "key": first});
    rig.call("state::delete", request).await.unwrap();
    assert_eq!(rig.texts("s").await, ["theirs", "more"]);
    assert_eq!(
        list(&rig, json!({})).await["sessions"][0]["entry_count"],
        json!(3)
    );

    rig.append("s", u("the row is in memory now"), None).await;
    let mut row = rig.meta("s").await;
    row["display_name"] = json!("renamed");
    let request = json!({"scope": "session_tree_meta", "key": "s", "value": row});
    rig.call("state::set", request).await.unwrap();
    rig.append("s", u("last"), None).await;
    assert_eq!(rig.meta("s").await["display_name"], json!("renamed"));
}

#[tokio::test]
async fn a_list_does_not_trust_a_count_that_others_made_wrong() {
    let rig = Rig::with(|config| config.session.cache_bytes = 0).await;
    rig.append("s", u("ours"), None).await;
    rig.write_row("s", entry("theirs", None, T0 + 50)).await;
    // Pushes the first session out of memory.
    rig.append("other", u("x"), None).await;
    rig.append("third", u("x"), None).await;
    let reply = list(&rig, json!({"order": "asc", "limit": 1})).await;
    assert_eq!(
        (ids(&reply), &reply["sessions"][0]["entry_count"]),
        (vec!["s"], &json!(2))
    );
}
