//! Check and reserve are one act (contract 07 §3.6, field lesson B1).

use std::sync::Arc;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Desk, NOW};
use crate::session_rig::together;
use crate::support::three_ways;

three_ways! {
    a_reservation_is_set_aside_and_settled,
    time_releases_a_reservation,
    ten_thousand_checks_with_room_for_one on 4 threads,
    a_reservation_of_the_same_id_is_one,
}

async fn settle(desk: &Desk, id: &str, reservation: &Value, cost: f64) -> Value {
    let request = json!({"budget_id": id, "cost_usd": cost, "reservation_id": reservation});
    desk.ok("record", request).await
}

async fn a_reservation_is_set_aside_and_settled() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    let first = desk.reserve(&id, 6.0).await;
    let reservation = &first["reservation_id"];
    assert_eq!(
        first,
        json!({"allowed": true, "remaining_usd": 10, "reservation_id": reservation, "reserved_usd": 6})
    );
    assert_eq!(
        desk.get(&id).await["reservations"],
        json!([{"reservation_id": reservation, "amount_usd": 6, "expires_at": NOW + 600_000}])
    );
    assert_eq!(
        desk.reserve(&id, 4.01).await,
        json!({"allowed": false, "remaining_usd": 10, "reason": "ceiling_exceeded", "reserved_usd": 6})
    );
    // One that sets nothing aside counts what others set aside.
    assert_eq!(desk.check(&id, 4.01).await["allowed"], false);
    assert_eq!(desk.check(&id, 4.0).await["allowed"], true);
    assert_eq!(
        settle(&desk, &id, reservation, 2.5).await,
        json!({"spent_usd": 2.5, "remaining_usd": 7.5})
    );
    assert_eq!(desk.get(&id).await.get("reservations"), None);
    // Unknown now, which is no error; a cost of nothing is a release.
    settle(&desk, &id, reservation, 0.0).await;
    let second = desk.reserve(&id, 7.5).await;
    assert_eq!(second["allowed"], true);
    assert_eq!(
        settle(&desk, &id, &second["reservation_id"], 0.0).await["remaining_usd"],
        7.5
    );
    assert_eq!(desk.check(&id, 7.5).await["allowed"], true);
}

async fn time_releases_a_reservation() {
    let desk = Desk::with(|options| options.config.budgets.reservation_ttl_ms = 1000).await;
    let id = desk.day(10.0).await;
    let late = desk.reserve(&id, 10.0).await;
    desk.advance(999);
    assert_eq!(desk.check(&id, 1.0).await["allowed"], false);
    desk.advance(1);
    assert_eq!(desk.check(&id, 10.0).await["allowed"], true);
    // What it cost is counted all the same.
    assert_eq!(
        settle(&desk, &id, &late["reservation_id"], 3.0).await["spent_usd"],
        3
    );
}

async fn ten_thousand_checks_with_room_for_one() {
    let desk = Arc::new(Desk::open().await);
    let id = desk.day(1.5).await;
    let checks = (0..10_000).map(|_| {
        let (desk, id) = (Arc::clone(&desk), id.clone());
        async move { desk.reserve(&id, 1.0).await["allowed"] == true }
    });
    let allowed = together(checks)
        .await
        .into_iter()
        .filter(|allowed| *allowed)
        .count();
    assert_eq!(allowed, 1);
    assert_eq!(desk.get(&id).await["reservations"].as_array().unwrap().len(), 1);
}

async fn a_reservation_of_the_same_id_is_one() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    for estimate in [6, 7, 10] {
        let request = json!({
            "budget_id": id, "estimated_cost_usd": estimate, "reserve": true, "reservation_id": "run/1",
        });
        assert_eq!(
            desk.ok("check", request).await,
            json!({"allowed": true, "remaining_usd": 10, "reservation_id": "run/1", "reserved_usd": estimate})
        );
    }
    assert_eq!(desk.get(&id).await["reservations"].as_array().unwrap().len(), 1);
}
