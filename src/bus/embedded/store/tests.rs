use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc;

use pretty_assertions::assert_eq;
use proptest::prelude::*;
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

fn fail() -> impl FnOnce(&Connection) -> Result<()> {
    |connection| {
        connection
            .execute(
                "INSERT INTO collections (kind, name, grp) VALUES (0, 'half', '')",
                [],
            )
            .map_err(|error| Error::store("test", error))?;
        Err(Error::store("test", "on purpose"))
    }
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

#[test]
fn a_batch_is_all_or_nothing() {
    both(|store| {
        // The second write cannot be done: the number it would count up is no JSON any more.
        one(store, set(Address::state("d", "broken"), json!(1)));
        wait(store.transact(|connection| {
            connection
                .execute("UPDATE rows SET value = 'not json'", [])
                .map_err(|error| Error::store("test", error))
        }))
        .unwrap();
        let batch = vec![
            set(Address::state("d", "a"), json!(1)),
            update(
                Address::state("d", "broken"),
                &[json!({"type":"increment","path":"n","by":1})],
            ),
        ];
        let error = wait(store.write(batch)).unwrap_err();
        assert!(matches!(error, Error::Store { .. }), "{error:?}");
        assert_eq!(value_at(store, Address::state("d", "a")), None);
    });
}

#[test]
fn a_failed_task_does_not_fail_its_neighbours() {
    both(|store| {
        let (release, held) = hold(store);
        let before = store.write(vec![set(Address::state("d", "before"), json!(1))]);
        let failing = store.transact(fail());
        let panicking = store.transact(|_| -> Result<()> { panic!("on purpose") });
        let after = store.write(vec![set(Address::state("d", "after"), json!(2))]);
        drop(release);
        wait(held).unwrap();
        wait(before).unwrap();
        assert_eq!(wait(failing), Err(Error::store("test", "on purpose")));
        assert_eq!(
            wait(panicking),
            Err(Error::store("store", "a step of the store panicked"))
        );
        wait(after).unwrap();
        assert_eq!(wait(store.list(Place::state("d"))).unwrap(), [json!(1), json!(2)]);
        assert_eq!(wait(store.state_scopes()).unwrap(), ["d"]);
    });
}

#[test]
fn a_failed_task_alone_leaves_nothing() {
    both(|store| {
        assert_eq!(
            wait(store.transact(fail())),
            Err(Error::store("test", "on purpose"))
        );
        assert_eq!(wait(store.state_scopes()).unwrap(), Vec::<String>::new());
        one(store, set(Address::state("d", "k"), json!(1)));
        assert_eq!(wait(store.state_scopes()).unwrap(), ["d"]);
    });
}

#[test]
fn figures_are_right_after_an_undone_insert() {
    both(|store| {
        let (release, held) = hold(store);
        // Makes the collection, then fails: the next write must not trust what was remembered of it.
        let half = store.write(vec![
            set(Address::state("new", "a"), json!(1)),
            update(
                Address::state("new", "a"),
                &[json!({"type":"set","path":"","value":too_deep()})],
            ),
        ]);
        let whole = store.write(vec![set(Address::state("new", "b"), json!(2))]);
        drop(release);
        wait(held).unwrap();
        assert!(wait(half).is_err());
        wait(whole).unwrap();
        assert_eq!(wait(store.list(Place::state("new"))).unwrap(), [json!(2)]);
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

#[test]
fn writes_are_queued_at_the_call_and_hooks_run_in_commit_order() {
    both(|store| {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut pending: Vec<_> = (0..100)
            .map(|n| {
                let order = Arc::clone(&order);
                let hook: AfterCommit = Box::new(move |written| {
                    order.lock().unwrap().push((n, seen(&written[0]).new));
                });
                store.write_then(vec![set(Address::state("d", "k"), json!(n))], Some(hook))
            })
            .collect();
        // Awaited backwards, or never: the order is that of the calls.
        wait(pending.pop().unwrap()).unwrap();
        drop(pending);
        let expected: Vec<_> = (0..100).map(|n| (n, Some(json!(n)))).collect();
        assert_eq!(*order.lock().unwrap(), expected);
    });
}

#[test]
fn a_hook_that_panics_does_not_stop_the_store() {
    both(|store| {
        let hook: AfterCommit = Box::new(|_| panic!("on purpose"));
        wait(store.write_then(vec![set(Address::state("d", "k"), json!(1))], Some(hook))).unwrap();
        assert_eq!(value_at(store, Address::state("d", "k")), Some(json!(1)));
    });
}

/// A full disk, played by a cap on the file's size.
#[test]
fn a_full_disk_is_an_error_and_not_the_end() {
    let cap = |store: &Store, pages: i64| {
        wait(store.transact(move |connection| {
            let set = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
            connection
                .query_row(&format!("PRAGMA max_page_count = {pages}"), [], set)
                .map_err(|error| Error::store("test", error))
        }))
        .unwrap()
    };
    both(|store| {
        one(store, set(Address::state("d", "k"), json!(1)));
        cap(store, 40);
        let (release, held) = hold(store);
        let small = store.write(vec![set(Address::state("d", "small"), json!(2))]);
        let large = store.write(vec![set(
            Address::state("d", "large"),
            json!("x".repeat(1 << 20)),
        )]);
        drop(release);
        wait(held).unwrap();
        let error = wait(large).unwrap_err();
        assert_eq!(error, Error::store("store", "database or disk is full"));
        // What shared the transaction is either there and acknowledged, or neither.
        let expected = wait(small).is_ok().then(|| json!(2));
        assert_eq!(value_at(store, Address::state("d", "small")), expected);
        cap(store, 1_000_000);
        one(
            store,
            set(Address::state("d", "large"), json!("x".repeat(1 << 20))),
        );
        assert_eq!(value_at(store, Address::state("d", "k")), Some(json!(1)));
        assert_eq!(store.problem(), None);
    });
}

#[test]
fn a_lost_group_is_reported_until_the_next_one_goes_well() {
    both(|store| {
        // A task that fails for a reason of its own says nothing about the store.
        assert_eq!(
            wait(store.transact(fail())),
            Err(Error::store("test", "on purpose"))
        );
        assert_eq!(store.problem(), None);
        // Ends the transaction under the writer's feet: COMMIT has nothing to commit, the group is lost.
        let lost = store.transact(|connection| {
            connection
                .execute_batch("ROLLBACK")
                .map_err(|error| Error::store("test", error))?;
            Err::<(), _>(Error::store("test", "lost"))
        });
        assert_eq!(wait(lost), Err(Error::store("test", "lost")));
        assert_eq!(store.problem(), Some("test: lost".to_owned()));
        one(store, set(Address::state("d", "k"), json!(1)));
        assert_eq!(store.problem(), None);
    });
}

#[test]
fn c00_case_32_an_acknowledged_write_is_there_after_a_reopen() {
    for durability in [Durability::Full, Durability::Normal] {
        let directory = TempDir::new().unwrap();
        let options = StoreOptions {
            durability,
            ..StoreOptions::default()
        };
        let copy = TempDir::new().unwrap();
        {
            let store = Store::open(directory.path(), &options).unwrap();
            one(&store, set(Address::state("d", "k"), json!({"n": 1})));
            // What is on disk at this moment is what a kill would leave: no shutdown, no checkpoint.
            for file in ["harness.db", "harness.db-wal"] {
                std::fs::copy(directory.path().join(file), copy.path().join(file)).unwrap();
            }
        }
        for place in [&directory, &copy] {
            let store = Store::open(place.path(), &options).unwrap();
            assert_eq!(value_at(&store, Address::state("d", "k")), Some(json!({"n": 1})));
        }
    }
}

#[test]
fn closing_writes_out_what_is_queued() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path(), &directory_options()).unwrap();
    let pending: Vec<_> = (0..500)
        .map(|n| store.write(vec![set(Address::state("d", format!("k{n}")), json!(n))]))
        .collect();
    store.close();
    assert_eq!(
        pending
            .into_iter()
            .filter(|_| true)
            .map(|pending| wait(pending).is_ok())
            .filter(|ok| *ok)
            .count(),
        500
    );
    let refused = wait(store.write(vec![set(Address::state("d", "late"), json!(1))])).unwrap_err();
    assert_eq!(refused, Error::store("store write", "the store is closed"));
    let store = Store::open(directory.path(), &directory_options()).unwrap();
    assert_eq!(
        wait(store.list(Place::state("d"))).unwrap(),
        (0..500).map(Value::from).collect::<Vec<_>>()
    );
}

#[test]
fn a_second_opener_is_refused_and_told_the_directory() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path(), &directory_options()).unwrap();
    let place = directory.path().display();
    let expected = Error::Unavailable(format!("the data directory {place} is in use by another process"));
    assert_eq!(
        Store::open(directory.path(), &directory_options()).unwrap_err(),
        expected
    );
    drop(store);
    Store::open(directory.path(), &directory_options()).unwrap();
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    drop(Store::open(directory.path(), &directory_options()).unwrap());
    let file = Connection::open(directory.path().join("harness.db")).unwrap();
    file.pragma_update(None, "user_version", 999).unwrap();
    let error = Store::open(directory.path(), &directory_options())
        .unwrap_err()
        .to_string();
    let expected = format!(
        "the store in {} was written by a newer version of this program: its schema is 999",
        directory.path().display()
    );
    assert!(error.starts_with(&expected), "{error}");
    let version: u32 = file
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, 999);
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let directory = TempDir::new().unwrap();
    std::fs::write(
        directory.path().join("harness.db"),
        "no database, but long enough to be looked at".repeat(99),
    )
    .unwrap();
    let error = Store::open(directory.path(), &directory_options())
        .unwrap_err()
        .to_string();
    assert!(error.contains(&directory.path().display().to_string()), "{error}");
}

