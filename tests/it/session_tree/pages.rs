//! Parts of a path: pages, and what the newest compaction leaves visible.

use pretty_assertions::assert_eq;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::compact;
use super::model::run;
use crate::session_rig::{Rig, a, r, u};
use crate::support::three_ways;

three_ways! {
    without_the_new_members_the_answer_is_as_before,
    pages_join_to_the_whole_path,
    odd_limits_and_foreign_entries,
    after_a_compaction_its_tail_is_answered,
}

async fn ask(rig: &Rig, request: Value) -> Value {
    rig.call("session-tree::messages", request).await.unwrap()
}

fn texts(reply: &Value) -> Vec<&str> {
    let rows = reply["messages"].as_array().unwrap();
    rows.iter()
        .map(|row| row["message"]["content"][0]["text"].as_str().unwrap())
        .collect()
}

async fn numbered(rig: &Rig, session: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(rig.append(session, u(&n.to_string()), None).await);
    }
    ids
}

async fn without_the_new_members_the_answer_is_as_before() {
    let rig = Rig::start().await;
    let ids = numbered(&rig, "s", 2).await;
    let whole = json!({"messages": [
        {"entry_id": ids[0], "message": u("0")},
        {"entry_id": ids[1], "message": u("1")},
    ]});
    for request in [
        json!({"session_id": "s"}),
        json!({"session_id": "s", "limit": "1", "before": 7, "after_compaction": "x"}),
        json!({"session_id": "s", "limit": null, "before": null, "after_compaction": false}),
        json!({"session_id": "s", "limit": 2}),
    ] {
        assert_eq!(ask(&rig, request).await, whole);
    }
}

async fn pages_join_to_the_whole_path() {
    let rig = Rig::start().await;
    let ids = numbered(&rig, "s", 7).await;
    let mut before = Value::Null;
    let mut pages = Vec::new();
    loop {
        let mut reply = ask(&rig, json!({"session_id": "s", "limit": 3, "before": before})).await;
        pages.push(texts(&reply).join(" "));
        // What is appended meanwhile moves no page.
        rig.append("s", a("later"), None).await;
        before = reply["next_before"].take();
        if before.is_null() {
            break;
        }
    }
    assert_eq!(pages, ["4 5 6", "1 2 3", "0"]);

    let left = rig.append("s", a("left"), Some(&ids[2])).await;
    rig.append("s", a("right"), Some(&ids[1])).await;
    let reply = ask(&rig, json!({"session_id": "s", "branch_leaf": left, "limit": 2})).await;
    assert_eq!(texts(&reply), ["2", "left"]);
    assert_eq!(reply["next_before"], json!(ids[2]));
}

async fn odd_limits_and_foreign_entries() {
    let rig = Rig::start().await;
    let ids = numbered(&rig, "s", 3).await;
    let compaction = compact(&rig, "s", None).await;
    for limit in [json!(0), json!(-5), json!(0.9)] {
        assert_eq!(
            ask(&rig, json!({"session_id": "s", "limit": limit})).await,
            json!({"messages": []})
        );
    }
    let reply = ask(
        &rig,
        json!({"session_id": "s", "limit": 1.9, "before": compaction}),
    )
    .await;
    assert_eq!(
        (texts(&reply), &reply["next_before"]),
        (vec!["2"], &json!(ids[2]))
    );
    let reply = ask(&rig, json!({"session_id": "s", "before": ids[0]})).await;
    assert_eq!(reply, json!({"messages": []}));
    rig.append("s", a("aside"), Some(&ids[0])).await;
    for before in ["nobody", &ids[2]] {
        let request = json!({"session_id": "s", "before": before});
        let text = rig.refusal("session-tree::messages", request).await;
        assert_eq!(text, format!("entry not found: {before}"));
    }
    assert_eq!(
        ask(&rig, json!({"session_id": "ghost", "limit": 5})).await,
        json!({"messages": []})
    );
}

