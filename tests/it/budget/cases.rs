//! The acceptance cases of contract 07: making, checking and recording.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{DAY, Desk, MONDAY, NOW, T0};
use crate::support::three_ways;

three_ways! {
    c07_case_01_a_new_budget,
    c07_case_02_what_create_refuses,
    c07_case_03_weeks_and_months,
    c07_case_04_a_budget_that_is_not_there,
    c07_case_05_check_and_record,
    c07_case_06_over_the_ceiling_paused_and_not_enforced,
    c07_case_07_negative_amounts,
    c07_case_08_an_estimate_that_is_no_number_is_refused,
}

fn at(id: &str) -> Value {
    json!({ "budget_id": id })
}

async fn c07_case_01_a_new_budget() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 4);
    let expected = json!({
        "id": id, "ceiling_usd": 10, "period": "day", "spent_usd": 0, "period_start_at": T0, "period_resets_at": T0 + DAY,
        "enforced": true, "paused": false, "alerts": [], "exemptions": [], "created_at": NOW, "updated_at": NOW,
    });
    assert_eq!(desk.get(&id).await, expected);
    assert_eq!(desk.stored(&id).await, expected);
}

async fn c07_case_02_what_create_refuses() {
    let desk = Desk::open().await;
    for ceiling in [
        json!(0),
        json!(-1),
        json!("10"),
        Value::Null,
        json!(1e300),
        json!([1]),
    ] {
        let text = desk
            .error("create", json!({ "ceiling_usd": ceiling, "period": "year" }))
            .await;
        assert_eq!(text, "ceiling_usd must be > 0");
    }
    for (period, text) in [
        (
            json!("year"),
            "invalid period: year (expected 'day' | 'week' | 'month')",
        ),
        (json!(""), "missing required string field: period"),
        (json!(7), "missing required string field: period"),
        (Value::Null, "missing required string field: period"),
    ] {
        let request = json!({ "ceiling_usd": 1, "period": period });
        assert_eq!(desk.error("create", request).await, text);
    }
    for (request, text) in [
        (json!({"period": "day"}), "ceiling_usd must be > 0"),
        (
            json!({"ceiling_usd": 10}),
            "missing required string field: period",
        ),
    ] {
        assert_eq!(desk.error("create", request).await, text);
    }
    assert_eq!(desk.ok("list", json!({})).await, json!({ "budgets": [] }));
}

async fn c07_case_03_weeks_and_months() {
    let desk = Desk::open().await;
    for (period, start, end) in [
        ("week", MONDAY, MONDAY + 7 * DAY),
        ("month", T0 - 29 * DAY, T0 + DAY),
    ] {
        let id = desk.create(json!({ "ceiling_usd": 1, "period": period })).await;
        let budget = desk.get(&id).await;
        assert_eq!(
            (&budget["period_start_at"], &budget["period_resets_at"]),
            (&json!(start), &json!(end))
        );
    }
}

async fn c07_case_04_a_budget_that_is_not_there() {
    let desk = Desk::open().await;
    let members = json!({
        "budget_id": "x", "cost_usd": 1, "enforced": true, "paused": true, "principal_id": "p", "reason": "r",
        "threshold_pct": 0.5, "callback_function_id": "f", "patch": {"paused": true},
    });
    for name in [
        "get",
        "check",
        "record",
        "reset",
        "usage",
        "forecast",
        "enforce",
        "pause",
        "exempt",
        "alert_set",
        "update",
    ] {
        let text = desk.error(name, members.clone()).await;
        assert_eq!(text, "budget not found: x", "{name}");
        let text = desk.error(name, json!({})).await;
        assert_eq!(text, "missing required string field: budget_id", "{name}");
    }
    assert_eq!(
        desk.ok("delete", at("x")).await,
        json!({ "ok": true, "deleted": false })
    );
    // What is stored there is no budget.
    for value in [
        json!("text"),
        json!({"id": "x"}),
        json!({"id": 1, "ceiling_usd": 1}),
        json!([]),
    ] {
        desk.t.set_state("budgets", "budget:x", value).await;
        assert_eq!(desk.error("get", at("x")).await, "budget not found: x");
    }
}

async fn c07_case_05_check_and_record() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    assert_eq!(
        desk.check(&id, 4.0).await,
        json!({"allowed": true, "remaining_usd": 10})
    );
    assert_eq!(
        desk.record(&id, 7.0).await,
        json!({"spent_usd": 7, "remaining_usd": 3})
    );
    assert_eq!(
        desk.check(&id, 3.0).await,
        json!({"allowed": true, "remaining_usd": 3})
    );
    assert_eq!(
        desk.check(&id, 3.01).await,
        json!({"allowed": false, "remaining_usd": 3, "reason": "ceiling_exceeded"})
    );
    desk.record(&id, 3.0).await;
    assert_eq!(
        desk.ok("check", at(&id)).await,
        json!({"allowed": true, "remaining_usd": 0})
    );
}

async fn c07_case_06_over_the_ceiling_paused_and_not_enforced() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    desk.record(&id, 7.0).await;
    assert_eq!(
        desk.record(&id, 5.0).await,
        json!({"spent_usd": 12, "remaining_usd": -2})
    );
    assert_eq!(
        desk.check(&id, 0.0).await,
        json!({"allowed": false, "remaining_usd": -2, "reason": "ceiling_exceeded"})
    );
    let paused = desk.ok("pause", json!({"budget_id": id, "paused": true})).await;
    assert_eq!(paused, json!({"budget_id": id, "paused": true}));
    let open = |reason| json!({"allowed": true, "remaining_usd": -2, "reason": reason});
    assert_eq!(desk.check(&id, 100.0).await, open("paused"));
    desk.ok("pause", json!({"budget_id": id, "paused": false})).await;
    let enforced = desk
        .ok("enforce", json!({"budget_id": id, "enforced": false}))
        .await;
    assert_eq!(enforced, json!({"budget_id": id, "enforced": false}));
    assert_eq!(desk.check(&id, 100.0).await, open("not_enforced"));
    assert_eq!(desk.reserve(&id, 100.0).await["reservation_id"], Value::Null);
}

async fn c07_case_07_negative_amounts() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    for cost in [json!(-1), Value::Null, json!("1"), json!(1e300)] {
        let request = json!({"budget_id": id, "cost_usd": cost});
        assert_eq!(desk.error("record", request).await, "cost_usd must be >= 0");
    }
    assert_eq!(desk.error("record", at(&id)).await, "cost_usd must be >= 0");
    let text = desk
        .error("check", json!({"budget_id": id, "estimated_cost_usd": -1}))
        .await;
    assert_eq!(text, "estimated_cost_usd must be a finite number >= 0");
    assert_eq!(desk.get(&id).await["spent_usd"], json!(0));
    desk.record(&id, 1e9).await;
    let text = desk
        .error("record", json!({"budget_id": id, "cost_usd": 1}))
        .await;
    assert_eq!(text, "cost_usd: more than 1000000000 US dollars in a period");
}

async fn c07_case_08_an_estimate_that_is_no_number_is_refused() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    for estimate in [json!("5"), json!(true), json!([5]), json!({})] {
        let text = desk
            .error("check", json!({"budget_id": id, "estimated_cost_usd": estimate}))
            .await;
        assert_eq!(text, "estimated_cost_usd must be a finite number >= 0");
    }
}
