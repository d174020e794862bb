//! `harness functions`: the functions of this program, or with `--engine` all that an engine has now.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::client::Client;
use super::{Exit, print};
use crate::bus::{FunctionDef, FunctionInfo, WorkerDef};
use crate::config::Loaded;
use crate::workers;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON; those of this program with request and response schemas.
    #[arg(long)]
    json: bool,
    /// Ask a running engine, which answers with the functions of all its workers.
    #[arg(long)]
    pub(super) engine: bool,
}

pub(super) fn of_this_program(args: &Args) -> Result<Exit> {
    let catalog = catalog(&workers::all());
    if args.json {
        return print_json(&catalog.iter().map(row).collect::<Vec<_>>());
    }
    let rows = catalog
        .iter()
        .map(|function| [function.id.as_str(), &function.description]);
    print_table(rows)
}

pub(super) async fn of_engine(args: Args, loaded: Loaded) -> Result<Exit> {
    let client = Client::connect(loaded, Vec::new()).await?;
    let rows = client.functions("").await.context("engine::functions::list")?;
    client.stop().await;
    if args.json {
        return print_json(&rows);
    }
    let text = |row: &'_ Value, member: &str| {
        row.get(member)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let cells: Vec<[String; 3]> = rows
        .iter()
        .map(|row| ["function_id", "worker_name", "description"].map(|member| text(row, member)))
        .collect();
    print_table(cells.iter().map(|row| row.each_ref().map(String::as_str)))
}

/// All functions of the workers, sorted by id.
pub fn catalog(workers: &[WorkerDef]) -> Vec<FunctionInfo> {
    let mut all: Vec<FunctionInfo> = workers
        .iter()
        .flat_map(|worker| worker.functions.iter().map(FunctionDef::info))
        .collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

fn row(function: &FunctionInfo) -> Value {
    json!({
        "id": function.id,
        "description": function.description,
        "request_schema": function.request_schema,
        "response_schema": function.response_schema,
        "metadata": function.metadata,
    })
}

pub(super) fn print_json(rows: &[Value]) -> Result<Exit> {
    print(&serde_json::to_string_pretty(rows)?)?;
    Ok(Exit::Done)
}

/// Columns as wide as their widest cell, the last one as long as it is.
pub(super) fn print_table<'a, const COLUMNS: usize>(
    rows: impl Iterator<Item = [&'a str; COLUMNS]> + Clone,
) -> Result<Exit> {
    let mut widths = [0; COLUMNS];
    for row in rows.clone() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    for row in rows {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        print(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(Exit::Done)
}
