//! Everything that writes, by writers beside each other, against a model. Times rise with every entry, so the stored order tells
//! in which order the writes took place; the model repeats them one by one and must come to the same tree.

use std::collections::{BTreeSet, HashMap};

use harness::config::StoreBackend;
use pretty_assertions::assert_eq;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::model::run;
use super::{in_stored_order, list, made};
use crate::session_rig::{Rig, a, r, together};

const SESSION: &str = "s";

/// What a writer does. Entries are picked among those that it has written itself.
#[derive(Debug, Clone)]
enum Op {
    Append {
        under: Option<Index>,
    },
    Synthetic {
        under: Option<Index>,
    },
    Result,
    Update {
        which: Index,
        output: bool,
    },
    Compact {
        under: Option<Index>,
        tail: Option<Index>,
    },
    Reconcile {
        more: usize,
    },
    Fork {
        at: Index,
    },
    Clone,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let pick = || prop::option::weighted(0.3, any::<Index>());
    let op = prop_oneof![
        4 => pick().prop_map(|under| Op::Append { under }),
        2 => pick().prop_map(|under| Op::Synthetic { under }),
        2 => Just(Op::Result),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(which, output)| Op::Update { which, output }),
        2 => (pick(), pick()).prop_map(|(under, tail)| Op::Compact { under, tail }),
        2 => (0..4_usize).prop_map(|more| Op::Reconcile { more }),
        1 => any::<Index>().prop_map(|at| Op::Fork { at }),
        1 => Just(Op::Clone),
    ];
    prop::collection::vec(op, 1..14)
}

fn writers() -> impl Strategy<Value = Vec<Vec<Op>>> {
    prop::collection::vec(ops(), 1..5)
}

/// What a writer knows of an entry of its own.
#[derive(Debug, Clone)]
struct Own {
    /// First text of the message, or the summary.
    text: String,
    /// The parent, if it was asked for.
    under: Option<String>,
    tail: Option<String>,
    is_result: bool,
}

/// What a writer has done.
#[derive(Debug, Default)]
struct Done {
    /// In the order of writing.
    ids: Vec<String>,
    own: HashMap<String, Own>,
    /// Texts that `reconcile` said to have added.
    reconciled: Vec<String>,
    /// Session and the entry that it was forked at.
    forks: Vec<(String, String)>,
    clones: Vec<String>,
}

impl Done {
    fn pick(&self, index: Option<&Index>) -> Option<String> {
        let index = index.filter(|_| !self.ids.is_empty())?;
        Some(index.get(&self.ids).clone())
    }

    fn wrote(&mut self, reply: &Value, own: Own) {
        let id = reply["entry_id"].as_str().unwrap().to_owned();
        self.ids.push(id.clone());
        self.own.insert(id, own);
    }

    async fn append(&mut self, rig: &Rig, under: Option<String>, message: Value) {
        let is_result = message["role"] == "function_result";
        let text = message["content"][0]["text"].as_str().unwrap().to_owned();
        let request = json!({"session_id": SESSION, "message": message, "parent_id": under});
        let reply = rig.call("session-tree::append", request).await.unwrap();
        self.wrote(
            &reply,
            Own {
                text,
                under,
                tail: None,
                is_result,
            },
        );
    }

