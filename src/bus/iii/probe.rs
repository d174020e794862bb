//! What the engine says of itself and of us, asked once per connection.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Core, call};
use crate::bus::{CallContext, Invocation, Link};
use crate::error::{Error, Result};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Default)]
pub(super) struct Findings(Mutex<Found>);

#[derive(Default)]
struct Found {
    /// Ids of ours that the engine does not have from us.
    refused: Vec<String>,
}

impl Findings {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Why the engine is not fully usable now.
    pub(super) fn problem(&self) -> Option<String> {
        if self.link.is_over() {
            return Some(self.refusal().to_string());
        }
        if self.link.now() == Link::Down {
            return Some(format!("no connection to {}", self.options.url));
        }
        let refused = &self.findings.lock().refused;
        (!refused.is_empty()).then(|| format!("not registered: {}", refused.join(", ")))
    }

    /// Why there is no connection any more.
    pub(super) fn refusal(&self) -> Error {
        match self.client().ok().and_then(iii_sdk::IIIClient::fatal_error) {
            Some(error) => Error::Unavailable(format!("{}: {error}", self.options.url)),
            None => Error::Disconnected,
        }
    }
}

#[derive(Deserialize)]
struct Functions {
    #[serde(default)]
    functions: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    function_id: String,
    worker_name: Option<String>,
}

/// Asks what there is.
pub(super) async fn look(core: &Arc<Core>) -> Result<()> {
    let listed = ask(
        core,
        "engine::functions::list",
        json!({ "include_internal": true }),
    )
    .await?;
    let listed: Functions = serde_json::from_value(listed).map_err(|error| {
        Error::Unavailable(format!("unexpected answer of engine::functions::list: {error}"))
    })?;
    let ours: BTreeSet<&str> = listed
        .functions
        .iter()
        .filter(|row| {
            row.worker_name
                .as_deref()
                .is_none_or(|name| name == core.options.worker_name)
        })
        .map(|row| row.function_id.as_str())
        .collect();
    let mut refused: Vec<String> = core
        .registrations
        .functions()
        .into_iter()
        .filter(|id| !ours.contains(id.as_str()))
        .map(|id| id.to_string())
        .collect();
    refused.sort();
    core.findings.lock().refused = refused;
    Ok(())
}

/// Waits until what was sent so far was taken in.
pub(super) async fn confirm(core: &Arc<Core>) -> Result<Vec<String>> {
    look(core).await?;
    Ok(Vec::new())
}

/// Something that any engine answers at once.
pub(super) async fn ping(core: &Arc<Core>) -> Result<Value> {
    ask(core, "engine::workers::list", json!({ "search": "-" })).await
}

async fn ask(core: &Arc<Core>, id: &str, payload: Value) -> Result<Value> {
    let invocation = Invocation {
        function_id: id.into(),
        payload,
        context: CallContext::default(),
    };
    call::send(core, invocation, None, ANSWER_WITHIN).await
}
