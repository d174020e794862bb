//! The nested tree.

use std::time::Duration;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{entry, in_stored_order};
use crate::session_rig::{Rig, a, u};
use crate::support::three_ways;

three_ways! {
    c06_case_08_the_tree_of_branches,
    c06_case_09_no_entries,
    c06_case_10_a_long_session_is_answered on 2 threads,
    the_longest_chain_that_a_frame_holds_is_whole,
    other_roots_are_named,
    field_lesson_s8_a_bad_record_keeps_its_place_in_the_tree,
}

async fn tree(rig: &Rig, session: &str) -> Value {
    let request = json!({ "session_id": session });
    rig.call("session-tree::tree", request).await.unwrap()
}

/// Ids of the nodes, as they are nested.
fn shape(node: &Value) -> Value {
    let children = node["children"].as_array().unwrap();
    json!([
        node["entry"]["id"],
        children.iter().map(shape).collect::<Vec<_>>()
    ])
}

async fn c06_case_08_the_tree_of_branches() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let root = rig.append(&session, u("a"), None).await;
    let left = rig.append(&session, a("b"), Some(&root)).await;
    let right = rig.append(&session, a("c"), Some(&root)).await;
    let answer = tree(&rig, &session).await;
    assert_eq!(shape(&answer), json!([root, [[left, []], [right, []]]]));
    let under = rig.append(&session, u("d"), Some(&left)).await;
    let answer = tree(&rig, &session).await;
    assert_eq!(
        shape(&answer),
        json!([root, [[left, [[under, []]]], [right, []]]])
    );
    let rows = in_stored_order(rig.rows(&session).await);
    let node = |place: usize, children: Value| json!({"entry": rows[place], "children": children});
    let whole = node(
        0,
        json!([node(1, json!([node(3, json!([]))])), node(2, json!([]))]),
    );
    assert_eq!(answer, whole);
}

async fn c06_case_09_no_entries() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    for id in [session.as_str(), "ghost"] {
        let text = rig
            .refusal("session-tree::tree", json!({ "session_id": id }))
            .await;
        assert_eq!(text, format!("session {id} has no entries"));
    }
    rig.write_row("X", entry("e", Some("gone"), 5)).await;
    let text = rig
        .refusal("session-tree::tree", json!({"session_id": "X"}))
        .await;
    assert_eq!(text, "session X has no root entry");
}

async fn c06_case_10_a_long_session_is_answered() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let mut ids = Vec::new();
    for n in 0..300 {
        ids.push(rig.append(&session, u(&n.to_string()), None).await);
    }
    // An engine that cannot read the answer would let the caller wait.
    let answer = tokio::time::timeout(Duration::from_secs(20), tree(&rig, &session))
        .await
        .unwrap();
    assert_eq!(
        (&answer["entry"]["id"], &answer["truncated"]),
        (&json!(ids[0]), &json!(true))
    );
    let rows = in_stored_order(rig.rows(&session).await);
    assert_eq!(answer["entries"], json!(rows));
    let shown: Vec<_> = rows
        .iter()
        .take(40)
        .rev()
        .fold(Vec::new(), |below: Vec<Value>, row| {
            vec![json!({"entry": row, "children": below})]
        });
    assert_eq!(answer["children"], shown[0]["children"]);
    assert_eq!(
        rows.iter()
            .map(|row| row["id"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ids
    );
}

async fn the_longest_chain_that_a_frame_holds_is_whole() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    for n in 0..61 {
        rig.append(&session, u(&n.to_string()), None).await;
    }
    let answer = tree(&rig, &session).await;
    let rows = in_stored_order(rig.rows(&session).await);
    let whole = rows.iter().rev().fold(Vec::new(), |below: Vec<Value>, row| {
        vec![json!({"entry": row, "children": below})]
    });
    assert_eq!(answer, whole[0]);
    rig.append(&session, u("one more"), None).await;
    assert_eq!(tree(&rig, &session).await["truncated"], json!(true));
}

async fn other_roots_are_named() {
    let rig = Rig::start().await;
    for row in [
        entry("a", None, 1),
        entry("b", None, 2),
        entry("c", Some("a"), 3),
        entry("d", Some("gone"), 4),
    ] {
        rig.write_row("X", row).await;
    }
    let answer = tree(&rig, "X").await;
    assert_eq!(shape(&answer), json!(["a", [["c", []]]]));
    assert_eq!(answer["other_roots"], json!(["b", "d"]));
}

async fn field_lesson_s8_a_bad_record_keeps_its_place_in_the_tree() {
    let rig = Rig::start().await;
    let broken = json!({"type": "message", "id": "b", "parent_id": "a", "timestamp": 2, "message": "hi"});
    for row in [entry("a", None, 1), broken.clone(), entry("c", Some("b"), 3)] {
        rig.write_row("X", row).await;
    }
    let request = json!({"scope": "session_tree:X", "key": "n", "value": 17});
    rig.call("state::set", request).await.unwrap();
    let answer = tree(&rig, "X").await;
    assert_eq!(shape(&answer), json!(["a", [["b", [["c", []]]]]]));
    assert_eq!(answer["children"][0]["entry"], broken);
}