    async fn act(&mut self, rig: &Rig, op: Op, text: String) {
        match op {
            Op::Append { under } => self.append(rig, self.pick(under.as_ref()), a(&text)).await,
            Op::Result => self.append(rig, None, r(&text)).await,
            Op::Synthetic { under } => {
                let under = self.pick(under.as_ref());
                let request = json!({"session_id": SESSION, "text": text, "parent_id": under});
                let reply = rig.call("session-tree::append_synthetic", request).await.unwrap();
                self.wrote(
                    &reply,
                    Own {
                        text,
                        under,
                        tail: None,
                        is_result: false,
                    },
                );
            }
            Op::Compact { under, tail } => {
                let (under, tail) = (self.pick(under.as_ref()), self.pick(tail.as_ref()));
                let request = json!({"session_id": SESSION, "summary": text, "parent_id": under, "tail_start_id": tail});
                let reply = rig.call("session-tree::compact", request).await.unwrap();
                self.wrote(
                    &reply,
                    Own {
                        text,
                        under,
                        tail,
                        is_result: false,
                    },
                );
            }
            Op::Update { which, output } => {
                let Some(id) = self.pick(Some(&which)) else { return };
                let own = self.own.get_mut(&id).unwrap();
                let output = output.then_some(text);
                let items = json!([{"entry_id": id, "output": output}, {"entry_id": "nobody"}]);
                let reply = rig
                    .call(
                        "session-tree::update_parts",
                        json!({"session_id": SESSION, "items": items}),
                    )
                    .await
                    .unwrap();
                assert_eq!(reply, json!({"updated": u8::from(own.is_result)}));
                if own.is_result {
                    own.text = output.unwrap_or_else(|| "[output pruned]".to_owned());
                }
            }
            Op::Reconcile { more } => {
                let rows = rig.messages(json!({"session_id": SESSION})).await;
                let known = rows.len();
                let mut snapshot: Vec<Value> =
                    rows.into_iter().map(|mut row| row["message"].take()).collect();
                snapshot.extend((0..more).map(|n| a(&format!("{text}+{n}"))));
                let texts: Vec<String> = snapshot.iter().map(text_of).collect();
                let request = json!({"session_id": SESSION, "state_snapshot": snapshot});
                let reply = rig.call("session-tree::reconcile", request).await.unwrap();
                let count = |name: &str| usize::try_from(reply[name].as_u64().unwrap()).unwrap();
                let repaired = count("repaired");
                assert_eq!(count("state_count"), known + more);
                assert_eq!(count("tree_count_after"), count("tree_count_before") + repaired);
                assert_eq!(
                    repaired,
                    (known + more).saturating_sub(count("tree_count_before"))
                );
                // Others may have begun a shorter branch meanwhile; then old messages are added once more.
                self.reconciled
                    .extend_from_slice(&texts[texts.len() - repaired..]);
            }
            Op::Fork { at } => {
                let Some(at) = self.pick(Some(&at)) else { return };
                let request = json!({"source_session_id": SESSION, "from_entry_id": at});
                self.forks
                    .push((made(rig, "session-tree::fork", request).await, at));
            }
            Op::Clone => {
                let request = json!({"source_session_id": SESSION});
                self.clones.push(made(rig, "session-tree::clone", request).await);
            }
        }
    }
}

/// First text of a message.
fn text_of(message: &Value) -> String {
    message["content"][0]["text"].as_str().unwrap().to_owned()
}

/// All rows of a session in stored order, as the worker tells them.
async fn rows_of(rig: &Rig, session: &str) -> Vec<Value> {
    let request = json!({ "session_id": session });
    let Ok(mut tree) = rig.call("session-tree::tree", request).await else {
        return Vec::new();
    };
    assert_eq!(tree.get("other_roots"), None);
    if tree["truncated"] == true {
        return serde_json::from_value(tree["entries"].take()).unwrap();
    }
    let (mut rows, mut open) = (Vec::new(), vec![tree.take()]);
    while let Some(mut node) = open.pop() {
        rows.push(node["entry"].take());
        if let Value::Array(children) = node["children"].take() {
            open.extend(children);
        }
    }
    in_stored_order(rows)
}

/// What a copy of a row has in common with it. The text of a result may change at any time.
fn told(row: &Value) -> Value {
    let message = &row["message"];
    let text = match row["type"].as_str().unwrap() {
        "compaction" => row["summary"].clone(),
        _ if message["role"] == "function_result" => Value::Null,
        _ => json!(text_of(message)),
    };
    json!([
        row["type"],
        message["role"],
        text,
        row["timestamp"],
        row["metadata"]
    ])
}

/// Rows by place: what they tell, and the places of their parents and tails among them.
fn by_place(rows: &[&Value]) -> Vec<Value> {
    let places: HashMap<&str, usize> = (rows.iter().map(|row| row["id"].as_str().unwrap()))
        .zip(0..)
        .collect();
    let place = |id: &Value| id.as_str().and_then(|id| places.get(id));
    let by_place = |row: &&Value| json!([told(row), place(&row["parent_id"]), place(&row["tail_start_id"])]);
    rows.iter().map(by_place).collect()
}

/// The sequential model: ids and parents in order of writing.
#[derive(Default)]
struct Model {
    entries: Vec<(String, Option<String>)>,
    parents: BTreeSet<String>,
}

impl Model {
    fn tip(&self) -> Option<String> {
        let tip = self
            .entries
            .iter()
            .rev()
            .find(|(id, _)| !self.parents.contains(id));
        tip.map(|(id, _)| id.clone())
    }

    fn push(&mut self, id: &str, under: Option<String>) -> Option<String> {
        let parent = under.or_else(|| self.tip());
        self.parents.extend(parent.clone());
        self.entries.push((id.to_owned(), parent.clone()));
        parent
    }

    fn path(&self, leaf: Option<String>) -> Vec<String> {
        let parents: HashMap<_, _> = self.entries.iter().cloned().collect();
        let mut path: Vec<String> = std::iter::successors(leaf, |id| parents[id].clone()).collect();
        path.reverse();
        path
    }
}

