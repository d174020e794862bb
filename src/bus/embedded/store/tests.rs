//! What the store does with rows; its other sides have files of their own.

mod disk;
mod groups;
mod model;

use std::sync::mpsc;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::bus::embedded::ops;

/// What a test compares of a [`Written`].
#[derive(Debug, PartialEq)]
struct Seen {
    existed: bool,
    old: Option<Value>,
    new: Option<Value>,
    errors: usize,
}

fn seen(written: &Written) -> Seen {
    let value = |doc: &Option<Arc<Doc>>| doc.as_ref().map(|doc| Value::clone(&doc.value().unwrap()));
    Seen {
        existed: written.existed,
        old: value(&written.old),
        new: value(&written.new),
        errors: written.errors.len(),
    }
}

fn set(address: Address, value: Value) -> Write {
    Write {
        address,
        change: Change::Set(Arc::new(Doc::new(Arc::new(value)).unwrap())),
        old: true,
    }
}

fn delete(address: Address) -> Write {
    Write {
        address,
        change: Change::Delete,
        old: true,
    }
}

fn update(address: Address, ops: &[Value]) -> Write {
    Write {
        address,
        change: Change::Update(ops::parse(ops).unwrap()),
        old: true,
    }
}

fn wait<T>(pending: Pending<T>) -> Result<T> {
    futures::executor::block_on(pending)
}

fn value_at(store: &Store, address: Address) -> Option<Value> {
    wait(store.get(address))
        .unwrap()
        .map(|doc| doc.into_value().unwrap())
}

fn one(store: &Store, write: Write) -> Seen {
    seen(&wait(store.write(vec![write])).unwrap()[0])
}

fn directory_options() -> StoreOptions {
    StoreOptions {
        durability: Durability::Normal,
        ..StoreOptions::default()
    }
}

/// In memory and on disk: the rules are the same.
fn both(test: impl Fn(&Store)) {
    test(&Store::in_memory(&StoreOptions::default()).unwrap());
    let directory = TempDir::new().unwrap();
    test(&Store::open(directory.path(), &directory_options()).unwrap());
}

/// Holds the writer until the returned sender is dropped, so that what is queued meanwhile forms one group.
fn hold(store: &Store) -> (mpsc::Sender<()>, Pending<()>) {
    let (release, gate) = mpsc::channel::<()>();
    let (started, running) = mpsc::channel();
    let pending = store.transact(move |_| {
        started.send(()).unwrap();
        gate.recv().unwrap_err();
        Ok(())
    });
    running.recv().unwrap();
    (release, pending)
}

#[test]
fn set_update_delete_and_their_old_values() {
    both(|store| {
        let at = || Address::state("d", "k");
        let (no, yes) = (false, true);
        let (one_, two) = (Some(json!(1)), Some(json!({"n": 2})));
        assert_eq!(
            one(store, set(at(), json!(1))),
            Seen {
                existed: no,
                old: None,
                new: one_.clone(),
                errors: 0
            }
        );
        assert_eq!(
            one(store, set(at(), json!({"n": 2}))),
            Seen {
                existed: yes,
                old: one_,
                new: two.clone(),
                errors: 0
            }
        );
        let ops = [
            json!({"type":"increment","path":"n","by":3}),
            json!({"type":"increment","path":"","by":3}),
        ];
        let five = Some(json!({"n": 5}));
        assert_eq!(
            one(store, update(at(), &ops)),
            Seen {
                existed: yes,
                old: two,
                new: five.clone(),
                errors: 1
            }
        );
        assert_eq!(value_at(store, at()), five);
        assert_eq!(
            one(store, delete(at())),
            Seen {
                existed: yes,
                old: five,
                new: None,
                errors: 0
            }
        );
        assert_eq!(
            one(store, delete(at())),
            Seen {
                existed: no,
                old: None,
                new: None,
                errors: 0
            }
        );
        assert_eq!(value_at(store, at()), None);
    });
}

#[test]
fn a_stored_null_counts_as_a_value() {
    both(|store| {
        let at = || Address::state("d", "k");
        one(store, set(at(), Value::Null));
        let expected = Seen {
            existed: true,
            old: Some(Value::Null),
            new: Some(json!(1)),
            errors: 0,
        };
        assert_eq!(one(store, set(at(), json!(1))), expected);
    });
}

#[test]
fn without_the_old_value_presence_is_still_known() {
    both(|store| {
        let blind = |write: Write| one(store, Write { old: false, ..write });
        let at = || Address::stream("s", "g", "i");
        let (one_, two) = (Some(json!(1)), Some(json!(2)));
        assert_eq!(
            blind(set(at(), json!(1))),
            Seen {
                existed: false,
                old: None,
                new: one_,
                errors: 0
            }
        );
        assert_eq!(
            blind(set(at(), json!(2))),
            Seen {
                existed: true,
                old: None,
                new: two,
                errors: 0
            }
        );
        assert_eq!(
            blind(delete(at())),
            Seen {
                existed: true,
                old: None,
                new: None,
                errors: 0
            }
        );
        assert_eq!(
            blind(delete(at())),
            Seen {
                existed: false,
                old: None,
                new: None,
                errors: 0
            }
        );
    });
}

#[test]
fn lists_keep_the_order_of_first_insertion() {
    both(|store| {
        for key in ["b", "a", "c", "d"] {
            one(store, set(Address::state("d", key), json!(key)));
        }
        one(store, set(Address::state("d", "b"), json!("b2")));
        one(store, delete(Address::state("d", "a")));
        one(store, set(Address::state("d", "a"), json!("a2")));
        assert_eq!(
            wait(store.list(Place::state("d"))).unwrap(),
            [json!("b2"), json!("c"), json!("d"), json!("a2")]
        );
        assert_eq!(
            wait(store.list(Place::state("unknown"))).unwrap(),
            Vec::<Value>::new()
        );
    });
}

#[test]
fn groups_are_listed_whatever_their_names() {
    both(|store| {
        one(store, set(Address::state("z", "k"), json!(1)));
        one(store, set(Address::state("a", "k"), json!(1)));
        one(store, set(Address::state("gone", "k"), json!(1)));
        one(store, delete(Address::state("gone", "k")));
        for (stream, group) in [("bench::events", "s:1"), ("bench", "x"), ("bench::events", "s2")] {
            one(store, set(Address::stream(stream, group, "i"), json!(1)));
        }
        assert_eq!(wait(store.state_scopes()).unwrap(), ["a", "z"]);
        assert_eq!(
            wait(store.stream_groups("bench::events".to_owned())).unwrap(),
            ["s2", "s:1"]
        );
        let expected =
            [("bench", vec!["x"]), ("bench::events", vec!["s2", "s:1"])].map(|(stream, groups)| {
                (
                    stream.to_owned(),
                    groups.into_iter().map(str::to_owned).collect::<Vec<_>>(),
                )
            });
        assert_eq!(wait(store.streams()).unwrap(), expected);
    });
}

fn too_deep() -> Value {
    (0..128).fold(json!(1), |inner, _| json!([inner]))
}

#[test]
fn what_could_not_be_read_back_is_refused() {
    assert!(matches!(Doc::new(Arc::new(too_deep())), Err(Error::Store { .. })));
    let Value::Array(mut inner) = too_deep() else {
        panic!("an array")
    };
    let deepest = inner.remove(0);
    both(|store| {
        one(store, set(Address::state("d", "k"), deepest.clone()));
        assert_eq!(value_at(store, Address::state("d", "k")), Some(deepest.clone()));
    });
}
