//! The program killed while many write to a tree of budgets (field lesson B1).

use std::net::SocketAddr;
use std::time::Duration;

use harness::bus::Bus;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::crash::place::Life;
use crate::session_rig::together;
use crate::support::engine::served;
use crate::support::outsider::Outsider;

const LIVES: u32 = 4;
const WRITERS: u32 = 8;
/// Dollars.
const CEILING: i64 = 50;

/// A directory with a configuration, and the engine where that is not in the program.
struct Place {
    dir: TempDir,
    engine: Option<(Bus, SocketAddr)>,
}

impl Place {
    /// The program has its engine in itself.
    fn embedded() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            engine: None,
        };
        let data = place.dir.path().join("data");
        place.configure(&json!({"mode": "embedded", "data_dir": data, "listen": "127.0.0.1:0"}));
        place
    }

    /// The engine outlives the program, and stores each row by itself.
    async fn shared() -> Self {
        let (engine, address) = served("127.0.0.1:0".parse().unwrap(), None).await;
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            engine: Some((engine, address)),
        };
        place.configure(&json!({"mode": "connect", "url": format!("ws://{address}")}));
        place
    }

    fn configure(&self, engine: &Value) {
        let rules = self.dir.path().join("rules.yaml");
        std::fs::write(&rules, "rules: []").unwrap();
        let config = json!({"permissions_path": rules, "engine": engine, "http": {"listen": ""}});
        std::fs::write(self.dir.path().join("config.yaml"), config.to_string()).unwrap();
    }

    async fn start(&self, life: u32) -> (Life, SocketAddr) {
        let log = self.dir.path().join(format!("life-{life}.log"));
        let life = Life::begin(&self.dir.path().join("config.yaml"), log);
        life.says("ready functions=").await;
        let address = match &self.engine {
            Some((_, address)) => *address,
            None => life.listens().await,
        };
        (life, address)
    }
}

async fn ok(outsider: &Outsider, name: &str, request: Value) -> Value {
    outsider.call(&format!("budget::{name}"), request).await.unwrap()
}

/// What a writer knows when it ends: spends that were acknowledged, and the call of which nobody knows what became.
struct Told {
    acknowledged: usize,
    unknown: Value,
}

/// Sets much aside, spends little of it, and again, until the program is gone. Not all writers have room at one time.
async fn write(address: SocketAddr, gone: CancellationToken, budget: String, name: String) -> Told {
    let outsider = Outsider::join(address).await;
    let call = async |name: &str, request: &Value| {
        let call = outsider.call(name, request.clone());
        gone.run_until_cancelled(call).await.and_then(Result::ok)
    };
    let mut acknowledged = 0;
    let unknown = loop {
        let id = format!("{name}-{acknowledged}");
        let check = json!({
            "budget_id": budget, "estimated_cost_usd": 10, "reserve": true, "reservation_id": id,
        });
        match call("budget::check", &check).await {
            Some(answer) if answer["allowed"] == true => {}
            Some(_) => continue,
            // It may be set aside, and is not spent.
            None => break json!({"budget_id": budget, "cost_usd": 0, "reservation_id": id}),
        }
        let record = json!({"budget_id": budget, "cost_usd": 0.01, "reservation_id": id, "record_id": id});
        if call("budget::record", &record).await.is_none() {
            break record;
        }
        acknowledged += 1;
    };
    outsider.leave().await;
    Told {
        acknowledged,
        unknown,
    }
}

/// Spent and set aside, in cents.
async fn numbers(outsider: &Outsider, id: &str) -> (i64, i64) {
    let budget = ok(outsider, "get", json!({ "budget_id": id })).await["budget"].take();
    let cents = |amount: &Value| -> i64 {
        let cents = format!("{:.0}", amount.as_f64().unwrap() * 100.0);
        cents.parse().unwrap()
    };
    let held = budget["reservations"].as_array().into_iter().flatten();
    let held = held.map(|reservation| cents(&reservation["amount_usd"])).sum();
    (cents(&budget["spent_usd"]), held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_program_neither_loses_spend_nor_passes_a_ceiling() {
    lives(Place::embedded()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_killed_beside_its_engine_neither_loses_spend_nor_passes_a_ceiling() {
    lives(Place::shared().await).await;
}

async fn lives(place: Place) {
    let (mut life, mut address) = place.start(0).await;
    let outsider = Outsider::join(address).await;
    let create = async |parent: Value, ceiling: i64| {
        let request = json!({"ceiling_usd": ceiling, "period": "month", "parent_id": parent});
        let id = ok(&outsider, "create", request).await["budget_id"].take();
        id.as_str().unwrap().to_owned()
    };
    let top = create(Value::Null, CEILING).await;
    let leaf = create(json!(top), CEILING * 2).await;
    outsider.leave().await;
    let mut spends = 0;
    for number in 1..=LIVES {
        let gone = CancellationToken::new();
        let death = async {
            // The moment of death is what this test varies.
            tokio::time::sleep(Duration::from_millis(u64::from(60 + 45 * number))).await;
            life.kill();
            gone.cancel();
        };
        let writers = (0..WRITERS)
            .map(|writer| write(address, gone.clone(), leaf.clone(), format!("{number}-{writer}")));
        let (told, ()) = tokio::join!(together(writers), death);
        (life, address) = place.start(number).await;
        let outsider = Outsider::join(address).await;
        let acknowledged = told.iter().map(|told| told.acknowledged).sum::<usize>();
        spends += i64::try_from(acknowledged).unwrap();
        for id in [&top, &leaf] {
            let (spent, held) = numbers(&outsider, id).await;
            assert!(spent + held <= 100 * CEILING, "{spent} + {held}");
            assert!(spent >= spends, "{spent} of {spends}");
        }
        // Whoever does not know asks again.
        for told in told {
            spends += i64::from(told.unknown.get("record_id").is_some());
            ok(&outsider, "record", told.unknown).await;
        }
        for id in [&top, &leaf] {
            assert_eq!(numbers(&outsider, id).await, (spends, 0));
        }
        outsider.leave().await;
    }
    assert!(spends > 0);
}
