//! Acceptance cases of contract 07 about exemptions, patches, forecasts and lists.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{DAY, Desk, NOW};
use crate::session_rig::together;
use crate::support::three_ways;

three_ways! {
    c07_case_09_exemptions,
    c07_case_10_an_exemption_ends,
    c07_case_20_a_patch,
    c07_case_23_forecasts,
    c07_case_24_lists,
    c07_case_25_parallel_records on 4 threads,
    c07_case_26_flags,
    owners_and_names_can_be_changed,
}

fn at(id: &str) -> Value {
    json!({ "budget_id": id })
}

async fn c07_case_09_exemptions() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    desk.record(&id, 12.0).await;
    let exempt = json!({"budget_id": id, "principal_id": "p", "reason": "r"});
    assert_eq!(
        desk.ok("exempt", exempt.clone()).await,
        json!({"budget_id": id, "expires_at": NOW + DAY})
    );
    let check = async |principal| {
        let request = json!({"budget_id": id, "estimated_cost_usd": 1, "principal_id": principal});
        desk.ok("check", request).await["reason"].take()
    };
    assert_eq!(check("p").await, "exempt");
    assert_eq!(check("q").await, "ceiling_exceeded");
    desk.advance(5);
    desk.ok("exempt", exempt).await;
    assert_eq!(
        desk.get(&id).await["exemptions"],
        json!([{"principal_id": "p", "reason": "r", "expires_at": NOW + DAY + 5}])
    );
    let long = "why ".repeat(100);
    let request = json!({"budget_id": id, "principal_id": "r", "reason": long});
    desk.ok("exempt", request).await;
    assert_eq!(desk.get(&id).await["exemptions"][1]["reason"], long);
    for (member, text) in [
        ("principal_id", "missing required string field: principal_id"),
        ("reason", "missing required string field: reason"),
    ] {
        let mut request = json!({"budget_id": id, "principal_id": "p", "reason": "r"});
        request[member] = json!("");
        assert_eq!(desk.error("exempt", request).await, text);
    }
}

async fn c07_case_10_an_exemption_ends() {
    let desk = Desk::open().await;
    let over = json!({"principal_id": "p", "reason": "r", "expires_at": NOW});
    desk.seed("b", json!({"spent_usd": 11, "exemptions": [over]}))
        .await;
    let request = json!({"budget_id": "b", "principal_id": "p"});
    assert_eq!(
        desk.ok("check", request).await,
        json!({"allowed": false, "remaining_usd": -1, "reason": "ceiling_exceeded"})
    );
    assert_eq!(desk.stored("b").await["exemptions"], json!([]));
}

async fn c07_case_20_a_patch() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    desk.record(&id, 6.0).await;
    let update = async |patch: Value| {
        desk.call("update", json!({"budget_id": id, "patch": patch}))
            .await
    };
    let before = desk.get(&id).await;
    desk.advance(7);
    let mut expected = before.clone();
    expected["ceiling_usd"] = json!(20);
    expected["name"] = json!("n");
    expected["updated_at"] = json!(NOW + 7);
    let answer =
        update(json!({"ceiling_usd": 20, "name": "n", "spent_usd": 0, "foo": 1, "workspace_id": "w"})).await;
    assert_eq!(answer, Ok(json!({ "budget": expected })));
    for (patch, text) in [
        (
            json!({"ceiling_usd": 0, "name": "m"}),
            "ceiling_usd must be a positive finite number",
        ),
        (
            json!({"ceiling_usd": null}),
            "ceiling_usd must be a positive finite number",
        ),
        (json!({"period": 1}), "period must be a string"),
        (json!({"period": "year"}), "invalid period: year"),
        (json!({"enforced": null}), "enforced must be a boolean"),
        (json!({"paused": "no", "name": "m"}), "paused must be a boolean"),
        (json!("x"), "patch must be an object"),
        (json!([]), "patch must be an object"),
        (Value::Null, "patch must be an object"),
    ] {
        assert_eq!(update(patch).await.unwrap_err().to_string(), text);
    }
    assert_eq!(desk.get(&id).await, expected);
    let again = update(json!({"name": null, "period": "day", "paused": true, "enforced": false})).await;
    let budget = &again.unwrap()["budget"];
    assert_eq!(
        (
            &budget["name"],
            &budget["paused"],
            &budget["enforced"],
            &budget["spent_usd"]
        ),
        (&json!("n"), &json!(true), &json!(false), &json!(6))
    );
}