#[test]
fn a_stream_group_keeps_the_newest_items() {
    let options = StoreOptions {
        stream_items_per_group: 3,
        ..directory_options()
    };
    let directory = TempDir::new().unwrap();
    let items = |store: &Store, group: &str| wait(store.list(Place::stream("s", group))).unwrap();
    {
        let store = Store::open(directory.path(), &options).unwrap();
        for n in 0..5 {
            one(&store, set(Address::stream("s", "g", format!("i{n}")), json!(n)));
        }
        // An item that is there keeps its place and pushes nothing out.
        one(&store, set(Address::stream("s", "g", "i2"), json!(20)));
        one(&store, set(Address::stream("s", "other", "i"), json!(7)));
        assert_eq!(items(&store, "g"), [json!(20), json!(3), json!(4)]);
        assert_eq!(value_at(&store, Address::stream("s", "g", "i1")), None);
        // State has no such limit.
        for n in 0..5 {
            one(&store, set(Address::state("s", format!("i{n}")), json!(n)));
        }
    }
    {
        // The count is found again.
        let store = Store::open(directory.path(), &options).unwrap();
        one(&store, delete(Address::stream("s", "g", "i3")));
        one(&store, set(Address::stream("s", "g", "i5"), json!(5)));
        one(&store, set(Address::stream("s", "g", "i6"), json!(6)));
        assert_eq!(items(&store, "g"), [json!(4), json!(5), json!(6)]);
    }
    let lower = StoreOptions {
        stream_items_per_group: 2,
        ..options
    };
    let store = Store::open(directory.path(), &lower).unwrap();
    assert_eq!(items(&store, "g"), [json!(5), json!(6)]);
    assert_eq!(items(&store, "other"), [json!(7)]);
    assert_eq!(wait(store.list(Place::state("s"))).unwrap().len(), 5);
}

