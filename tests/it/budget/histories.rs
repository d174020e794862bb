//! Random histories beside a small sequential model, and many writers at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pretty_assertions::assert_eq;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::{DAY, Desk};
use crate::session_rig::together;
use crate::support::three_ways;

three_ways! {
    a_history_is_as_the_model_says,
    many_writers_never_pass_the_ceiling on 4 threads,
}

const TTL: i64 = 600_000;
const CEILING: i64 = 2_000;

/// Amounts in hundredths of a dollar.
#[derive(Debug, Clone)]
enum Step {
    Check(i64),
    Reserve(i64),
    /// Settles an open reservation, at another cost than was set aside.
    Settle(prop::sample::Index, i64),
    /// A record under one of a few ids, so that some are repeats.
    Record(u8, i64),
    Reset,
    Wait(i64),
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..CEILING).prop_map(Step::Check),
        4 => (0..CEILING / 4).prop_map(Step::Reserve),
        4 => (any::<prop::sample::Index>(), 0..CEILING / 4).prop_map(|(which, cost)| Step::Settle(which, cost)),
        3 => (0_u8..6, 0..CEILING / 6).prop_map(|(id, cost)| Step::Record(id, cost)),
        1 => Just(Step::Reset),
        2 => prop_oneof![0..2 * TTL, 0..DAY].prop_map(Step::Wait),
    ]
}

/// What a budget of a day has to do, in as few words as possible.
#[derive(Default)]
struct Model {
    now: i64,
    spent: i64,
    ever: i64,
    reserved: HashMap<String, (i64, i64)>,
    ids: HashSet<u8>,
}

impl Model {
    fn wait(&mut self, ms: i64) {
        if (self.now + ms) / DAY > self.now / DAY {
            self.spent = 0;
            self.ids.clear();
        }
        self.now += ms;
        let now = self.now;
        self.reserved.retain(|_, (_, until)| *until > now);
    }

    fn held(&self) -> i64 {
        self.reserved.values().map(|(amount, _)| amount).sum()
    }

    fn check(&self, estimate: i64) -> Value {
        if CEILING - self.spent - self.held() < estimate {
            json!({"allowed": false, "remaining_usd": usd(CEILING - self.spent), "reason": "ceiling_exceeded"})
        } else {
            json!({"allowed": true, "remaining_usd": usd(CEILING - self.spent)})
        }
    }

    fn record(&mut self, cost: i64) -> Value {
        self.spent += cost;
        self.ever += cost;
        self.numbers()
    }

    fn numbers(&self) -> Value {
        json!({"spent_usd": usd(self.spent), "remaining_usd": usd(CEILING - self.spent)})
    }
}

fn usd(cents: i64) -> Value {
    if cents % 100 == 0 {
        json!(cents / 100)
    } else {
        json!(f64::from(i32::try_from(cents).unwrap()) / 100.0)
    }
}

async fn a_history_is_as_the_model_says() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..12 {
        let steps = prop::collection::vec(a_step(), 60)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        play(steps).await;
    }
}

