//! Any history against a naive model, and writers beside each other.

use pretty_assertions::assert_eq;
use proptest::prelude::*;
use serde_json::json;

use super::list;
use crate::session_rig::{Rig, together, u};

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
        .map_or_else(|| json!(0), |row| row["entry_count"].clone());
    assert_eq!(count, json!(model.0.len()));
}

/// Concurrent writers, each appending its own numbers to the tip: all of them are on one path, each writer's in order.
async fn concurrent_writers(writers: usize, each: usize) {
    let rig = Rig::start().await;
    let tasks = (0..writers).map(|writer| {
        let rig = rig.clone();
        async move {
            for n in 0..each {
                rig.append("s", u(&format!("{writer}:{n}")), None).await;
                tokio::task::yield_now().await;
                path_of(&rig, None).await;
            }
        }
    });
    together(tasks).await;
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

pub(super) fn run(test: impl Future<Output = ()>) {
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
