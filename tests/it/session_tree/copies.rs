//! Forks and clones.

use std::collections::{BTreeSet, HashMap};

use harness::config::StoreBackend;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{compact, entry, ids, in_stored_order, list, made};
use crate::session_rig::{LATE, Rig, a, r, u};
use crate::support::three_ways;

three_ways! {
    c06_case_11_fork,
    c06_case_12_fork_at_a_missing_entry,
    c06_case_13_a_fork_of_a_long_path,
    c06_case_14_clone,
    c06_case_15_a_copied_compaction_names_the_copied_tail,
    field_lesson_s2_forks_of_forks_hold_the_full_path,
    field_lesson_s3_nothing_of_a_clone_names_the_source,
    field_lesson_s5_forks_begin_and_end_anywhere,
    entries_of_one_time_keep_their_order,
    field_lesson_s8_bad_records_are_copied_and_spoil_only_themselves,
}

async fn fork(rig: &Rig, session: &str, entry: &str) -> String {
    let request = json!({"source_session_id": session, "from_entry_id": entry});
    made(rig, "session-tree::fork", request).await
}

async fn clone(rig: &Rig, session: &str) -> String {
    made(
        rig,
        "session-tree::clone",
        json!({ "source_session_id": session }),
    )
    .await
}

async fn named(rig: &Rig, name: &str) -> String {
    made(
        rig,
        "session-tree::create",
        json!({"display_name": name, "cwd": "/w"}),
    )
    .await
}

async fn stored(rig: &Rig, session: &str) -> Vec<Value> {
    in_stored_order(rig.rows(session).await)
}

/// Rows with places in the place of ids, so that copies compare equal.
fn anonymous(rows: &[Value]) -> Vec<Value> {
    let places: HashMap<&str, usize> = (rows.iter().map(|row| row["id"].as_str().unwrap()))
        .zip(0..)
        .collect();
    let place = |id: &Value| json!(id.as_str().map(|id| places[id]));
    let row = |row: &Value| {
        let mut other = row.clone();
        for member in ["id", "parent_id", "tail_start_id"] {
            if row.get(member).is_some() {
                other[member] = place(&row[member]);
            }
        }
        other
    };
    rows.iter().map(row).collect()
}

fn row_ids(rows: &[Value]) -> BTreeSet<&str> {
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

async fn c06_case_11_fork() {
    let rig = Rig::start().await;
    let session = named(&rig, "N").await;
    let mut entries = Vec::new();
    for n in 0..5 {
        entries.push(rig.append(&session, u(&n.to_string()), None).await);
    }
    let (before, meta) = (stored(&rig, &session).await, rig.meta(&session).await);
    rig.clock.advance(5);
    let copy = fork(&rig, &session, &entries[3]).await;
    assert_eq!(rig.texts(&copy).await, ["0", "1", "2", "3"]);
    let rows = stored(&rig, &copy).await;
    assert_eq!(anonymous(&rows), anonymous(&before[..4]));
    assert!(row_ids(&rows).is_disjoint(&row_ids(&before)));
    let now = rig.meta(&copy).await["created_at"].clone();
    assert_eq!(
        rig.meta(&copy).await,
        json!({"session_id": copy, "display_name": "N (fork)", "cwd": "/w", "created_at": now, "updated_at": now,
               "branch_count": 1, "entry_count": 4, "last_message_summary": "3"})
    );
    assert!(now.as_i64() > meta["created_at"].as_i64());
    assert_eq!(
        (stored(&rig, &session).await, rig.meta(&session).await),
        (before, meta)
    );

    let nameless = rig.session().await;
    let only = rig.append(&nameless, u("x"), None).await;
    let copy = fork(&rig, &nameless, &only).await;
    assert_eq!(rig.meta(&copy).await.get("display_name"), None);
}

async fn c06_case_12_fork_at_a_missing_entry() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.append(&session, u("x"), None).await;
    for source in [session.as_str(), "ghost"] {
        let request = json!({"source_session_id": source, "from_entry_id": "nobody"});
        let text = rig.refusal("session-tree::fork", request).await;
        assert_eq!(text, "entry not found: nobody");
    }
    rig.write_row("no row", entry("e", None, 1)).await;
    for (id, request) in [
        (
            "fork",
            json!({"source_session_id": "no row", "from_entry_id": "e"}),
        ),
        ("clone", json!({"source_session_id": "no row"})),
    ] {
        let text = rig.refusal(&format!("session-tree::{id}"), request).await;
        assert_eq!(text, "session not found: no row");
    }
    let text = rig
        .refusal("session-tree::clone", json!({"source_session_id": "ghost"}))
        .await;
    assert_eq!(text, "session not found: ghost");
    for (request, text) in [
        (json!({}), "missing required string field: source_session_id"),
        (
            json!({"source_session_id": session}),
            "missing required string field: from_entry_id",
        ),
    ] {
        assert_eq!(rig.refusal("session-tree::fork", request).await, text);
    }
    assert_eq!(ids(&list(&rig, json!({})).await), [session]);
}

