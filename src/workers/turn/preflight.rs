//! Before a model call: does the conversation fit the model's window? If not, have it compacted (contract 02 §5.2).

use serde_json::Value;

use super::context;
use super::dispatch::while_booting;
use super::record::TurnRecord;
use super::request::RunRequest;
use super::session::Session;
use crate::error::{Error, Result};
use crate::model::RawMessage;
use crate::model::api::Contract;
use crate::model::api::compaction::{CompactModel, CompactNow, CompactNowRequest, Limits};
use crate::model::api::session::MessagesResponse;

const CATALOG_MS: u64 = 5_000;
/// Longer than the callee itself may take, so that its answer is the one that counts.
const COMPACT_MS: u64 = 300_000;

/// True when the history was compacted and has to be read again.
///
/// # Errors
/// The conversation cannot be made to fit (final), or a compaction is already under way (passing).
pub(super) async fn check(
    session: &Session,
    record: &TurnRecord,
    request: &RunRequest,
    provider: &str,
    messages: &[RawMessage],
    rows: &MessagesResponse,
) -> Result<bool> {
    let compaction = session.cx.config().compaction.clone();
    if !compaction.auto {
        return Ok(false);
    }
    let Some(limit) = limits(session, record, provider, &request.model).await else {
        return Ok(false);
    };
    let projected = context::estimate_tokens(messages) + fixed_part(request);
    if projected < usable(limit, compaction.reserved_tokens) {
        return Ok(false);
    }
    let call = CompactNowRequest {
        session_id: session.id.clone(),
        projected_tokens: projected,
        last_user_message_id: context::last_user_entry(rows),
        model: CompactModel {
            id: request.model.clone(),
            provider_id: provider.to_owned(),
            limit,
        },
    };
    let ask = || session.call::<CompactNow>(call.clone(), COMPACT_MS);
    let reply = while_booting(session.cx.state(), |error| error.is_missing(CompactNow::ID), ask)
        .await
        .map_err(finally)?;
    match reply.status.as_str() {
        "ok" => Ok(true),
        "overflow" => {
            let why = reply
                .message
                .map(|message| format!(": {message}"))
                .unwrap_or_default();
            Err(Error::invalid(format!("session too large to compact{why}")))
        }
        "busy" => Err(Error::Transient("compaction already in progress".into())),
        status => {
            tracing::warn!(session_id = %session.id, status, "not compacted; going on with the whole history");
            Ok(false)
        }
    }
}

/// A failed attempt is the only one for a model call: it may have been paid for.
fn finally(error: Error) -> Error {
    if error.is_retryable() {
        Error::invalid(format!("compaction failed: {error}"))
    } else {
        error
    }
}

/// The model's window; `None` when it is not known.
async fn limits(session: &Session, record: &TurnRecord, provider: &str, model: &str) -> Option<Limits> {
    let meta = if let Some(meta) = &record.model_meta {
        Value::Object(meta.clone())
    } else {
        let request = serde_json::json!({ "provider": provider, "model_id": model });
        session.invoke("models::get", request, CATALOG_MS).await.ok()?
    };
    let tokens = |key: &str| meta.get(key).and_then(whole).unwrap_or(0);
    let context = tokens("context_window");
    (context > 0).then(|| Limits {
        context,
        input: context,
        output: tokens("max_output_tokens"),
    })
}

/// A count of tokens; some catalogs write it with a fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked"
)]
fn whole(value: &Value) -> Option<u64> {
    let fractional = || {
        value
            .as_f64()
            .filter(|n| (0.0..1e15).contains(n))
            .map(|n| n as u64)
    };
    value.as_u64().or_else(fractional)
}

/// Tokens a conversation may take.
fn usable(limit: Limits, reserved: u64) -> u64 {
    if limit.input > 0 {
        limit.input.saturating_sub(reserved).max(limit.input / 4)
    } else {
        limit.context.saturating_sub(limit.output)
    }
}

/// Estimated tokens of what goes along with every request: system prompt and tools.
fn fixed_part(request: &RunRequest) -> u64 {
    let tools: usize = request
        .function_schemas
        .iter()
        .map(|schema| schema.to_string().len())
        .sum();
    (request.system_prompt.len() + tools) as u64 / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn c02_5_2_a_failed_compaction_is_final() {
        let timeout = Error::Timeout {
            function: "f".into(),
            after_ms: 5,
        };
        let missing = Error::coded("function_not_found", "Function f not found");
        assert_eq!(finally(missing.clone()), missing);
        for passing in [
            timeout,
            Error::Disconnected,
            Error::Unavailable("x".into()),
            Error::Stopped,
        ] {
            let text = format!("compaction failed: {passing}");
            assert_eq!(finally(passing), Error::invalid(text));
        }
    }

    #[test]
    fn prompt_and_tools_count_too() {
        let mut request = RunRequest {
            system_prompt: "x".repeat(400),
            ..RunRequest::default()
        };
        assert_eq!(fixed_part(&request), 100);
        let tool = serde_json::json!({ "name": "t" });
        request.function_schemas = vec![tool.clone(), tool];
        // 400 for the prompt, 12 for each tool.
        assert_eq!(fixed_part(&request), (400 + 2 * 12) / 4);
    }

    #[test]
    fn a_small_window_keeps_a_quarter() {
        let limit = |context| Limits {
            context,
            input: context,
            output: 100,
        };
        assert_eq!(usable(limit(200_000), 20_000), 180_000);
        assert_eq!(usable(limit(10), 20_000), 2);
        assert_eq!(
            usable(
                Limits {
                    context: 1_000,
                    input: 0,
                    output: 100
                },
                20_000
            ),
            900
        );
    }
}
