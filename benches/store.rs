//! What a durable write costs, beside a bare `SQLite` insert loop on the same disk in the same run.
//!
//! `cargo bench --bench store`. Compare ratios, not numbers: the disk decides what a sync costs.

#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to say")]

use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use harness::bus::embedded::store::{Address, Change, Doc, Durability, Place, Store, StoreOptions, Write};
use serde_json::{Value, json};
use tempfile::TempDir;

const WRITERS: usize = 64;
const PER_WRITER: usize = 8;
const DURABILITIES: [Durability; 2] = [Durability::Full, Durability::Normal];

fn main() {
    divan::main();
}

/// About 100 bytes of JSON.
fn record(n: usize) -> Value {
    json!({ "session_id": "0b0d5a5e-5c1c-4a55-9f0a-0f2f6c1d7e11", "state": "streaming", "turn": n, "done": false })
}

fn open(durability: Durability) -> (TempDir, Store) {
    let directory = TempDir::new().expect("a temporary directory");
    let options = StoreOptions {
        durability,
        ..StoreOptions::default()
    };
    let store = Store::open(directory.path(), &options).expect("a store");
    (directory, store)
}

fn set(address: Address, n: usize) -> Write {
    Write {
        address,
        change: Change::Set(Arc::new(Doc::new(Arc::new(record(n))).expect("a document"))),
        old: false,
    }
}

/// One writer that waits for each write: a new key each time.
#[divan::bench(args = DURABILITIES, sample_count = 50, sample_size = 20)]
fn state_insert_alone(bencher: Bencher, durability: Durability) {
    let (_directory, store) = open(durability);
    let mut n = 0;
    bencher.bench_local(|| {
        n += 1;
        futures::executor::block_on(store.write(vec![set(Address::state("turns", format!("k{n}")), n)]))
            .expect("written")
    });
}

/// One writer that waits for each write: the same key, as a turn record is written.
#[divan::bench(args = DURABILITIES, sample_count = 50, sample_size = 20)]
fn state_overwrite_alone(bencher: Bencher, durability: Durability) {
    let (_directory, store) = open(durability);
    let mut n = 0;
    bencher.bench_local(|| {
        n += 1;
        futures::executor::block_on(store.write(vec![set(Address::state("turns", "k"), n)])).expect("written")
    });
}

/// The yardstick: one connection, one transaction per insert, the same settings, nothing else.
#[divan::bench(args = DURABILITIES, sample_count = 50, sample_size = 20)]
fn bare_insert_alone(bencher: Bencher, durability: Durability) {
    let (_directory, connection) = bare(durability);
    let mut n = 0;
    bencher.bench_local(|| {
        n += 1;
        bare_insert(&connection, &format!("k{n}"), n);
    });
}

/// 64 writers, each waiting for its own write before the next one.
#[divan::bench(args = DURABILITIES, sample_count = 10, sample_size = 1)]
fn state_insert_64_writers(bencher: Bencher, durability: Durability) {
    let (_directory, store) = open(durability);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime");
    let mut round = 0;
    bencher
        .counter(ItemsCount::new(WRITERS * PER_WRITER))
        .bench_local(|| {
            round += 1;
            runtime.block_on(async {
                let writers = (0..WRITERS).map(|writer| {
                    let store = store.clone();
                    runtime.spawn(async move {
                        for n in 0..PER_WRITER {
                            let key = format!("{round}/{writer}/{n}");
                            store
                                .write(vec![set(Address::state("turns", key), n)])
                                .await
                                .expect("written");
                        }
                    })
                });
                futures::future::join_all(writers.collect::<Vec<_>>()).await
            })
        });
}

/// The yardstick for many writers without group commit: as many inserts, one transaction each.
#[divan::bench(args = DURABILITIES, sample_count = 10, sample_size = 1)]
fn bare_insert_one_by_one(bencher: Bencher, durability: Durability) {
    let (_directory, connection) = bare(durability);
    let mut n = 0;
    bencher
        .counter(ItemsCount::new(WRITERS * PER_WRITER))
        .bench_local(|| {
            for _ in 0..WRITERS * PER_WRITER {
                n += 1;
                bare_insert(&connection, &format!("k{n}"), n);
            }
        });
}

/// A record of a transition with four rows around it: one batch.
#[divan::bench(args = DURABILITIES, sample_count = 50, sample_size = 10)]
fn batch_of_five(bencher: Bencher, durability: Durability) {
    let (_directory, store) = open(durability);
    let mut n = 0;
    bencher.bench_local(|| {
        n += 1;
        let mut batch: Vec<_> = (0..4)
            .map(|row| set(Address::stream("agent::events", "s1", format!("{n}/{row}")), row))
            .collect();
        batch.push(set(Address::state("turns", "k"), n));
        futures::executor::block_on(store.write(batch)).expect("written")
    });
}

/// A stream group at its limit: each write drops the oldest item.
#[divan::bench(sample_count = 50, sample_size = 50)]
fn stream_at_its_limit(bencher: Bencher) {
    let directory = TempDir::new().expect("a temporary directory");
    let options = StoreOptions {
        durability: Durability::Normal,
        stream_items_per_group: 1000,
    };
    let store = Store::open(directory.path(), &options).expect("a store");
    let mut n = 0;
    let mut write = || {
        n += 1;
        futures::executor::block_on(store.write(vec![set(Address::stream("s", "g", n.to_string()), n)]))
            .expect("written")
    };
    for _ in 0..1000 {
        write();
    }
    bencher.bench_local(write);
}

/// One value back, over a reader thread.
#[divan::bench(sample_count = 50, sample_size = 50)]
fn get(bencher: Bencher) {
    let (_directory, store) = open(Durability::Normal);
    futures::executor::block_on(store.write(vec![set(Address::state("turns", "k"), 1)])).expect("written");
    bencher
        .bench_local(|| futures::executor::block_on(store.get(Address::state("turns", "k"))).expect("read"));
}

/// A scope of 5000 rows.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn list_5000(bencher: Bencher) {
    let (_directory, store) = open(Durability::Normal);
    let rows = (0..5000)
        .map(|n| set(Address::state("turns", format!("k{n}")), n))
        .collect();
    futures::executor::block_on(store.write(rows)).expect("written");
    bencher.bench_local(|| futures::executor::block_on(store.list(Place::state("turns"))).expect("listed"));
}

fn bare(durability: Durability) -> (TempDir, rusqlite::Connection) {
    let directory = TempDir::new().expect("a temporary directory");
    let connection = rusqlite::Connection::open(directory.path().join("bare.db")).expect("a database");
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
             CREATE TABLE rows (scope TEXT, key TEXT, value TEXT, PRIMARY KEY (scope, key));"
        ))
        .expect("a table");
    (directory, connection)
}

fn bare_insert(connection: &rusqlite::Connection, key: &str, n: usize) {
    connection
        .prepare_cached("INSERT INTO rows VALUES ('turns', ?1, ?2)")
        .and_then(|mut insert| insert.execute((key, record(n).to_string())))
        .expect("inserted");
}