async fn c06_case_13_a_fork_of_a_long_path() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let mut entries = Vec::new();
    for n in 0..51 {
        entries.push(rig.append(&session, u(&n.to_string()), None).await);
    }
    let copy = fork(&rig, &session, &entries[50]).await;
    assert_eq!(rig.texts(&copy).await, rig.texts(&session).await);
    assert_eq!(rig.messages(json!({ "session_id": copy })).await.len(), 51);

    for (last, collapsed) in [(50, true), (49, false)] {
        let from = &entries[last];
        let request = json!({"source_session_id": session, "from_entry_id": from, "collapse": true});
        let copy = made(&rig, "session-tree::fork", request).await;
        let rows = stored(&rig, &copy).await;
        if collapsed {
            let summary = format!("Forked from session {session} at entry {from}: 51 entries collapsed.");
            let expected = json!({"type": "branch_summary", "id": rows[0]["id"], "parent_id": null,
                                  "timestamp": rows[0]["timestamp"], "summary": summary, "from_id": from});
            assert_eq!(rows, [expected]);
            assert_eq!(rig.texts(&copy).await, Vec::<String>::new());
        } else {
            assert_eq!(rows.len(), 50);
        }
    }
}

async fn c06_case_14_clone() {
    let rig = Rig::start().await;
    let session = named(&rig, "N").await;
    let root = rig.append(&session, u("a"), None).await;
    rig.append(&session, a("b"), Some(&root)).await;
    rig.append(&session, a("c"), Some(&root)).await;
    let source = stored(&rig, &session).await;
    let (one, two) = (clone(&rig, &session).await, clone(&rig, &session).await);
    let (first, second) = (stored(&rig, &one).await, stored(&rig, &two).await);
    for rows in [&first, &second] {
        assert_eq!(anonymous(rows), anonymous(&source));
        assert!(row_ids(rows).is_disjoint(&row_ids(&source)));
    }
    assert!(row_ids(&first).is_disjoint(&row_ids(&second)));
    assert_eq!(rig.meta(&one).await["display_name"], json!("N (clone)"));
    assert_eq!(rig.texts(&one).await, ["a", "c"]);

    let empty = rig.session().await;
    let copy = clone(&rig, &empty).await;
    assert_eq!(stored(&rig, &copy).await, Vec::<Value>::new());
    assert_eq!(rig.meta(&copy).await["branch_count"], json!(1));
}

async fn c06_case_15_a_copied_compaction_names_the_copied_tail() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.append(&session, u("1"), None).await;
    let second = rig.append(&session, u("2"), None).await;
    let tip = compact(&rig, &session, Some(&second)).await;
    for copy in [fork(&rig, &session, &tip).await, clone(&rig, &session).await] {
        let rows = rig.messages(json!({ "session_id": copy })).await;
        let reply = rig
            .call("session-tree::compactions", json!({ "session_id": copy }))
            .await
            .unwrap();
        assert_eq!(reply["entries"][0]["tail_start_id"], rows[1]["entry_id"]);
    }
}