async fn check(rig: &Rig, done: Done) {
    let rows = rows_of(rig, SESSION).await;
    let times: Vec<i64> = rows
        .iter()
        .map(|row| row["timestamp"].as_i64().unwrap())
        .collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");

    let mut model = Model::default();
    let mut strangers = Vec::new();
    for row in &rows {
        let id = row["id"].as_str().unwrap();
        let own = done.own.get(id);
        let parent = model.push(id, own.and_then(|own| own.under.clone()));
        assert_eq!(row["parent_id"], json!(parent));
        let Some(own) = own else {
            strangers.push(text_of(&row["message"]));
            continue;
        };
        if row["type"] == "compaction" {
            assert_eq!(
                (&row["summary"], &row["tail_start_id"]),
                (&json!(own.text), &json!(own.tail))
            );
        } else {
            assert_eq!(text_of(&row["message"]), own.text);
        }
    }
    assert_eq!(rows.len(), done.own.len() + strangers.len());
    let mut reconciled = done.reconciled;
    reconciled.sort_unstable();
    strangers.sort_unstable();
    assert_eq!(strangers, reconciled);

    let by_id: HashMap<&str, &Value> = rows
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row))
        .collect();
    let path = model.path(model.tip());
    let messages = path.iter().filter(|id| by_id[id.as_str()]["type"] == "message");
    let found = rig.messages(json!({"session_id": SESSION})).await;
    let found: Vec<_> = found
        .iter()
        .map(|row| row["entry_id"].as_str().unwrap())
        .collect();
    assert_eq!(found, messages.collect::<Vec<_>>());

    let listed = list(rig, json!({})).await;
    let listed = listed["sessions"].as_array().unwrap();
    assert_eq!(listed.len(), 1 + done.forks.len() + done.clones.len());
    let row = listed.iter().find(|row| row["session_id"] == SESSION).unwrap();
    let last = rows
        .iter()
        .rfind(|row| row["type"] == "message")
        .map(|row| &row["message"]);
    let last = last.filter(|message| message["role"] != "function_result");
    assert_eq!(
        (&row["entry_count"], &row["last_message_summary"]),
        (
            &json!(rows.len()),
            &last.map(|message| json!(text_of(message))).unwrap_or_default()
        )
    );

    for (session, at) in done.forks {
        let source: Vec<&Value> = model.path(Some(at)).iter().map(|id| by_id[id.as_str()]).collect();
        check_copy(rig, &session, &source, &by_id).await;
    }
    for session in done.clones {
        // One moment of the source: all that was written until then, and nothing else.
        let copied = rows_of(rig, &session).await.len();
        let source: Vec<&Value> = rows.iter().take(copied).collect();
        check_copy(rig, &session, &source, &by_id).await;
    }
}

async fn check_copy(rig: &Rig, session: &str, source: &[&Value], ids: &HashMap<&str, &Value>) {
    let rows = rows_of(rig, session).await;
    assert_eq!(by_place(&rows.iter().collect::<Vec<_>>()), by_place(source));
    assert!(
        rows.iter()
            .all(|row| !ids.contains_key(row["id"].as_str().unwrap()))
    );
}

async fn against_the_model(backend: u8, writers: Vec<Vec<Op>>) {
    let rig = match backend {
        0 => Rig::start().await,
        1 => Rig::on_shared_engine().await,
        _ => Rig::with(|config| config.session.store_backend = StoreBackend::Memory).await,
    };
    rig.call("session-tree::ensure", json!({"session_id": SESSION}))
        .await
        .unwrap();
    let tasks = writers.into_iter().enumerate().map(|(writer, ops)| {
        let rig = rig.clone();
        async move {
            let mut done = Done::default();
            for (n, op) in ops.into_iter().enumerate() {
                done.act(&rig, op, format!("{writer}:{n}")).await;
                tokio::task::yield_now().await;
            }
            done
        }
    });
    let mut all = Done::default();
    for done in together(tasks).await {
        all.own.extend(done.own);
        all.reconciled.extend(done.reconciled);
        all.forks.extend(done.forks);
        all.clones.extend(done.clones);
    }
    if backend < 2 {
        // What is remembered is what is stored.
        let reborn = rig.reborn().await;
        assert_eq!(
            rows_of(&reborn, SESSION).await,
            in_stored_order(rig.rows(SESSION).await)
        );
        assert_eq!(rows_of(&reborn, SESSION).await, rows_of(&rig, SESSION).await);
        assert_eq!(list(&reborn, json!({})).await, list(&rig, json!({})).await);
    }
    check(&rig, all).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn writers_beside_each_other_agree_with_the_model(backend in 0..3_u8, writers in writers()) {
        run(against_the_model(backend, writers));
    }
}