async fn play(steps: Vec<Step>) {
    let desk = Desk::open().await;
    let id = desk
        .create(json!({"ceiling_usd": usd(CEILING), "period": "day"}))
        .await;
    let mut model = Model {
        now: 17 * 3_600_000,
        ..Model::default()
    };
    let mut open: Vec<String> = Vec::new();
    for step in steps {
        match step.clone() {
            Step::Check(estimate) => {
                let request = json!({"budget_id": id, "estimated_cost_usd": usd(estimate)});
                assert_eq!(desk.ok("check", request).await, model.check(estimate), "{step:?}");
            }
            Step::Reserve(estimate) => {
                let request = json!({"budget_id": id, "estimated_cost_usd": usd(estimate), "reserve": true});
                let answer = desk.ok("check", request).await;
                let mut expected = model.check(estimate);
                if expected["allowed"] == true {
                    let reservation = answer["reservation_id"].as_str().unwrap().to_owned();
                    model
                        .reserved
                        .insert(reservation.clone(), (estimate, model.now + TTL));
                    expected["reservation_id"] = json!(reservation);
                    open.push(reservation);
                }
                expected["reserved_usd"] = usd(model.held());
                assert_eq!(answer, expected, "{step:?}");
            }
            Step::Settle(which, cost) if !open.is_empty() => {
                let reservation = open.swap_remove(which.index(open.len()));
                let request = json!({"budget_id": id, "cost_usd": usd(cost), "reservation_id": reservation});
                model.reserved.remove(&reservation);
                assert_eq!(desk.ok("record", request).await, model.record(cost), "{step:?}");
            }
            Step::Settle(..) => {}
            Step::Record(record, cost) => {
                let request =
                    json!({"budget_id": id, "cost_usd": usd(cost), "record_id": format!("id {record}")});
                let expected = if model.ids.insert(record) {
                    model.record(cost)
                } else {
                    model.numbers()
                };
                assert_eq!(desk.ok("record", request).await, expected, "{step:?}");
            }
            Step::Reset => {
                let answer = desk.ok("reset", json!({ "budget_id": id })).await;
                assert_eq!(answer["previous_spent_usd"], usd(model.spent));
                model.spent = 0;
            }
            Step::Wait(ms) => {
                desk.advance(ms);
                model.wait(ms);
            }
        }
        assert_eq!(desk.spent_ever(&id).await, usd(model.ever), "{step:?}");
    }
    desk.t.stop().await;
}

async fn many_writers_never_pass_the_ceiling() {
    let desk = Arc::new(Desk::open().await);
    let top = desk.day(30.0).await;
    let mut leaves = Vec::new();
    for _ in 0..3 {
        let request = json!({"ceiling_usd": 14, "period": "day", "parent_id": top});
        leaves.push(desk.create(request).await);
    }
    let over = Arc::new(AtomicBool::new(false));
    let watch = watch(
        Arc::clone(&desk),
        [leaves.clone(), vec![top.clone()]].concat(),
        Arc::clone(&over),
    );
    let writers = (0..24_usize).map(|writer| {
        let (desk, leaf) = (Arc::clone(&desk), leaves[writer % 3].clone());
        async move {
            let mut spent = 0;
            for number in 0..12 {
                let answer = desk.reserve(&leaf, 1.0).await;
                if answer["allowed"] == true {
                    let request = json!({
                        "budget_id": leaf, "cost_usd": 0.25, "reservation_id": answer["reservation_id"],
                        "record_id": format!("{writer}/{number}"),
                    });
                    desk.ok("record", request.clone()).await;
                    desk.ok("record", request).await;
                    spent += 1;
                }
            }
            (writer % 3, spent)
        }
    });
    let written = async {
        let counts = together(writers).await;
        over.store(true, Ordering::SeqCst);
        counts
    };
    let (written, ()) = tokio::join!(written, watch);
    let mut counts = [0_i64; 3];
    for (leaf, spent) in written {
        counts[leaf] += spent;
    }
    for (leaf, count) in leaves.iter().zip(counts) {
        assert_eq!(desk.get(leaf).await["spent_usd"], usd(25 * count));
    }
    assert_eq!(
        desk.get(&top).await["spent_usd"],
        usd(25 * counts.iter().sum::<i64>())
    );
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

/// Reads the budgets again and again while they are written to.
async fn watch(desk: Arc<Desk>, ids: Vec<String>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::SeqCst) {
        for id in &ids {
            let budget = desk.get(id).await;
            let number = |value: &Value| value.as_f64().unwrap();
            let held: f64 = budget["reservations"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|reservation| number(&reservation["amount_usd"]))
                .sum();
            let total = number(&budget["spent_usd"]) + held;
            assert!(total <= number(&budget["ceiling_usd"]), "{budget}");
        }
    }
}