async fn field_lesson_s2_forks_of_forks_hold_the_full_path() {
    let rig = Rig::start().await;
    let mut session = rig.session().await;
    let source = session.clone();
    let first = rig.append(&session, u("0"), None).await;
    let mut texts = vec!["0".to_owned()];
    for n in 1..4 {
        let last = rig
            .messages(json!({ "session_id": session }))
            .await
            .pop()
            .unwrap();
        session = fork(&rig, &session, last["entry_id"].as_str().unwrap()).await;
        rig.append(&session, u(&n.to_string()), None).await;
        texts.push(n.to_string());
        assert_eq!(rig.texts(&session).await, texts);
    }
    let again = fork(&rig, &source, &first).await;
    assert_eq!(rig.texts(&again).await, ["0"]);
    assert_eq!(rig.texts(&source).await, ["0"]);
    assert_eq!(rig.reborn().await.texts(&session).await, texts);
}

async fn field_lesson_s3_nothing_of_a_clone_names_the_source() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let root = rig.append(&session, u("root"), None).await;
    let left = rig.append(&session, a("left"), Some(&root)).await;
    compact(&rig, &session, Some(&left)).await;
    let right = rig.append(&session, a("right"), Some(&root)).await;
    compact(&rig, &session, Some("of nobody")).await;
    let tip = rig.append(&session, r("tip"), None).await;
    let source = stored(&rig, &session).await;
    for copy in [clone(&rig, &session).await, fork(&rig, &session, &tip).await] {
        let text = json!(stored(&rig, &copy).await).to_string();
        for id in row_ids(&source) {
            assert!(!text.contains(id), "{id} is in {text}");
        }
        assert!(!text.contains("of nobody"), "{text}");
    }
    // A tail on another branch is nothing in a fork.
    let tail_elsewhere = compact(&rig, &session, Some(&left)).await;
    let copy = fork(&rig, &session, &tail_elsewhere).await;
    let last = stored(&rig, &copy).await.pop().unwrap();
    assert_eq!(last["tail_start_id"], Value::Null);
    assert!(row_ids(&stored(&rig, &session).await).contains(right.as_str()));
}

async fn field_lesson_s5_forks_begin_and_end_anywhere() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let question = rig.append(&session, u("q"), None).await;
    let call = rig.append(&session, a("call"), None).await;
    let result = rig.append(&session, r("result"), None).await;
    rig.append(&session, a("answer"), None).await;
    for (at, texts) in [
        (&question, vec!["q"]),
        (&call, vec!["q", "call"]),
        (&result, vec!["q", "call", "result"]),
    ] {
        let copy = fork(&rig, &session, at).await;
        assert_eq!(rig.texts(&copy).await, texts);
        rig.append(&copy, u("more"), None).await;
        assert_eq!(rig.texts(&copy).await.pop().unwrap(), "more");
    }
}

async fn entries_of_one_time_keep_their_order() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.write_row(&session, entry("root", None, 1)).await;
    for n in 0..8 {
        rig.write_row(&session, entry(&format!("e{n}"), Some("root"), 5))
            .await;
    }
    let copy = clone(&rig, &session).await;
    assert_eq!(
        anonymous(&stored(&rig, &copy).await),
        anonymous(&stored(&rig, &session).await)
    );
    assert_eq!(rig.texts(&copy).await, ["root", "e7"]);
}

async fn field_lesson_s8_bad_records_are_copied_and_spoil_only_themselves() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    for row in [
        entry("a", None, 1),
        json!({"type": "message", "id": "b", "parent_id": "a", "timestamp": 2, "message": "hi"}),
        json!({"type": "riddle", "id": "c", "parent_id": "b", "timestamp": 3, "payload": [1]}),
        entry("d", Some("c"), 4),
    ] {
        rig.write_row(&session, row).await;
    }
    for copy in [fork(&rig, &session, "d").await, clone(&rig, &session).await] {
        assert_eq!(rig.texts(&copy).await, ["a", "d"]);
        assert_eq!(
            anonymous(&stored(&rig, &copy).await),
            anonymous(&stored(&rig, &session).await)
        );
    }
}

