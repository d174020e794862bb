//! What time does to a budget: no function works on a period that is over (contract 07 §2, field lesson B6).

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{DAY, Desk, MONDAY, NOW, T0};

const HOUR: i64 = 3_600_000;

/// A budget of a day that ended yesterday, over its ceiling.
fn yesterday() -> Value {
    json!({"period_start_at": T0 - 2 * DAY, "period_resets_at": T0 - DAY, "spent_usd": 12})
}

#[tokio::test]
async fn every_function_brings_its_budget_to_the_present() {
    let desk = Desk::open().await;
    for (name, members) in [
        ("get", json!({})),
        ("check", json!({"estimated_cost_usd": 10})),
        ("record", json!({"cost_usd": 0})),
        ("reset", json!({})),
        ("usage", json!({})),
        ("forecast", json!({})),
        ("enforce", json!({"enforced": true})),
        ("pause", json!({"paused": true})),
        ("exempt", json!({"principal_id": "p", "reason": "r"})),
        (
            "alert_set",
            json!({"threshold_pct": 0.5, "callback_function_id": "f"}),
        ),
        ("update", json!({"patch": {}})),
    ] {
        desk.seed(name, yesterday()).await;
        let mut request = members;
        request["budget_id"] = json!(name);
        let answer = desk.ok(name, request).await;
        let stored = desk.stored(name).await;
        assert_eq!(
            json!([
                stored["period_start_at"],
                stored["period_resets_at"],
                stored["spent_usd"]
            ]),
            json!([T0, T0 + DAY, 0]),
            "{name}"
        );
        let log = desk
            .t
            .state("budgets", &format!("spend_log:{name}:{}", T0 - 2 * DAY))
            .await;
        assert_eq!(
            log,
            json!({"budget_id": name, "period_start": T0 - 2 * DAY, "period_end": T0 - DAY, "spent_usd": 12,
                   "records_count": 0}),
            "{name}"
        );
        match name {
            // What was spent yesterday limits nothing today.
            "check" => assert_eq!(answer, json!({"allowed": true, "remaining_usd": 10})),
            "record" => assert_eq!(answer, json!({"spent_usd": 0, "remaining_usd": 10})),
            "reset" => assert_eq!(answer["previous_spent_usd"], 0),
            "forecast" => assert_eq!(answer["projected_period_usd"], 0.0),
            _ => {}
        }
    }
}

#[tokio::test]
async fn what_is_refused_writes_nothing() {
    let desk = Desk::open().await;
    desk.seed("b", yesterday()).await;
    let before = desk.stored("b").await;
    for patch in [
        json!({"ceiling_usd": 0, "name": "n"}),
        json!({"period": "year"}),
        json!({"paused": true, "enforced": 1}),
    ] {
        desk.error("update", json!({"budget_id": "b", "patch": patch}))
            .await;
    }
    assert_eq!(desk.stored("b").await, before);
}

/// Another period begins after the old one was brought to its end (§3.4).
#[tokio::test]
async fn another_period_after_one_that_is_over() {
    let desk = Desk::open().await;
    desk.seed("b", yesterday()).await;
    let request = json!({"budget_id": "b", "patch": {"period": "week"}});
    let budget = desk.ok("update", request).await["budget"].take();
    assert_eq!(
        json!([
            budget["period_start_at"],
            budget["period_resets_at"],
            budget["spent_usd"]
        ]),
        json!([MONDAY, MONDAY + 7 * DAY, 0])
    );
    let log = desk
        .t
        .state("budgets", &format!("spend_log:b:{}", T0 - 2 * DAY))
        .await;
    assert_eq!(
        (&log["spent_usd"], &log["period_end"]),
        (&json!(12), &json!(T0 - DAY))
    );
    assert_eq!(desk.spent_ever("b").await, 12);
}

/// On the first of a month the month, and on a Monday the week, begins with the day: their logs have the start of the running
/// period (contract 07 weakness 1).
#[tokio::test]
async fn a_month_that_became_a_day_on_the_first_is_not_left_out() {
    let desk = Desk::open().await;
    // The first of May, 17:00.
    desk.advance(DAY);
    let id = desk.create(json!({"ceiling_usd": 10, "period": "month"})).await;
    desk.record(&id, 5.0).await;
    desk.ok("update", json!({"budget_id": id, "patch": {"period": "day"}}))
        .await;
    desk.record(&id, 2.0).await;
    let expected = json!({
        "spent_usd": 7, "by_period": [{"period": T0 + DAY, "spent": 7}], "records_count": 1, "spend_records": 2,
    });
    for window in ["all", "day"] {
        assert_eq!(
            desk.ok("usage", json!({"budget_id": id, "window": window})).await,
            expected
        );
    }
}

#[tokio::test]
async fn a_zone_has_midnights_of_its_own() {
    let desk = Desk::open().await;
    let mut ids = Vec::new();
    for zone in [json!("Europe/Berlin"), Value::Null, json!("America/New_York")] {
        let request = json!({"ceiling_usd": 10, "period": "month", "time_zone": zone});
        ids.push(desk.create(request).await);
    }
    let spent = async || {
        let mut found = Vec::new();
        for id in &ids {
            found.push(desk.get(id).await["spent_usd"].take());
        }
        Value::Array(found)
    };
    for id in &ids {
        desk.record(id, 1.0).await;
    }
    // In Berlin May begins two hours before it does in UTC, in New York four hours later.
    desk.advance(T0 + DAY - 2 * HOUR - NOW - 1);
    assert_eq!(spent().await, json!([1, 1, 1]));
    desk.advance(1);
    assert_eq!(spent().await, json!([0, 1, 1]));
    desk.advance(2 * HOUR);
    assert_eq!(spent().await, json!([0, 0, 1]));
    desk.advance(4 * HOUR);
    assert_eq!(spent().await, json!([0, 0, 0]));
    let request = json!({"ceiling_usd": 1, "period": "day", "time_zone": "Mars/Base"});
    assert_eq!(
        desk.error("create", request).await,
        "invalid time_zone: Mars/Base"
    );
    // The day on which clocks go back has 25 hours.
    let request = json!({"ceiling_usd": 10, "period": "day", "time_zone": "Europe/Berlin"});
    let id = desk.create(request).await;
    // 2026-10-25 12:00 UTC.
    desk.advance(1_792_929_600_000 - (T0 + DAY + 4 * HOUR));
    let day = desk.get(&id).await;
    assert_eq!(
        day["period_resets_at"].as_i64().unwrap() - day["period_start_at"].as_i64().unwrap(),
        25 * HOUR
    );
}

/// A row that no calendar fits hides no other one, and is an error for who asks for it.
#[tokio::test]
async fn a_zone_that_is_not_known_here() {
    let desk = Desk::open().await;
    let id = desk.day(1.0).await;
    let mut odd = yesterday();
    odd["time_zone"] = json!("Mars/Base");
    desk.seed("odd", odd).await;
    let listed = desk.ok("list", json!({})).await["budgets"].take();
    assert_eq!(listed, json!([desk.get(&id).await]));
    let text = desk.error("check", json!({"budget_id": "odd"})).await;
    assert_eq!(text, "invalid time_zone: Mars/Base");
    assert_eq!(desk.stored("odd").await["spent_usd"], 12);
}