async fn after_a_compaction_its_tail_is_answered() {
    let rig = Rig::start().await;
    let ids = numbered(&rig, "s", 60).await;
    let request = json!({"session_id": "s", "after_compaction": true});
    let whole = ask(&rig, request.clone()).await;
    assert_eq!(texts(&whole).len(), 60);
    assert_eq!(whole["recent"], json!({}));

    let id = compact(&rig, "s", Some(&ids[58])).await;
    rig.append("s", a("next"), None).await;
    for rig in [rig.clone(), rig.reborn().await] {
        let reply = ask(&rig, request.clone()).await;
        assert_eq!(texts(&reply), ["58", "59", "next"]);
        let compaction = &reply["recent"]["compaction"];
        assert_eq!(
            (
                &compaction["id"],
                &compaction["messages_before"],
                &compaction["on_path"]
            ),
            (&json!(id), &json!(2), &json!(true))
        );
    }
    assert_eq!(
        ask(&rig, json!({"session_id": "ghost", "after_compaction": true})).await,
        json!({"messages": [], "recent": {}})
    );
}

/// One entry of a random session.
#[derive(Debug, Clone)]
enum Kind {
    User,
    Assistant,
    Result,
    Compaction { tail: Option<prop::sample::Index> },
}

fn sessions() -> impl Strategy<Value = Vec<(Kind, Option<prop::sample::Index>)>> {
    let kind = prop_oneof![
        3 => Just(Kind::User),
        3 => Just(Kind::Assistant),
        3 => Just(Kind::Result),
        2 => prop::option::weighted(0.7, any::<prop::sample::Index>()).prop_map(|tail| Kind::Compaction { tail }),
    ];
    let entry = (kind, prop::option::weighted(0.15, any::<prop::sample::Index>()));
    prop::collection::vec(entry, 0..40)
}

/// Ids of the rows that a reader of everything would show beside the summary (contract 02 §5.1), and the compaction.
fn needed(rows: &[Value], compactions: &[Value]) -> (Vec<Value>, Option<Value>) {
    let id = |row: &Value| row["entry_id"].clone();
    let Some(newest) = compactions.iter().rfind(|row| row["on_path"] == true) else {
        return (rows.iter().map(id).collect(), None);
    };
    let place = |id: &Value| rows.iter().position(|row| row["entry_id"] == *id);
    let compacted = usize::try_from(newest["messages_before"].as_u64().unwrap()).unwrap();
    let interrupted = || {
        let before = &rows[..compacted];
        before
            .iter()
            .rposition(|row| row["message"]["role"] != "function_result")
    };
    let start = place(&newest["tail_start_id"])
        .or_else(interrupted)
        .unwrap_or(compacted);
    (rows[start..].iter().map(id).collect(), Some(newest["id"].clone()))
}

async fn as_a_reader_of_everything(entries: Vec<(Kind, Option<prop::sample::Index>)>) {
    let rig = Rig::start().await;
    let mut ids: Vec<String> = Vec::new();
    for (kind, parent) in entries {
        let pick = |index: &prop::sample::Index| (!ids.is_empty()).then(|| index.get(&ids).clone());
        let parent = parent.as_ref().and_then(pick);
        let message = match kind {
            Kind::User => u("x"),
            Kind::Assistant => a("x"),
            Kind::Result => r("x"),
            Kind::Compaction { tail } => {
                let tail = tail.as_ref().and_then(pick);
                let request =
                    json!({"session_id": "s", "summary": "s", "parent_id": parent, "tail_start_id": tail});
                let reply = rig.call("session-tree::compact", request).await.unwrap();
                ids.push(reply["entry_id"].as_str().unwrap().to_owned());
                continue;
            }
        };
        ids.push(rig.append("s", message, parent.as_deref()).await);
    }
    let rows = rig.messages(json!({"session_id": "s"})).await;
    let compactions = rig
        .call("session-tree::compactions", json!({"session_id": "s"}))
        .await
        .unwrap();
    let (expected, compaction) = needed(&rows, compactions["entries"].as_array().unwrap());
    let reply = ask(&rig, json!({"session_id": "s", "after_compaction": true})).await;
    let recent = &reply["recent"];
    let found: Vec<Value> = reply["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["entry_id"].clone())
        .collect();
    assert_eq!(found, expected);
    assert_eq!(recent["compaction"]["id"], json!(compaction));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_end_of_a_path_is_what_a_reader_of_everything_shows(entries in sessions()) {
        run(as_a_reader_of_everything(entries));
    }
}
