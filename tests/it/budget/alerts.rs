//! Acceptance cases of contract 07 about alerts, and their callbacks.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::Desk;
use crate::support::engine::within;
use crate::support::stub::Held;
use crate::support::three_ways;

three_ways! {
    c07_case_11_an_alert_fires_once,
    c07_case_12_two_alerts_fire_from_one_record,
    c07_case_13_thresholds,
    c07_case_14_a_callback_that_is_not_there,
    a_lower_ceiling_fires_the_alerts_it_reaches,
    a_failed_callback_is_called_again,
    an_alert_can_be_removed,
}

async fn alert(desk: &Desk, id: &str, threshold: f64, callback: &str, payload: Value) -> Value {
    let request = json!({
        "budget_id": id, "threshold_pct": threshold, "callback_function_id": callback, "callback_payload": payload,
    });
    desk.ok("alert_set", request).await["alert_id"].take()
}

/// No call is owed any more.
async fn all_told(desk: &Desk, id: &str) {
    let owes = async || desk.stored(id).await["ledger"]["deliveries"].is_array();
    desk.t.eventually(async || (!owes().await).then_some(())).await;
}

async fn c07_case_11_an_alert_fires_once() {
    for (payload, extra) in [
        (json!({"x": 1, "budget_id": "fake"}), json!({"x": 1})),
        (json!([1]), json!({})),
        (Value::Null, json!({})),
    ] {
        let desk = Desk::open().await;
        let told = desk.t.record("on::alert", json!(null));
        let id = desk.day(10.0).await;
        let alert_id = alert(&desk, &id, 0.5, "on::alert", payload).await;
        desk.record(&id, 4.0).await;
        assert_eq!(told.all(), [] as [Value; 0]);
        desk.record(&id, 1.0).await;
        desk.t.eventually(async || (told.count() > 0).then_some(())).await;
        let mut expected = json!({
            "alert_id": alert_id, "budget_id": id, "spent_usd": 5, "ceiling_usd": 10, "threshold_pct": 0.5,
        });
        expected
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        desk.record(&id, 1.0).await;
        all_told(&desk, &id).await;
        assert_eq!(told.all(), [expected]);
    }
}

async fn c07_case_12_two_alerts_fire_from_one_record() {
    let desk = Desk::open().await;
    let told = desk.t.record("on::alert", json!(null));
    let id = desk.day(10.0).await;
    for threshold in [0.5, 0.9] {
        alert(&desk, &id, threshold, "on::alert", Value::Null).await;
    }
    desk.record(&id, 9.5).await;
    all_told(&desk, &id).await;
    let mut thresholds: Vec<_> = told
        .all()
        .iter()
        .map(|call| call["threshold_pct"].as_f64().unwrap())
        .collect();
    thresholds.sort_by(f64::total_cmp);
    assert_eq!(thresholds, [0.5, 0.9]);
}

async fn c07_case_13_thresholds() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    let request =
        |threshold: Value| json!({"budget_id": id, "threshold_pct": threshold, "callback_function_id": "f"});
    for threshold in [json!(0), json!(1.01), json!(-0.1)] {
        let text = desk.error("alert_set", request(threshold)).await;
        assert_eq!(text, "threshold_pct must be in (0, 1]");
    }
    for threshold in [json!("x"), Value::Null] {
        let text = desk.error("alert_set", request(threshold)).await;
        assert_eq!(text, "threshold_pct must be a finite number");
    }
    let text = desk
        .error("alert_set", json!({"budget_id": id, "threshold_pct": 1}))
        .await;
    assert_eq!(text, "missing required string field: callback_function_id");
    let answer = desk.ok("alert_set", request(json!(1))).await;
    assert_eq!(
        desk.get(&id).await["alerts"],
        json!([{"alert_id": answer["alert_id"], "threshold_pct": 1.0, "callback_function_id": "f"}])
    );
}

async fn c07_case_14_a_callback_that_is_not_there() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    alert(&desk, &id, 0.5, "nobody::home", Value::Null).await;
    assert_eq!(
        desk.record(&id, 6.0).await,
        json!({"spent_usd": 6, "remaining_usd": 4})
    );
    assert_eq!(
        desk.record(&id, 1.0).await,
        json!({"spent_usd": 7, "remaining_usd": 3})
    );
}

async fn a_lower_ceiling_fires_the_alerts_it_reaches() {
    let desk = Desk::open().await;
    let told = desk.t.record("on::alert", json!(null));
    let id = desk.day(10.0).await;
    alert(&desk, &id, 0.5, "on::alert", Value::Null).await;
    desk.record(&id, 4.0).await;
    desk.ok("update", json!({"budget_id": id, "patch": {"ceiling_usd": 8}}))
        .await;
    desk.t
        .eventually(async || (told.count() == 1).then_some(()))
        .await;
    assert_eq!(told.all()[0]["ceiling_usd"], 8);
}

async fn a_failed_callback_is_called_again() {
    let desk = Desk::open().await;
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let told = desk.t.record_with("on::alert", move |_| {
        match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Err(harness::error::Error::invalid("not now")),
            _ => Ok(json!(null)),
        }
    });
    let id = desk.day(10.0).await;
    alert(&desk, &id, 0.5, "on::alert", Value::Null).await;
    desk.record(&id, 6.0).await;
    desk.t
        .eventually(async || (told.count() == 2).then_some(()))
        .await;
    all_told(&desk, &id).await;
    assert_eq!(told.all()[0], told.all()[1]);
}

async fn an_alert_can_be_removed() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    let alert_id = alert(&desk, &id, 0.5, "nobody::home", Value::Null).await;
    let request = json!({"budget_id": id, "remove_alert_id": alert_id});
    assert_eq!(
        desk.ok("alert_set", request.clone()).await,
        json!({ "alert_id": alert_id })
    );
    assert_eq!(desk.get(&id).await["alerts"], json!([]));
    let text = desk.error("alert_set", request).await;
    assert_eq!(text, format!("alert not found: {}", alert_id.as_str().unwrap()));
}

/// A call that is under way is no answer to one that is owed since, though both say the same.
#[tokio::test]
async fn each_firing_is_a_call_of_its_own() {
    let desk = Desk::open().await;
    let held = Held::serve(&desk.t, "on::alert", json!(null));
    let id = desk.day(10.0).await;
    alert(&desk, &id, 0.5, "on::alert", Value::Null).await;
    desk.record(&id, 6.0).await;
    within(held.called()).await;
    desk.ok("reset", json!({ "budget_id": id })).await;
    desk.record(&id, 6.0).await;
    held.answers();
    within(held.called()).await;
    held.answers();
    all_told(&desk, &id).await;
}
