//! The program killed while many write to a tree of budgets (field lesson B1).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::crash::place::Life;
use crate::session_rig::together;
use crate::support::outsider::Outsider;

const LIVES: u32 = 6;
const WRITERS: u32 = 8;
const CEILING: f64 = 50.0;

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({
            "permissions_path": dir.path().join("rules.yaml"),
            "engine": { "mode": "embedded", "data_dir": dir.path().join("data"), "listen": "127.0.0.1:0" },
            "http": { "listen": "" },
        });
        std::fs::write(dir.path().join("rules.yaml"), "rules: []").unwrap();
        std::fs::write(dir.path().join("config.yaml"), config.to_string()).unwrap();
        Self { dir }
    }

    async fn start(&self, life: u32) -> (Life, SocketAddr) {
        let log = self.dir.path().join(format!("life-{life}.log"));
        let life = Life::begin(&self.dir.path().join("config.yaml"), log);
        let address = life.listens().await;
        (life, address)
    }
}

async fn ok(outsider: &Outsider, name: &str, request: Value) -> Value {
    outsider.call(&format!("budget::{name}"), request).await.unwrap()
}

/// What a writer knows when it ends: spends that were acknowledged, and one of which nobody knows.
#[derive(Default)]
struct Told {
    acknowledged: Vec<String>,
    unknown: Option<String>,
}

/// Reserves a dollar, spends half of it, and again, until the program is gone.
async fn write(address: SocketAddr, budget: String, name: String) -> Told {
    let outsider = Outsider::join(address).await;
    let mut told = Told::default();
    for number in 0.. {
        let id = format!("{name}-{number}");
        let check = json!({
            "budget_id": budget, "estimated_cost_usd": 1, "reserve": true, "reservation_id": id,
        });
        let call = tokio::time::timeout(Duration::from_secs(2), outsider.call("budget::check", check)).await;
        match call {
            Ok(Ok(answer)) if answer["allowed"] == true => {}
            _ => break,
        }
        let record = record(&budget, &id);
        let call = outsider.call("budget::record", record);
        if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(2), call).await {
            told.acknowledged.push(id);
        } else {
            told.unknown = Some(id);
            break;
        }
    }
    outsider.leave().await;
    told
}

fn record(budget: &str, id: &str) -> Value {
    json!({"budget_id": budget, "cost_usd": 0.5, "reservation_id": id, "record_id": id})
}

async fn numbers(outsider: &Outsider, id: &str) -> (f64, f64) {
    let budget = ok(outsider, "get", json!({ "budget_id": id })).await["budget"].take();
    let reserved: f64 = budget["reservations"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|reservation| reservation["amount_usd"].as_f64().unwrap())
        .sum();
    (budget["spent_usd"].as_f64().unwrap(), reserved)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_program_neither_loses_spend_nor_passes_a_ceiling() {
    let place = Place::new();
    let (life, address) = place.start(0).await;
    let outsider = Outsider::join(address).await;
    let create = async |parent: Value, ceiling: f64| {
        let request = json!({"ceiling_usd": ceiling, "period": "month", "parent_id": parent});
        ok(&outsider, "create", request).await["budget_id"].take()
    };
    let top = create(Value::Null, CEILING).await;
    let leaf = create(top.clone(), CEILING * 2.0).await;
    let (top, leaf) = (
        top.as_str().unwrap().to_owned(),
        leaf.as_str().unwrap().to_owned(),
    );
    outsider.leave().await;
    let mut running = Some((life, address));
    let mut spends: HashSet<String> = HashSet::new();
    for number in 1..=LIVES {
        let (life, address) = running.take().unwrap();
        let death = async move {
            // The moment of death is what this test varies.
            tokio::time::sleep(Duration::from_millis(u64::from(60 + 35 * number))).await;
            life.kill();
        };
        let writers = (0..WRITERS).map(|writer| write(address, leaf.clone(), format!("{number}-{writer}")));
        let (told, ()) = tokio::join!(together(writers), death);
        let (life, address) = place.start(number).await;
        let outsider = Outsider::join(address).await;
        let acknowledged: Vec<&String> = told.iter().flat_map(|told| &told.acknowledged).collect();
        spends.extend(acknowledged.into_iter().cloned());
        for id in [&top, &leaf] {
            let (spent, reserved) = numbers(&outsider, id).await;
            assert!(spent + reserved <= CEILING, "{spent} + {reserved}");
            assert!(spent >= 0.5 * as_f64(spends.len()), "{spent} of {}", spends.len());
        }
        // Whoever does not know asks again.
        for id in told.into_iter().filter_map(|told| told.unknown) {
            ok(&outsider, "record", record(&leaf, &id)).await;
            spends.insert(id);
        }
        for id in [&top, &leaf] {
            assert_eq!(
                json!(numbers(&outsider, id).await.0),
                json!(0.5 * as_f64(spends.len()))
            );
        }
        outsider.leave().await;
        running = Some((life, address));
    }
    assert!(!spends.is_empty());
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}
