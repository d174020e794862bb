//! `harness models`: the models that the providers of an engine offer, with `--refresh` after asking them again.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::join_all;
use serde_json::{Value, json};

use super::client::Client;
use super::functions::{print_json, print_table};
use super::{Exit, complain};
use crate::bus::CallOptions;
use crate::config::Loaded;

/// Limit of one provider's listing.
const REFRESH: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only those of this provider.
    #[arg(long, value_name = "ID")]
    provider: Option<String>,
    /// Ask the providers again first; a server that was just started, or a model that was just loaded, is seen then.
    #[arg(long)]
    refresh: bool,
    /// The records as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn models(args: Args, loaded: Loaded) -> Result<Exit> {
    let client = Client::connect(loaded, Vec::new()).await?;
    if args.refresh {
        refresh(&client, args.provider.as_deref()).await?;
    }
    let request = json!({ "provider": args.provider });
    let mut list = client
        .call("models::list", request)
        .await
        .context("models::list")?;
    client.stop().await;
    let rows = match list["models"].take() {
        Value::Array(rows) => rows,
        _ => Vec::new(),
    };
    if args.json {
        return print_json(&rows);
    }
    let cells: Vec<[String; 4]> = rows.iter().map(cells).collect();
    print_table(cells.iter().map(|row| row.each_ref().map(String::as_str)))
}

/// Has all providers that can list their models do so, or one of them. What one lists, or that it lists nothing, is said beside
/// the table.
async fn refresh(client: &Client, only: Option<&str>) -> Result<()> {
    let declared = client.call("harness::provider::list", json!({})).await;
    let declared = declared.context("harness::provider::list")?;
    let ids = declared["providers"].as_array().into_iter().flatten();
    let ids = ids
        .filter(|row| row["supports_model_listing"] == true)
        .filter_map(|row| Some((row["id"].as_str()?, row["configured"] == false)))
        .filter(|(id, _)| only.is_none_or(|only| only == *id));
    let ids: Vec<_> = ids.collect();
    if let (Some(only), []) = (only, ids.as_slice()) {
        complain(&format!("{only}: no provider of this name lists models"));
    }
    let refreshed = ids.into_iter().map(async |(id, is_bare)| {
        let options = CallOptions {
            timeout: Some(REFRESH),
            ..CallOptions::default()
        };
        let function = format!("provider::{id}::refresh_models");
        let answer = client.call_with(&function, json!({}), options).await;
        let count = answer.map(|answer| answer["registered"].as_array().map_or(0, Vec::len));
        (id, is_bare, count)
    });
    for (id, is_bare, count) in join_all(refreshed).await {
        match count {
            Ok(0) if is_bare => complain(&format!(
                "{id}: nothing listed; neither a key nor an address is set for it"
            )),
            Ok(0) => complain(&format!("{id}: nothing listed")),
            Ok(count) => complain(&format!("{id}: {count} listed")),
            Err(error) => complain(&format!("{id}: {error}")),
        }
    }
    Ok(())
}

/// `provider::model` as runs name it, window, output limit, price per million tokens.
fn cells(record: &Value) -> [String; 4] {
    let text = |member: &str| record[member].as_str().unwrap_or_default();
    let number = |member: &str| record[member].as_f64().map(|number| number.to_string());
    [
        format!("{}::{}", text("provider"), text("id")),
        number("context_window").unwrap_or_default(),
        number("max_output_tokens").unwrap_or_default(),
        price(&record["pricing"]).unwrap_or_default(),
    ]
}

/// What tokens cost, and what they cost in longer prompts.
fn price(pricing: &Value) -> Option<String> {
    let of = |rates: &Value| {
        let [input, output] = ["input_per_1m", "output_per_1m"].map(|member| rates[member].as_f64());
        Some(format!("${} in, ${} out", input?, output?))
    };
    let tiers = pricing["tiers"].as_array().into_iter().flatten();
    let tiers = tiers.map(|tier| {
        let above = tier["above_tokens"].as_f64()?;
        Some(format!("above {above} tokens {}", of(tier)?))
    });
    let all: Option<Vec<_>> = std::iter::once(of(pricing)).chain(tiers).collect();
    Some(all?.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_row_says_what_is_known() {
        let record = json!({"id": "qwen/q3", "provider": "lmstudio", "context_window": 4096, "max_output_tokens": 8192});
        assert_eq!(cells(&record), ["lmstudio::qwen/q3", "4096", "8192", ""]);
        let priced =
            json!({"id": "m", "provider": "p", "pricing": {"input_per_1m": 0.5, "output_per_1m": 2.0}});
        assert_eq!(cells(&priced), ["p::m", "", "", "$0.5 in, $2 out"]);
        let tiered = json!({"id": "m", "provider": "p", "pricing": {"input_per_1m": 2.5, "output_per_1m": 15,
            "tiers": [{"above_tokens": 272_000, "input_per_1m": 5, "output_per_1m": 22.5}]}});
        assert_eq!(
            cells(&tiered)[3],
            "$2.5 in, $15 out; above 272000 tokens $5 in, $22.5 out"
        );
        assert_eq!(cells(&json!("odd")), ["::", "", "", ""]);
    }
}
