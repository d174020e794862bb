//! Acceptance cases of contract 07 about periods, and about spend that is over.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{DAY, Desk, MONDAY, NOW, T0};
use crate::support::three_ways;

three_ways! {
    c07_case_15_a_record_after_days_without_one,
    c07_case_16_alerts_are_armed_again_in_the_next_period,
    c07_case_17_a_reset_archives,
    c07_case_18_a_reset_loses_nothing,
    c07_case_19_windows,
    c07_case_21_another_period,
    c07_case_22_other_periods_and_back_lose_nothing,
    c07_case_27_get_and_list_show_the_running_period,
    c07_case_28_delete_takes_the_logs_too,
    a_record_id_counts_once_in_a_period,
    rows_of_others_are_seen,
}

fn at(id: &str) -> Value {
    json!({ "budget_id": id })
}

async fn c07_case_15_a_record_after_days_without_one() {
    let desk = Desk::open().await;
    let old = json!({"period_start_at": T0 - 3 * DAY, "period_resets_at": T0 - 2 * DAY, "spent_usd": 4});
    desk.seed("b", old).await;
    assert_eq!(
        desk.record("b", 1.0).await,
        json!({"spent_usd": 1, "remaining_usd": 9})
    );
    let budget = desk.stored("b").await;
    assert_eq!(
        (&budget["period_start_at"], &budget["period_resets_at"]),
        (&json!(T0), &json!(T0 + DAY))
    );
    assert_eq!(
        desk.ok("usage", at("b")).await,
        json!({
            "spent_usd": 5, "records_count": 2, "spend_records": 1,
            "by_period": [{"period": T0 - 3 * DAY, "spent": 4}, {"period": T0, "spent": 1}],
        })
    );
    // One row for the spend, none for the days without any (weakness 10).
    assert_eq!(
        desk.logs().await,
        [
            json!({"budget_id": "b", "period_start": T0 - 3 * DAY, "period_end": T0 - 2 * DAY, "spent_usd": 4,
                "records_count": 0})
        ]
    );
    let key = format!("spend_log:b:{}", T0 - 3 * DAY);
    assert_eq!(desk.t.state("budgets", &key).await["spent_usd"], 4);
}

async fn c07_case_16_alerts_are_armed_again_in_the_next_period() {
    let desk = Desk::open().await;
    let told = desk.t.record("on::alert", json!(null));
    let start = T0 - 3 * DAY;
    let fired = json!({"alert_id": "a", "threshold_pct": 0.5, "callback_function_id": "on::alert",
                       "last_fired_period_start": start});
    let old =
        json!({"period_start_at": start, "period_resets_at": start + DAY, "spent_usd": 6, "alerts": [fired]});
    desk.seed("b", old).await;
    desk.record("b", 5.0).await;
    desk.t
        .eventually(async || (told.count() == 1).then_some(()))
        .await;
    assert_eq!(desk.stored("b").await["alerts"][0]["last_fired_period_start"], T0);
}

async fn c07_case_17_a_reset_archives() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    desk.record(&id, 6.0).await;
    assert_eq!(
        desk.ok("reset", at(&id)).await,
        json!({"budget_id": id, "previous_spent_usd": 6})
    );
    assert_eq!(desk.get(&id).await["spent_usd"], 0);
    let logs = desk.logs().await;
    let log_id = logs[0]["log_id"].as_str().unwrap();
    assert_eq!(
        logs,
        [
            json!({"budget_id": id, "period_start": T0, "period_end": NOW, "spent_usd": 6, "records_count": 0,
                "spend_records": 1, "log_id": log_id})
        ]
    );
    assert!(log_id.starts_with(&format!("reset-{NOW}-")), "{log_id}");
    let key = format!("spend_log:{id}:{T0}:{log_id}");
    assert_eq!(desk.t.state("budgets", &key).await, logs[0]);
    // A period that had just ended has its own log.
    desk.record(&id, 1.0).await;
    desk.advance(DAY);
    assert_eq!(
        desk.ok("reset", at(&id)).await,
        json!({"budget_id": id, "previous_spent_usd": 0})
    );
    assert_eq!(desk.spent_ever(&id).await, 7);
}

async fn c07_case_18_a_reset_loses_nothing() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    desk.record(&id, 6.0).await;
    desk.ok("reset", at(&id)).await;
    desk.record(&id, 1.0).await;
    let expected = json!({
        "spent_usd": 7, "by_period": [{"period": T0, "spent": 7}], "records_count": 1, "spend_records": 2,
    });
    assert_eq!(desk.ok("usage", at(&id)).await, expected);
    assert_eq!(
        desk.ok("usage", json!({"budget_id": id, "window": "day"})).await,
        expected
    );
}

async fn c07_case_19_windows() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    desk.record(&id, 1.0).await;
    let window = |window: Value| json!({"budget_id": id, "window": window});
    assert_eq!(
        desk.error("usage", window(json!("week"))).await,
        "window 'week' does not align with budget period 'day'. Use window: 'day' or 'all'."
    );
    assert_eq!(
        desk.error("usage", window(json!("year"))).await,
        "invalid window: year"
    );
    desk.advance(DAY);
    desk.record(&id, 2.0).await;
    let day = desk.ok("usage", window(json!("day"))).await;
    assert_eq!(
        day,
        json!({"spent_usd": 2, "by_period": [{"period": T0 + DAY, "spent": 2}], "records_count": 1,
               "spend_records": 1})
    );
    assert_eq!(desk.ok("usage", window(json!(7))).await["spent_usd"], 3);
}