#[tokio::test]
async fn field_lesson_s4_where_a_commit_is_whole_a_copy_is_one() {
    let rig = Rig::start().await;
    let mut last = String::new();
    for n in 0..100 {
        last = rig.append("s", u(&n.to_string()), None).await;
    }
    rig.clear();
    let copy = fork(&rig, "s", &last).await;
    let asked = rig.asked();
    assert_eq!(asked.len(), 1);
    let (row, entries) = asked[0].rows.split_last().unwrap();
    assert_eq!(*row, ("session_tree_meta".to_owned(), copy.clone()));
    assert_eq!(entries.len(), 100);

    let before = list(&rig, json!({})).await["total"].clone();
    rig.fail(Some("commit"));
    let request = json!({"source_session_id": "s"});
    let text = rig.refusal("session-tree::clone", request).await;
    assert_eq!(text, "state::set entry: disk on fire");
    rig.fail(None);
    assert_eq!(list(&rig, json!({})).await["total"], before);
}

/// Sessions whose entries somebody began to write.
fn begun(rig: &Rig) -> BTreeSet<String> {
    let rows = rig.asked().into_iter().flat_map(|asked| asked.rows);
    rows.filter_map(|(scope, _)| Some(scope.strip_prefix("session_tree:")?.to_owned()))
        .collect()
}

#[tokio::test]
async fn field_lesson_s4_on_a_shared_engine_the_row_comes_last_and_a_part_is_taken_away() {
    let rig = Rig::on_shared_engine().await;
    for n in 0..100 {
        rig.append("s", u(&n.to_string()), None).await;
    }
    rig.clear();
    let copy = clone(&rig, "s").await;
    let written: Vec<_> = rig.asked().into_iter().flat_map(|asked| asked.rows).collect();
    assert_eq!(written.len(), 101);
    assert_eq!(written[100], ("session_tree_meta".to_owned(), copy));

    let request = json!({"source_session_id": "s"});
    for (failing, text) in [
        ("commit session_tree_meta", "state::set meta: disk on fire"),
        (LATE, "state::set entry: no answer"),
    ] {
        rig.clear();
        rig.fail(Some(failing));
        assert_eq!(rig.refusal("session-tree::clone", request.clone()).await, text);
        rig.fail(None);
        let begun = begun(&rig);
        assert_eq!(begun.len(), 1);
        for session in begun {
            let left = (rig.rows(&session).await, rig.meta(&session).await);
            assert_eq!(left, (Vec::new(), Value::Null), "{failing}");
        }
        assert_eq!(list(&rig, json!({})).await["total"], json!(2));
    }
}

#[tokio::test]
async fn copies_live_in_memory_too() {
    let rig = Rig::with(|config| config.session.store_backend = StoreBackend::Memory).await;
    let root = rig.append("s", u("a"), None).await;
    let left = rig.append("s", a("b"), Some(&root)).await;
    rig.append("s", a("c"), Some(&root)).await;
    let forked = fork(&rig, "s", &left).await;
    let cloned = clone(&rig, "s").await;
    rig.append(&forked, u("d"), None).await;
    assert_eq!(rig.texts(&forked).await, ["a", "b", "d"]);
    assert_eq!(rig.texts(&cloned).await, ["a", "c"]);
    assert_eq!(rig.texts("s").await, ["a", "c"]);
    let reply = list(&rig, json!({"order": "asc"})).await;
    let counts: Vec<_> = (0..3)
        .map(|n| reply["sessions"][n]["entry_count"].clone())
        .collect();
    assert_eq!(counts, [json!(3), json!(3), json!(3)]);
    // Whether a branch may begin is a question to others.
    let asked = rig
        .asked()
        .into_iter()
        .filter(|asked| asked.what != "turn::get_state");
    assert_eq!(asked.collect::<Vec<_>>(), []);
}
