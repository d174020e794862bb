//! Calls that the engine makes by itself, each with a limit.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Core;
use super::trigger::{Binding, text_member};
use crate::bus::{CallContext, Invocation};
use crate::error::{Error, Result};

/// Calls a function; after the limit the answer is [`Error::Timeout`], and the handler goes on by itself.
pub(super) async fn within(core: &Arc<Core>, invocation: Invocation, limit: Duration) -> Result<Value> {
    let function = invocation.function_id.clone();
    tokio::time::timeout(limit, core.invoke(invocation))
        .await
        .unwrap_or_else(|_| {
            Err(Error::Timeout {
                function: function.to_string(),
                after_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            })
        })
}

/// Whether a binding's condition, if it has one, lets a payload pass: only `false` blocks (contract 00 §3.3).
///
/// # Errors
/// What the condition answers.
pub(super) async fn condition_passes(
    core: &Arc<Core>,
    binding: &Binding,
    payload: &Value,
    context: &CallContext,
) -> Result<bool> {
    let condition = text_member(&binding.spec.config, "condition_function_id").map_err(Error::Invalid)?;
    let Some(condition) = condition else {
        return Ok(true);
    };
    let invocation = Invocation {
        function_id: condition.into(),
        payload: payload.clone(),
        context: context.clone(),
    };
    let answer = within(core, invocation, core.options.trigger_timeout).await?;
    Ok(answer != Value::Bool(false))
}
