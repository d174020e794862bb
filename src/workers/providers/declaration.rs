//! A provider tells the registry that it exists (contract 09 B3, B4).

use std::time::Duration;

use super::{Host, local};
use crate::bus::{CallOptions, Cx};
use crate::error::Result;
use crate::model::api::provider::{Declaration, Defaults, Register};

const DECLARE_MS: u64 = 5_000;
/// A registry of another process may come later; this long, in steps that double up to the last one.
const PATIENCE: Duration = Duration::from_mins(2);
const FIRST_STEP: Duration = Duration::from_secs(1);
const LAST_STEP: Duration = Duration::from_secs(15);

/// Declares before the process is ready. A registry that is not there yet is [`declare_late`]'s matter.
pub(super) async fn declare(cx: &Cx<Host>) -> Result<()> {
    match register(cx).await {
        Err(error) if error.is_function_not_found() => Ok(()),
        outcome => outcome,
    }
}

/// Waits for a registry that was not there; returns at once when it was.
pub(super) async fn declare_late(cx: &Cx<Host>) -> Result<()> {
    if cx.state().is_declared() {
        return Ok(());
    }
    let waiting = async {
        let mut step = FIRST_STEP;
        loop {
            match register(cx).await {
                Err(error) if error.is_function_not_found() => {}
                outcome => return outcome,
            }
            tokio::time::sleep(step).await;
            step = (step * 2).min(LAST_STEP);
        }
    };
    tokio::select! {
        () = cx.shutdown_token().cancelled() => Ok(()),
        outcome = tokio::time::timeout(PATIENCE, waiting) => outcome.unwrap_or_else(|_| {
            tracing::warn!(provider = cx.state().provider.spec().id, "there is no provider registry");
            Ok(())
        }),
    }
}

async fn register(cx: &Cx<Host>) -> Result<()> {
    let provider = &cx.state().provider;
    let spec = provider.spec();
    let settings = provider.settings(&cx.config());
    if provider.is_local() {
        local::warn_of_remote(spec.id, &settings.api_url);
    }
    let declaration = Declaration {
        id: spec.id.into(),
        display_name: Some(spec.display_name.to_owned()),
        credential_env_var: Some(spec.credential_env_var.to_owned()),
        config_schema: None,
        defaults: Some(Defaults {
            api_url: settings.declares_api_url.then_some(settings.api_url),
            max_tokens: u32::try_from(settings.max_tokens).ok().map(f64::from),
        }),
        supports_model_listing: true,
    };
    let options = CallOptions::timeout_ms(DECLARE_MS);
    cx.call_with::<Register>(declaration, options).await?;
    cx.state().set_declared();
    Ok(())
}
