//! `harness budget`: the budgets of the engine with bars: spent, set aside, ceiling and where it is heading.

use anyhow::Result;
use serde_json::{Value, json};

use super::client::Client;
use super::visible::visible;
use super::{Exit, complain, print};
use crate::config::Loaded;
use crate::error::Error;

/// Cells of a bar.
const CELLS: u32 = 24;

const HOUR_MS: i64 = 3_600_000;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only budgets of this workspace.
    #[arg(long, value_name = "ID")]
    workspace: Option<String>,
    /// Print what the engine answers as JSON, forecasts included.
    #[arg(long)]
    json: bool,
}

pub(super) async fn budget(args: Args, loaded: Loaded) -> Result<Exit> {
    let client = Client::connect(loaded, Vec::new()).await?;
    let (rows, now_ms) = (rows(&client, args.workspace).await, client.now_ms());
    client.stop().await;
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => {
            complain(&format!("{}: {error}", error.wire_code()));
            return Ok(if error == Error::Disconnected {
                Exit::NoEngine
            } else {
                Exit::Failed
            });
        }
    };
    if args.json {
        print(&serde_json::to_string_pretty(&rows)?)?;
    } else if rows.is_empty() {
        print(
            "no budgets; make one with: harness call budget::create '{\"ceiling_usd\":10,\"period\":\"day\"}'",
        )?;
    } else {
        for row in &rows {
            print(&shown(row, now_ms))?;
        }
    }
    Ok(Exit::Done)
}

/// Each budget, with its forecast as a member of that name.
async fn rows(client: &Client, workspace: Option<String>) -> Result<Vec<Value>, Error> {
    let request = json!({ "workspace_id": workspace.unwrap_or_default() });
    let mut answer = client.call("budget::list", request).await?;
    let Value::Array(mut budgets) = answer["budgets"].take() else {
        return Ok(Vec::new());
    };
    for budget in &mut budgets {
        let request = json!({ "budget_id": budget["id"] });
        budget["forecast"] = client.call("budget::forecast", request).await?;
    }
    Ok(budgets)
}

/// A budget in three lines.
fn shown(row: &Value, now_ms: i64) -> String {
    let (spent, ceiling) = (number(&row["spent_usd"]), number(&row["ceiling_usd"]));
    let reserved: f64 = row["reservations"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|reservation| number(&reservation["amount_usd"]))
        // Not `sum`: that of no floats is -0.
        .fold(0.0, |sum, amount| sum + amount);
    let share = |amount: f64| if ceiling > 0.0 { amount / ceiling } else { 1.0 };
    let period = text(&row["period"]);
    let forecast = &row["forecast"];
    let heading = match (
        forecast["on_track"].as_bool(),
        forecast["days_until_breach"].as_f64(),
    ) {
        (Some(true), _) => "on track".to_owned(),
        (_, Some(days)) => format!("reaches the ceiling in {days:.1} days"),
        (_, None) => "over the ceiling".to_owned(),
    };
    format!(
        "{title}\n  {bar} {percent:>3.0} %  spent {spent}  reserved {reserved}  of {ceiling} a {period}{flags}\n  \
         {resets}; at this rate {projected} by then, {heading}",
        title = title(row),
        bar = bar(share(spent), share(reserved)),
        percent = share(spent) * 100.0,
        spent = usd(spent),
        reserved = usd(reserved),
        ceiling = usd(ceiling),
        flags = flags(row),
        resets = resets(row["period_resets_at"].as_i64().unwrap_or(now_ms) - now_ms),
        projected = usd(number(&forecast["projected_period_usd"])),
    )
}

fn title(row: &Value) -> String {
    let mut words = Vec::new();
    if let Some(name) = row["name"].as_str() {
        words.push(visible(name).into_owned());
    }
    for (word, member) in [
        ("workspace", "workspace_id"),
        ("agent", "agent_id"),
        ("below", "parent_id"),
    ] {
        if let Some(id) = row[member].as_str() {
            words.push(format!("{word} {}", visible(id)));
        }
    }
    words.push(visible(&text(&row["id"])).into_owned());
    words.join("  ")
}

fn flags(row: &Value) -> &'static str {
    match (row["paused"].as_bool(), row["enforced"].as_bool()) {
        (Some(true), _) => "  (paused)",
        (_, Some(false)) => "  (not enforced)",
        _ => "",
    }
}

/// `#` is spent, `=` is set aside; what is over the end is cut off.
fn bar(spent: f64, reserved: f64) -> String {
    let cells = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the number of cells"
        )]
        let cells = (share.clamp(0.0, 1.0) * f64::from(CELLS)).round() as usize;
        cells
    };
    let (full, held) = (cells(spent), cells(spent + reserved));
    let rest = cells(1.0) - held;
    format!(
        "[{}{}{}]",
        "#".repeat(full),
        "=".repeat(held - full),
        ".".repeat(rest)
    )
}

fn resets(left_ms: i64) -> String {
    let hours = left_ms.max(0) / HOUR_MS;
    match hours {
        0 => format!("starts anew in {} min", left_ms.max(0) / 60_000),
        1..48 => format!("starts anew in {hours} h"),
        _ => format!("starts anew in {} days", hours / 24),
    }
}

/// Cents, or as many digits as it takes to see a small amount.
fn usd(amount: f64) -> String {
    if amount != 0.0 && amount.abs() < 0.01 {
        format!("${amount:.6}")
    } else {
        format!("${amount:.2}")
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_budget_is_three_lines() {
        let row = json!({
            "id": "b-1", "name": "team\u{1b}[2J", "workspace_id": "w", "ceiling_usd": 10, "spent_usd": 6, "period": "day",
            "period_resets_at": 7 * HOUR_MS, "enforced": true, "paused": false,
            "reservations": [{"amount_usd": 1.5}, {"amount_usd": 0.5}],
            "forecast": {"on_track": false, "days_until_breach": 0.66, "projected_period_usd": 7.75},
        });
        let shown = shown(&row, 0);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
        assert!(lines[0].ends_with("workspace w  b-1"), "{shown}");
        assert_eq!(
            lines[1..],
            [
                "  [##############=====.....]  60 %  spent $6.00  reserved $2.00  of $10.00 a day",
                "  starts anew in 7 h; at this rate $7.75 by then, reaches the ceiling in 0.7 days",
            ]
        );
    }

    #[test]
    fn nothing_reserved_is_no_negative_zero() {
        let shown = shown(&json!({ "id": "b", "ceiling_usd": 10, "period": "day" }), 0);
        assert!(
            shown.contains("spent $0.00  reserved $0.00  of $10.00"),
            "{shown}"
        );
    }

    #[test]
    fn bars_end_at_their_ends() {
        assert_eq!(bar(0.0, 0.0), format!("[{}]", ".".repeat(24)));
        assert_eq!(bar(2.0, 1.0), format!("[{}]", "#".repeat(24)));
        assert_eq!(bar(0.5, 9.0), format!("[{}{}]", "#".repeat(12), "=".repeat(12)));
        assert_eq!(bar(-0.5, 0.0), format!("[{}]", ".".repeat(24)));
    }

    #[test]
    fn small_amounts_and_long_times() {
        assert_eq!(
            [0.0, 0.000_12, 0.01, 12.345].map(usd),
            ["$0.00", "$0.000120", "$0.01", "$12.35"]
        );
        assert_eq!(resets(59 * 60_000), "starts anew in 59 min");
        assert_eq!(resets(47 * HOUR_MS), "starts anew in 47 h");
        assert_eq!(resets(72 * HOUR_MS), "starts anew in 3 days");
    }
}
