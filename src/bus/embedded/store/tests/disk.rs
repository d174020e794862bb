//! The file: when it is full, opened again, opened twice, or not ours.

use pretty_assertions::assert_eq;

use super::*;

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