#[test]
fn sixty_four_writers_lose_nothing() {
    both(|store| {
        std::thread::scope(|scope| {
            for writer in 0..64 {
                scope.spawn(move || {
                    for n in 0..20 {
                        let count = update(
                            Address::state("d", "n"),
                            &[json!({"type":"increment","path":"n","by":1})],
                        );
                        let own = set(Address::state(format!("w{writer}"), format!("k{n}")), json!(n));
                        wait(store.write(vec![count, own])).unwrap();
                        assert_eq!(
                            value_at(store, Address::state(format!("w{writer}"), format!("k{n}"))),
                            Some(json!(n))
                        );
                    }
                });
            }
        });
        assert_eq!(
            value_at(store, Address::state("d", "n")),
            Some(json!({"n": 1280}))
        );
        for writer in 0..64 {
            let expected: Vec<_> = (0..20).map(Value::from).collect();
            assert_eq!(
                wait(store.list(Place::state(format!("w{writer}")))).unwrap(),
                expected
            );
        }
    });
}

#[test]
fn readers_are_not_blocked_by_a_writer_at_work() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path(), &directory_options()).unwrap();
    one(&store, set(Address::state("d", "k"), json!(1)));
    let (release, held) = hold(&store);
    assert_eq!(value_at(&store, Address::state("d", "k")), Some(json!(1)));
    drop(release);
    wait(held).unwrap();
}

/// The last handle may go inside a hook, on the writer thread itself.
#[test]
fn the_last_handle_may_go_on_the_writer_thread() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path(), &directory_options()).unwrap();
    let (gone, seen) = mpsc::channel();
    let last = store.clone();
    let (release, held) = hold(&store);
    drop(store.write_then(
        vec![set(Address::state("d", "k"), json!(1))],
        Some(Box::new(move |_| {
            drop(last);
            gone.send(()).unwrap();
        })),
    ));
    drop(store);
    drop(release);
    wait(held).unwrap();
    seen.recv().unwrap();
}

/// A model of one collection: keys in order of first insertion.
type Model = HashMap<Place, Vec<(String, Value)>>;