async fn c07_case_23_forecasts() {
    let desk = Desk::open().await;
    let id = desk.day(10.0).await;
    let quiet = desk.ok("forecast", at(&id)).await;
    assert_eq!(
        quiet,
        json!({"projected_month_usd": 0.0, "on_track": true, "days_until_breach": null, "projected_period_usd": 0.0,
               "rate_usd_per_day": 0.0, "burn_rate_usd_per_day": 0.0, "at_risk": false})
    );
    desk.record(&id, 3.0).await;
    let early = desk.ok("forecast", at(&id)).await;
    // 7 hours are left, 17 have passed.
    assert_eq!(
        early,
        json!({"projected_month_usd": 90.0, "on_track": true, "days_until_breach": 7.0 / 3.0,
               "projected_period_usd": 3.0 + 3.0 * 7.0 / 24.0, "rate_usd_per_day": 3.0,
               "burn_rate_usd_per_day": 3.0 / (17.0 / 24.0), "at_risk": false})
    );
    desk.record(&id, 9.0).await;
    let over = desk.ok("forecast", at(&id)).await;
    assert_eq!(
        (&over["days_until_breach"], &over["on_track"]),
        (&Value::Null, &json!(false))
    );
    assert!(over.as_object().unwrap().contains_key("days_until_breach"));
    // Two hours into a week: on track by the day, not by the hour (weakness 12).
    let id = desk.create(json!({"ceiling_usd": 10, "period": "week"})).await;
    desk.advance(4 * DAY - 15 * 3_600_000);
    desk.record(&id, 1.2).await;
    let rosy = desk.ok("forecast", at(&id)).await;
    assert_eq!(
        (&rosy["on_track"], &rosy["at_risk"]),
        (&json!(true), &json!(true))
    );
}

async fn c07_case_24_lists() {
    let desk = Desk::open().await;
    let mut ids = Vec::new();
    for workspace in [json!("w"), json!("v"), Value::Null, json!("w")] {
        let request = json!({"ceiling_usd": 1, "period": "day", "workspace_id": workspace});
        ids.push(desk.create(request).await);
        desk.advance(1);
    }
    let list = async |request: Value| -> Vec<String> {
        let answer = desk.ok("list", request).await;
        let rows = answer["budgets"].as_array().unwrap();
        rows.iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let newest_first: Vec<_> = ids.iter().rev().cloned().collect();
    for all in [json!({}), json!({"workspace_id": ""}), json!({"workspace_id": 7})] {
        assert_eq!(list(all).await, newest_first);
    }
    assert_eq!(
        list(json!({"workspace_id": "w"})).await,
        [ids[3].clone(), ids[0].clone()]
    );
    assert_eq!(list(json!({"workspace_id": "W"})).await, [] as [String; 0]);
    for id in ["z", "y"] {
        desk.seed(id, json!({"created_at": NOW + DAY})).await;
    }
    assert_eq!(list(json!({})).await[..2], ["y", "z"]);
}

async fn c07_case_25_parallel_records() {
    let desk = std::sync::Arc::new(Desk::open().await);
    let id = desk.day(10.0).await;
    let records = (0..50).map(|_| {
        let (desk, id) = (std::sync::Arc::clone(&desk), id.clone());
        async move { desk.record(&id, 0.01).await["spent_usd"].as_f64().unwrap() }
    });
    let mut sums = together(records).await;
    sums.sort_by(f64::total_cmp);
    let expected: Vec<f64> = (1..=50).map(|n| f64::from(n) / 100.0).collect();
    assert_eq!(sums, expected);
    assert_eq!(desk.get(&id).await["spent_usd"], 0.5);
}

async fn c07_case_26_flags() {
    let desk = Desk::open().await;
    for (name, request, text) in [
        (
            "enforce",
            json!({"budget_id": "x", "enforced": "yes"}),
            "enforced must be a boolean",
        ),
        (
            "enforce",
            json!({"budget_id": "x", "enforced": 1}),
            "enforced must be a boolean",
        ),
        ("pause", json!({"budget_id": "x"}), "paused must be a boolean"),
    ] {
        assert_eq!(desk.error(name, request).await, text);
    }
}

async fn owners_and_names_can_be_changed() {
    let desk = Desk::open().await;
    let request =
        json!({"ceiling_usd": 1, "period": "day", "workspace_id": "w", "agent_id": "a", "name": "n"});
    let id = desk.create(request).await;
    let request =
        json!({"budget_id": id, "patch": {"name": ""}, "assign": {"workspace_id": "v", "agent_id": null}});
    let budget = desk.ok("update", request).await["budget"].take();
    assert_eq!(
        (
            &budget["workspace_id"],
            budget.get("agent_id"),
            budget.get("name")
        ),
        (&json!("v"), None, None)
    );
    let request = json!({"budget_id": id, "patch": {}, "assign": {"workspace_id": 7}});
    assert_eq!(
        desk.error("update", request).await,
        "workspace_id must be a string or null"
    );
}