async fn c07_case_21_another_period() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    desk.record(&id, 6.0).await;
    let answer = desk
        .ok("update", json!({"budget_id": id, "patch": {"period": "week"}}))
        .await;
    let budget = &answer["budget"];
    assert_eq!(
        (
            &budget["period"],
            &budget["spent_usd"],
            &budget["period_start_at"],
            &budget["period_resets_at"]
        ),
        (
            &json!("week"),
            &json!(0),
            &json!(MONDAY),
            &json!(MONDAY + 7 * DAY)
        )
    );
    let log = desk.t.state("budgets", &format!("spend_log:{id}:{T0}")).await;
    assert_eq!(
        log,
        json!({"budget_id": id, "period_start": T0, "period_end": NOW, "spent_usd": 6, "records_count": 0,
               "spend_records": 1})
    );
    assert_eq!(desk.spent_ever(&id).await, 6);
}

async fn c07_case_22_other_periods_and_back_lose_nothing() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    for (spend, period, ever) in [
        (1.0, "week", 1),
        (2.0, "day", 3),
        (4.0, "day", 7),
        (0.0, "month", 7),
        (8.0, "day", 15),
        (16.0, "week", 31),
    ] {
        desk.record(&id, spend).await;
        desk.ok("update", json!({"budget_id": id, "patch": {"period": period}}))
            .await;
        assert_eq!(desk.spent_ever(&id).await, ever);
    }
    desk.record(&id, 32.0).await;
    desk.advance(40 * DAY);
    assert_eq!(desk.spent_ever(&id).await, 63);
    assert_eq!(desk.logs().await.len(), 6);
}

async fn c07_case_27_get_and_list_show_the_running_period() {
    let desk = Desk::open().await;
    let old = json!({"period_start_at": T0 - DAY, "period_resets_at": T0, "spent_usd": 4});
    desk.seed("b", old).await;
    let listed = desk.ok("list", json!({})).await["budgets"][0].take();
    let found = desk.get("b").await;
    assert_eq!(found, listed);
    assert_eq!(
        (
            &found["spent_usd"],
            &found["period_start_at"],
            &found["period_resets_at"]
        ),
        (&json!(0), &json!(T0), &json!(T0 + DAY))
    );
    assert_eq!(desk.stored("b").await["period_start_at"], T0);
    assert_eq!(desk.spent_ever("b").await, 4);
}

async fn c07_case_28_delete_takes_the_logs_too() {
    let desk = Desk::open().await;
    let kept = desk.day(10.0).await;
    let id = desk.day(10.0).await;
    for budget in [&kept, &id] {
        for n in 0..130 {
            let request = json!({"budget_id": budget, "cost_usd": 1, "record_id": format!("r{n}")});
            desk.ok("record", request).await;
        }
        desk.ok("reset", at(budget)).await;
        desk.ok(
            "update",
            json!({"budget_id": budget, "patch": {"period": "week"}}),
        )
        .await;
    }
    assert_eq!(
        desk.ok("delete", at(&id)).await,
        json!({"ok": true, "deleted": true})
    );
    assert_eq!(
        desk.error("get", at(&id)).await,
        format!("budget not found: {id}")
    );
    let logs = desk.logs().await;
    assert_eq!(
        logs.iter().filter(|log| log["budget_id"] == id.as_str()).count(),
        0
    );
    assert_eq!(logs.len(), 2);
    assert_eq!(
        desk.t.state("budgets", &format!("record_ids:{id}:0")).await,
        Value::Null
    );
    assert_eq!(desk.spent_ever(&kept).await, 130);
}

async fn a_record_id_counts_once_in_a_period() {
    let desk = Desk::open().await;
    let id = desk.day(1000.0).await;
    let record = async |n: u32| {
        let request = json!({"budget_id": id, "cost_usd": 1, "record_id": format!("r{n}")});
        desk.ok("record", request).await["spent_usd"].take()
    };
    for n in 0..300 {
        assert_eq!(record(n).await, n + 1);
    }
    for n in [0, 1, 127, 128, 255, 256, 299] {
        assert_eq!(record(n).await, 300);
    }
    let usage = desk.ok("usage", at(&id)).await;
    assert_eq!(
        (&usage["spend_records"], &usage["spent_usd"]),
        (&json!(300), &json!(300))
    );
    desk.ok("reset", at(&id)).await;
    assert_eq!(record(3).await, 0);
    desk.advance(DAY);
    assert_eq!(record(3).await, 1);
    assert_eq!(record(3).await, 1);
    assert_eq!(desk.spent_ever(&id).await, 301);
    assert_eq!(
        desk.t.state("budgets", &format!("record_ids:{id}:0")).await,
        Value::Null
    );
}

async fn rows_of_others_are_seen() {
    let desk = Desk::open().await;
    assert_eq!(desk.ok("list", json!({})).await["budgets"], json!([]));
    desk.seed("b", json!({"x-note": {"kept": true}})).await;
    assert_eq!(desk.ok("list", json!({})).await["budgets"][0]["id"], "b");
    desk.record("b", 1.0).await;
    desk.seed("b", json!({"spent_usd": 5, "x-note": {"kept": true}}))
        .await;
    assert_eq!(desk.record("b", 1.0).await["spent_usd"], 6);
    assert_eq!(desk.stored("b").await["x-note"], json!({"kept": true}));
    let log = json!({"budget_id": "b", "period_start": T0 - DAY, "period_end": T0, "spent_usd": 3, "records_count": 0});
    desk.t
        .set_state("budgets", &format!("spend_log:b:{}", T0 - DAY), log)
        .await;
    assert_eq!(desk.spent_ever("b").await, 9);
    // A row that cannot be read hides no other one, and is an error for who asks for it.
    desk.seed("c", json!({"period": "fortnight"})).await;
    assert_eq!(
        desk.ok("list", json!({})).await["budgets"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let text = desk.error("check", at("c")).await;
    assert!(text.starts_with("budget c: period: unknown variant"), "{text}");
}
