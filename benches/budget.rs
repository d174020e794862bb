//! What it costs to set money aside and to settle it, durably, beside bare `SQLite` commits on the same disk in the same run.
//!
//! `cargo bench --bench budget`. Compare ratios, not numbers: the disk decides what a sync costs. One turn with a budget is
//! one check with a reservation and one record that settles it: two commits when it is alone.

#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to say")]

use std::path::Path;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use harness::bus::embedded::store::Durability;
use harness::bus::embedded::{Embedded, EmbeddedOptions};
use harness::bus::{Bus, CallContext, CallOptions, Ports};
use harness::clock::SystemClock;
use harness::config::MapEnv;
use harness::ids::RandomIds;
use harness::telemetry::Metrics;
use harness::workers::budget;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const WRITERS: usize = 64;
const PER_WRITER: usize = 4;

fn main() {
    divan::main();
}

/// The worker on a store in a directory of its own.
struct Desk {
    runtime: Runtime,
    bus: Bus,
    _directory: TempDir,
}

impl Desk {
    fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let directory = TempDir::new().expect("a temporary directory");
        let bus = runtime.block_on(host(directory.path()));
        Self {
            runtime,
            bus,
            _directory: directory,
        }
    }

    fn create(&self, parent: Option<&str>) -> String {
        let request = json!({ "ceiling_usd": 1_000_000, "period": "month", "parent_id": parent });
        let answer = self.runtime.block_on(call(&self.bus, "budget::create", request));
        answer["budget_id"].as_str().expect("an id").to_owned()
    }

    /// Every writer reserves and settles, again and again, on the budget that is its own.
    fn round(&self, round: usize, budgets: &[String]) {
        self.runtime.block_on(async {
            let writers = (0..WRITERS).map(|writer| {
                let (bus, budget) = (self.bus.clone(), budgets[writer % budgets.len()].clone());
                self.runtime.spawn(async move {
                    for n in 0..PER_WRITER {
                        pair(&bus, &budget, &format!("{round}/{writer}/{n}")).await;
                    }
                })
            });
            futures::future::join_all(writers.collect::<Vec<_>>()).await
        });
    }
}

async fn host(directory: &Path) -> Bus {
    let engine = Embedded::open(EmbeddedOptions {
        data_dir: Some(directory.to_owned()),
        durability: Durability::Full,
        ..EmbeddedOptions::default()
    })
    .expect("a store");
    let ports = Ports {
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        env: Arc::new(MapEnv::default()),
        config: Arc::default(),
        metrics: Metrics::new(),
    };
    let bus = Bus::new(ports, engine);
    bus.host(vec![budget::worker()]).await.expect("hosted");
    bus
}

async fn call(bus: &Bus, id: &str, request: Value) -> Value {
    bus.invoke(&CallContext::default(), id, request, CallOptions::default())
        .await
        .expect("answered")
}

/// A reservation and its settlement.
async fn pair(bus: &Bus, budget: &str, id: &str) {
    let check =
        json!({ "budget_id": budget, "estimated_cost_usd": 0.02, "reserve": true, "reservation_id": id });
    call(bus, "budget::check", check).await;
    let record = json!({ "budget_id": budget, "cost_usd": 0.01, "reservation_id": id, "record_id": id });
    call(bus, "budget::record", record).await;
}

/// One writer, one budget: two commits that wait for one another.
#[divan::bench(sample_count = 30, sample_size = 5)]
fn reserve_and_settle_alone(bencher: Bencher) {
    let desk = Desk::open();
    let budget = desk.create(None);
    let mut n = 0;
    bencher.bench_local(|| {
        n += 1;
        desk.runtime.block_on(pair(&desk.bus, &budget, &n.to_string()));
    });
}

/// 64 writers on one budget: all that wait share a commit.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn reserve_and_settle_64_writers_one_budget(bencher: Bencher) {
    many(bencher, |desk| vec![desk.create(None)]);
}

/// 64 writers on 64 budgets of one workspace: one tree, so one commit for all that wait.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn reserve_and_settle_64_writers_one_tree(bencher: Bencher) {
    many(bencher, |desk| {
        let top = desk.create(None);
        (0..WRITERS).map(|_| desk.create(Some(&top))).collect()
    });
}

/// 64 writers on 64 budgets that know nothing of each other.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn reserve_and_settle_64_writers_64_budgets(bencher: Bencher) {
    many(bencher, |desk| (0..WRITERS).map(|_| desk.create(None)).collect());
}

fn many(bencher: Bencher, budgets: impl FnOnce(&Desk) -> Vec<String>) {
    let desk = Desk::open();
    let budgets = budgets(&desk);
    let mut round = 0;
    bencher
        .counter(ItemsCount::new(WRITERS * PER_WRITER))
        .bench_local(|| {
            round += 1;
            desk.round(round, &budgets);
        });
}

/// The yardstick: one connection, two transactions for each pair, the same durability, nothing else.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn bare_two_commits_for_each_pair(bencher: Bencher) {
    let directory = TempDir::new().expect("a temporary directory");
    let connection = rusqlite::Connection::open(directory.path().join("bare.db")).expect("a database");
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE rows (key TEXT PRIMARY KEY, value TEXT)")
        .expect("a table");
    let mut spent = 0;
    bencher
        .counter(ItemsCount::new(WRITERS * PER_WRITER))
        .bench_local(|| {
            for _ in 0..2 * WRITERS * PER_WRITER {
                // A row that stays the same is not written at all.
                spent += 1;
                let row = json!({ "id": "b", "ceiling_usd": 10, "period": "day", "spent_usd": spent, "enforced": true });
                connection
                    .execute(
                        "INSERT INTO rows VALUES ('budget', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1",
                        [row.to_string()],
                    )
                    .expect("written");
            }
        });
}