#[derive(Debug, Clone)]
enum Step {
    Set(Address, Value),
    Increment(Address),
    Delete(Address),
}

fn any_step() -> impl Strategy<Value = Step> {
    let address = (0..2, 0..3, 0..4).prop_map(|(kind, place, key)| match kind {
        0 => Address::state(format!("p{place}"), format!("k{key}")),
        _ => Address::stream("s", format!("p{place}"), format!("k{key}")),
    });
    prop_oneof![
        3 => (address.clone(), 0..100).prop_map(|(at, n)| Step::Set(at, json!({"n": n}))),
        1 => address.clone().prop_map(Step::Increment),
        2 => address.prop_map(Step::Delete),
    ]
}

const MODEL_LIMIT: usize = 3;

fn step_on_model(model: &mut Model, step: &Step) -> Seen {
    let (Step::Set(address, _) | Step::Increment(address) | Step::Delete(address)) = step;
    let rows = model.entry(address.place.clone()).or_default();
    let place = rows.iter().position(|(key, _)| *key == address.key);
    let old = place.map(|place| rows[place].1.clone());
    let new = match step {
        Step::Set(_, value) => Some(value.clone()),
        Step::Increment(_) => {
            let n = old.as_ref().map_or(0, |old| old["n"].as_i64().unwrap());
            Some(json!({"n": n + 1}))
        }
        Step::Delete(_) => None,
    };
    match (place, &new) {
        (Some(place), Some(new)) => rows[place].1 = new.clone(),
        (Some(place), None) => drop(rows.remove(place)),
        (None, Some(new)) => rows.push((address.key.clone(), new.clone())),
        (None, None) => {}
    }
    if address.place.is_stream() && rows.len() > MODEL_LIMIT {
        rows.remove(0);
    }
    Seen {
        existed: old.is_some(),
        old,
        new,
        errors: 0,
    }
}

fn step_to_write(step: &Step) -> Write {
    match step.clone() {
        Step::Set(address, value) => set(address, value),
        Step::Increment(address) => update(address, &[json!({"type":"increment","path":"n","by":1})]),
        Step::Delete(address) => delete(address),
    }
}

fn check(store: &Store, model: &Model) {
    let mut scopes = Vec::new();
    let mut groups = BTreeMap::<String, Vec<String>>::new();
    for (place, rows) in model {
        let values: Vec<_> = rows.iter().map(|(_, value)| value.clone()).collect();
        assert_eq!(wait(store.list(place.clone())).unwrap(), values);
        for (key, value) in rows {
            let address = Address {
                place: place.clone(),
                key: key.clone(),
            };
            assert_eq!(value_at(store, address), Some(value.clone()));
        }
        match (rows.is_empty(), place.is_stream()) {
            (true, _) => {}
            (false, true) => groups
                .entry(place.name().to_owned())
                .or_default()
                .push(place.group().to_owned()),
            (false, false) => scopes.push(place.name().to_owned()),
        }
    }
    scopes.sort();
    for groups in groups.values_mut() {
        groups.sort();
    }
    assert_eq!(wait(store.state_scopes()).unwrap(), scopes);
    assert_eq!(
        wait(store.streams()).unwrap(),
        groups.into_iter().collect::<Vec<_>>()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_map(
        batches in prop::collection::vec((prop::collection::vec(any_step(), 1..6), any::<bool>(), 0..8), 1..20),
        on_disk in any::<bool>(),
    ) {
        let options = StoreOptions { stream_items_per_group: MODEL_LIMIT as u64, ..directory_options() };
        let directory = TempDir::new().unwrap();
        let open = || if on_disk { Store::open(directory.path(), &options) } else { Store::in_memory(&options) };
        let mut store = open().unwrap();
        let mut model = Model::new();
        for (steps, fails, chance) in batches {
            let mut writes: Vec<_> = steps.iter().map(step_to_write).collect();
            if fails && chance < 3 {
                // A batch that fails in the end leaves nothing.
                writes.push(update(
                    Address::state("p0", "k0"),
                    &[json!({"type":"set","path":"","value":too_deep()})],
                ));
                prop_assert!(wait(store.write(writes)).is_err());
            } else {
                let expected: Vec<_> = steps.iter().map(|step| step_on_model(&mut model, step)).collect();
                let written = wait(store.write(writes)).unwrap();
                prop_assert_eq!(written.iter().map(seen).collect::<Vec<_>>(), expected);
            }
            if on_disk && chance == 7 {
                drop(store);
                store = open().unwrap();
            }
        }
        check(&store, &model);
    }
}
