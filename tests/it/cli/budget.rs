//! `harness budget`.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn budgets_are_shown_with_bars() {
    let stage = Stage::start().await;
    let none = stage.run(&["budget"]).await;
    assert_eq!((none.code, none.err.as_str()), (Some(0), ""));
    assert!(
        none.out.starts_with("no budgets; make one with: "),
        "{}",
        none.out
    );

    let made = stage
        .run(&[
            "call",
            "budget::create",
            r#"{"ceiling_usd":10,"period":"month","name":"team","workspace_id":"w"}"#,
        ])
        .await;
    let made: Value = serde_json::from_str(&made.out).unwrap();
    let id = made["budget_id"].as_str().unwrap();
    for (function, request) in [
        ("budget::record", json!({"budget_id": id, "cost_usd": 5})),
        (
            "budget::check",
            json!({"budget_id": id, "estimated_cost_usd": 2.5, "reserve": true}),
        ),
    ] {
        let ran = stage.run(&["call", function, &request.to_string()]).await;
        assert_eq!(ran.code, Some(0), "{}", ran.err);
    }
    let shown = stage.run(&["budget", "--workspace", "w"]).await;
    let lines: Vec<&str> = shown.out.lines().collect();
    assert_eq!(lines[..2], [format!("team  {id}").as_str(), "  workspace w"]);
    assert!(
        lines[2].starts_with("  [############======......]  50 %  starts anew in "),
        "{}",
        lines[2]
    );
    assert_eq!(lines[3], "  spent $5.00, reserved $2.50, of $10.00 a month");
    assert!(lines[4].starts_with("  at this rate $"), "{}", lines[4]);
    assert_eq!(lines.len(), 5);

    let other = stage.run(&["budget", "--workspace", "v", "--json"]).await;
    assert_eq!((other.code, other.out.as_str()), (Some(0), "[]\n"));
    let json = stage.run(&["budget", "--json"]).await;
    let rows: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(rows[0]["spent_usd"], 5);
    assert!(rows[0]["forecast"]["projected_period_usd"].is_number());
}
