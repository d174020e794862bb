//! Budgets above one another: workspace, agent, session.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{DAY, Desk};
use crate::support::three_ways;

three_ways! {
    a_tree_is_charged_together,
    a_new_budget_needs_its_parent,
    children_of_a_deleted_budget_pay_where_it_paid,
    levels_have_periods_of_their_own,
}

async fn below(desk: &Desk, parent: &str, ceiling_usd: f64) -> String {
    desk.create(json!({"ceiling_usd": ceiling_usd, "period": "day", "parent_id": parent}))
        .await
}

async fn spent(desk: &Desk, ids: &[&str]) -> Vec<Value> {
    let mut found = Vec::new();
    for id in ids {
        found.push(desk.get(id).await["spent_usd"].take());
    }
    found
}

async fn a_tree_is_charged_together() {
    let desk = Desk::open().await;
    let workspace = desk.day(10.0).await;
    let agent = below(&desk, &workspace, 6.0).await;
    let session = below(&desk, &agent, 8.0).await;
    let other = below(&desk, &workspace, 8.0).await;
    let held = desk.reserve(&session, 5.0).await;
    assert_eq!(
        (&held["allowed"], &held["reserved_usd"]),
        (&json!(true), &json!(5))
    );
    assert_eq!(
        desk.check(&other, 6.0).await,
        json!({"allowed": false, "remaining_usd": 8, "reason": "ceiling_exceeded", "exceeded_budget_id": workspace})
    );
    let request = json!({"budget_id": session, "cost_usd": 4, "reservation_id": held["reservation_id"], "record_id": "r"});
    for _ in 0..2 {
        assert_eq!(
            desk.ok("record", request.clone()).await,
            json!({"spent_usd": 4, "remaining_usd": 4})
        );
    }
    assert_eq!(
        spent(&desk, &[&workspace, &agent, &session, &other]).await,
        [json!(4), json!(4), json!(4), json!(0)]
    );
    assert_eq!(desk.get(&workspace).await.get("reservations"), None);
    assert_eq!(desk.check(&session, 3.0).await["exceeded_budget_id"], agent);
}

async fn a_new_budget_needs_its_parent() {
    let desk = Desk::open().await;
    let request = json!({"ceiling_usd": 1, "period": "day", "parent_id": "x"});
    assert_eq!(desk.error("create", request).await, "budget not found: x");
    let mut id = desk.day(1.0).await;
    for _ in 1..8 {
        id = below(&desk, &id, 1.0).await;
    }
    let request = json!({"ceiling_usd": 1, "period": "day", "parent_id": id});
    assert_eq!(
        desk.error("create", request).await,
        format!("parent_id: {id} has 7 budgets above it already")
    );
    assert_eq!(desk.record(&id, 1.0).await["remaining_usd"], 0);
}

async fn children_of_a_deleted_budget_pay_where_it_paid() {
    let desk = Desk::open().await;
    let workspace = desk.day(10.0).await;
    let agent = below(&desk, &workspace, 10.0).await;
    let session = below(&desk, &agent, 10.0).await;
    desk.record(&session, 1.0).await;
    desk.ok("delete", json!({"budget_id": agent})).await;
    assert_eq!(desk.get(&session).await["parent_id"], workspace);
    desk.record(&session, 2.0).await;
    assert_eq!(spent(&desk, &[&workspace, &session]).await, [json!(3), json!(3)]);
    desk.ok("delete", json!({"budget_id": workspace})).await;
    assert_eq!(desk.get(&session).await.get("parent_id"), None);
    assert_eq!(desk.record(&session, 4.0).await["spent_usd"], 7);
}

async fn levels_have_periods_of_their_own() {
    let desk = Desk::open().await;
    let workspace = desk.create(json!({"ceiling_usd": 10, "period": "week"})).await;
    let session = below(&desk, &workspace, 10.0).await;
    desk.record(&session, 3.0).await;
    desk.advance(DAY);
    desk.record(&session, 4.0).await;
    assert_eq!(spent(&desk, &[&workspace, &session]).await, [json!(7), json!(4)]);
    assert_eq!(desk.check(&session, 4.0).await["exceeded_budget_id"], workspace);
}
