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
        print(&trees(&rows, now_ms))?;
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

/// All budgets, each above those that it pays with, which are indented.
fn trees(rows: &[Value], now_ms: i64) -> String {
    let is_listed = |id: &Value| rows.iter().any(|row| row["id"] == *id);
    let tops = rows.iter().filter(|row| !is_listed(&row["parent_id"]));
    let mut next: Vec<(usize, &Value)> = tops.rev().map(|row| (0, row)).collect();
    let mut all = Vec::new();
    while let Some((depth, row)) = next.pop() {
        let is_below = |other: &&Value| other["parent_id"].is_string() && other["parent_id"] == row["id"];
        let below = rows.iter().filter(is_below);
        next.extend(below.rev().map(|other| (depth + 1, other)));
        let indent = "  ".repeat(depth);
        let mut facts = facts(row);
        if depth == 0
            && let Some(parent) = row["parent_id"].as_str()
        {
            facts.push(format!("below {}", visible(parent)));
        }
        let lines = shown(row, &facts, now_ms).replace('\n', &format!("\n{indent}"));
        all.push(format!("{indent}{lines}"));
    }
    all.join("\n\n")
}

/// A budget in four or five lines, each short enough for half a screen.
fn shown(row: &Value, facts: &[String], now_ms: i64) -> String {
    let (spent, ceiling) = (number(&row["spent_usd"]), number(&row["ceiling_usd"]));
    let reserved: f64 = row["reservations"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|reservation| number(&reservation["amount_usd"]))
        // Not `sum`: that of no floats is -0.
        .fold(0.0, |sum, amount| sum + amount);
    let share = |amount: f64| if ceiling > 0.0 { amount / ceiling } else { 1.0 };
    let left_ms = row["period_resets_at"].as_i64().unwrap_or(now_ms) - now_ms;
    let lines = [
        title(row),
        facts.join(", "),
        format!(
            "{} {:>3.0} %  starts anew in {}",
            bar(share(spent), share(reserved)),
            share(spent) * 100.0,
            span(left_ms)
        ),
        format!(
            "spent {}, reserved {}, of {} a {}",
            usd(spent),
            usd(reserved),
            usd(ceiling),
            text(&row["period"])
        ),
        heading(&row["forecast"], spent > ceiling),
    ];
    let lines: Vec<String> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    lines.join("\n  ")
}

/// Name and id.
fn title(row: &Value) -> String {
    let words = [row["name"].as_str(), row["id"].as_str()];
    let words: Vec<_> = words.into_iter().flatten().map(visible).collect();
    words.join("  ")
}

/// What is unusual about it, and whose it is.
fn facts(row: &Value) -> Vec<String> {
    let flag = match (row["paused"].as_bool(), row["enforced"].as_bool()) {
        (Some(true), _) => Some("paused"),
        (_, Some(false)) => Some("not enforced"),
        _ => None,
    };
    let owners = [("workspace", "workspace_id"), ("agent", "agent_id")];
    let owners = owners.into_iter().filter_map(|(word, member)| {
        let id = row[member].as_str()?;
        Some(format!("{word} {}", visible(id)))
    });
    flag.map(str::to_owned).into_iter().chain(owners).collect()
}

