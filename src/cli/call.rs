//! `harness call`: one call of one function.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::client::Client;
use super::{Exit, Trouble, complain, given, print};
use crate::bus::CallOptions;
use crate::config::Loaded;
use crate::error::Error;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id of the function, such as `models::list`.
    function: String,
    /// Its payload as JSON; `-` reads it from stdin.
    #[arg(default_value = "{}")]
    payload: String,
    /// How long to wait for the answer; `engine.call_timeout_ms` when absent.
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
}

pub(super) async fn call(args: Args, loaded: Loaded) -> Result<Exit> {
    let payload = payload(args.payload)?;
    let client = Client::connect(loaded, Vec::new()).await?;
    let options = CallOptions {
        timeout: args.timeout_ms.map(Duration::from_millis),
        ..CallOptions::default()
    };
    let answer = client.call_with(&args.function, payload, options).await;
    client.stop().await;
    match answer {
        Ok(value) => {
            print(&if std::io::stdout().is_terminal() {
                serde_json::to_string_pretty(&value)?
            } else {
                value.to_string()
            })?;
            Ok(Exit::Done)
        }
        Err(error) => {
            complain(&format!("{}: {error}", error.wire_code()));
            Ok(if error == Error::Disconnected {
                Exit::NoEngine
            } else {
                Exit::Failed
            })
        }
    }
}

fn payload(argument: String) -> Result<Value> {
    serde_json::from_str(&given(argument)?)
        .map_err(|error| Trouble::Unusable(format!("the payload is no JSON: {error}")).into())
}
