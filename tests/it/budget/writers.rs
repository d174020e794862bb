//! Many writers at once: what is spent and set aside never passes a ceiling, at any moment (field lesson B1).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::Desk;
use super::model::usd;
use crate::session_rig::together;
use crate::support::three_ways;
use crate::support::way::Way;

three_ways! {
    many_writers_never_pass_the_ceiling on 4 threads,
}

/// A budget that loses the one above it has another lane from then on; here on an engine that stores each row by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_spend_is_lost_while_the_budget_above_is_deleted() {
    Way::Connect.go(spends_and_deletes()).await;
}

async fn spends_and_deletes() {
    let desk = Arc::new(Desk::open().await);
    for _ in 0..10 {
        let top = desk.day(100.0).await;
        let request = json!({"ceiling_usd": 100, "period": "day", "parent_id": top});
        let leaf = desk.create(request).await;
        let spends = (0..24).map(|number| {
            let (desk, top, leaf) = (Arc::clone(&desk), top.clone(), leaf.clone());
            async move {
                if number == 6 {
                    desk.ok("delete", json!({ "budget_id": top })).await;
                } else {
                    desk.record(&leaf, 1.0).await;
                }
            }
        });
        together(spends).await;
        let budget = desk.get(&leaf).await;
        assert_eq!(
            (&budget["spent_usd"], budget.get("parent_id")),
            (&json!(23), None)
        );
    }
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