/// Where spend goes until the period is over.
fn heading(forecast: &Value, is_over: bool) -> String {
    let member = |name: &str| forecast[name].as_bool().unwrap_or_default();
    let heading = match forecast["days_until_breach"].as_f64() {
        _ if member("on_track") && member("at_risk") => "on track, but a fast start".to_owned(),
        _ if member("on_track") => "on track".to_owned(),
        Some(days) => format!("at the ceiling in {}", span(ms(days))),
        None if is_over => "over the ceiling".to_owned(),
        None => "at the ceiling".to_owned(),
    };
    let projected = usd(number(&forecast["projected_period_usd"]));
    format!("at this rate {projected} by then: {heading}")
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

/// A time that is still to pass.
fn span(ms: i64) -> String {
    let hours = ms.max(0) / HOUR_MS;
    match hours {
        0 => format!("{} min", ms.max(0) / 60_000),
        1..48 => format!("{hours} h"),
        _ => format!("{} days", hours / 24),
    }
}

fn ms(days: f64) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what is too long becomes the longest"
    )]
    let ms = (days * 86_400_000.0) as i64;
    ms
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
    fn a_budget_fits_half_a_screen() {
        let row = json!({
            "id": "6f0d2f5e-3c1f-4f3e-9c8e-0f6f2f5a7c11", "name": "team\u{1b}[2J", "workspace_id": "w", "agent_id": "a",
            "ceiling_usd": 1000, "spent_usd": 600, "period": "month", "period_resets_at": 7 * 24 * HOUR_MS,
            "enforced": false, "paused": false, "reservations": [{"amount_usd": 150}, {"amount_usd": 50}],
            "forecast": {"on_track": false, "days_until_breach": 0.66, "projected_period_usd": 1207.75},
        });
        let shown = trees(&[row], 0);
        assert_eq!(
            shown,
            "team\\u{1b}[2J  6f0d2f5e-3c1f-4f3e-9c8e-0f6f2f5a7c11\n\
             \x20 not enforced, workspace w, agent a\n\
             \x20 [##############=====.....]  60 %  starts anew in 7 days\n\
             \x20 spent $600.00, reserved $200.00, of $1000.00 a month\n\
             \x20 at this rate $1207.75 by then: at the ceiling in 15 h"
        );
        assert!(shown.lines().all(|line| line.chars().count() <= 60), "{shown}");
    }

    #[test]
    fn nothing_is_said_of_what_is_usual() {
        let row = json!({"id": "b", "ceiling_usd": 1, "spent_usd": 0, "period": "day", "enforced": true, "paused": false});
        assert_eq!(title(&row), "b");
        assert_eq!(facts(&row), [] as [String; 0]);
        let paused = json!({"paused": true, "enforced": false, "agent_id": "a"});
        assert_eq!(facts(&paused), ["paused", "agent a"]);
    }

    #[test]
    fn budgets_are_below_those_that_pay_with_them() {
        let rows: Vec<Value> = [
            ("d", Some("c")),
            ("c", Some("a")),
            ("x", Some("elsewhere")),
            ("b", Some("a")),
            ("a", None),
        ]
        .map(|(id, parent)| json!({"id": id, "parent_id": parent}))
        .into();
        let shown = trees(&rows, 0);
        let lines = shown
            .lines()
            .filter(|line| line.trim_start().len() < 2 || line.contains("below"));
        let titles: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        assert_eq!(titles, ["x", "  below elsewhere", "a", "  c", "    d", "  b"]);
    }

    #[test]
    fn headings() {
        let of = |forecast: Value, is_over| {
            let heading = heading(&forecast, is_over);
            heading.rsplit_once(": ").unwrap().1.to_owned()
        };
        assert_eq!(
            [
                of(
                    json!({"on_track": true, "days_until_breach": 3.0, "at_risk": false}),
                    false
                ),
                of(
                    json!({"on_track": true, "days_until_breach": 3.0, "at_risk": true}),
                    false
                ),
                of(json!({"on_track": false, "days_until_breach": 3.0}), false),
                of(json!({"on_track": false, "days_until_breach": null}), false),
                of(json!({"on_track": false, "days_until_breach": null}), true),
                of(json!({"on_track": false, "days_until_breach": 1e300}), true),
            ],
            [
                "on track",
                "on track, but a fast start",
                "at the ceiling in 3 days",
                "at the ceiling",
                "over the ceiling",
                "at the ceiling in 106751991167 days",
            ]
        );
    }

    #[test]
    fn nothing_reserved_is_no_negative_zero() {
        let shown = shown(&json!({ "id": "b", "ceiling_usd": 10, "period": "day" }), &[], 0);
        assert!(
            shown.contains("spent $0.00, reserved $0.00, of $10.00 a day"),
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
        assert_eq!(
            [-1, 59 * 60_000, 47 * HOUR_MS, 72 * HOUR_MS].map(span),
            ["0 min", "59 min", "47 h", "3 days"]
        );
    }
}
