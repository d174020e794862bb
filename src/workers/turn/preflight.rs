//! Before a model call: does the conversation fit the model's window? If not, have it compacted (contract 02 §5.2).

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::billing;
use super::context;
use super::dispatch::while_booting;
use super::record::TurnRecord;
use super::request::RunRequest;
use super::session::Session;
use crate::error::{Error, Result};
use crate::model::api::Contract;
use crate::model::api::compaction::{CompactModel, CompactNow, CompactNowRequest, Limits};
use crate::model::api::session::MessagesResponse;
use crate::model::turn::BudgetWait;
use crate::model::{RawMessage, tokens};

const CATALOG_MS: u64 = 5_000;
/// Longer than the callee itself may take, so that its answer is the one that counts.
const COMPACT_MS: u64 = 300_000;

/// No model has a smaller window, in tokens: a record that says so is a mistake, and the provider decides.
const SMALLEST_WINDOW: u64 = 1_024;

/// What the last compaction of a session left, in tokens, when that was still too much; 0 when it was not.
#[derive(Debug, Default)]
pub(super) struct CompactedTo(AtomicU64);

impl CompactedTo {
    fn note(&self, left: u64, room: u64) {
        let too_much = if left < room { 0 } else { left };
        self.0.store(too_much, Ordering::Relaxed);
    }

    /// Whether hardly anything came to it since: nothing could be gained.
    fn is_still(&self, said: u64, room: u64) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        left > 0 && said < left.saturating_add(room / 8)
    }
}

/// Whether the conversation fits.
pub(super) enum Fit {
    /// It does, or nothing can be done about it.
    AsItIs,
    /// With this in its place.
    Compacted(Vec<RawMessage>),
    /// Not without a summary, which may not be paid for.
    Refused(BudgetWait),
}

/// Has the history compacted when it does not fit.
///
/// A compaction that leaves too much is not repeated before more was said (field lesson K1): what is left is sent as long as
/// the window takes it.
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
) -> Result<Fit> {
    let compaction = session.cx.config().compaction.clone();
    if !compaction.auto {
        return Ok(Fit::AsItIs);
    }
    let Some(limit) = limits(session, record, provider, &request.model).await else {
        return Ok(Fit::AsItIs);
    };
    let fixed = tokens::of_fixed(&request.system_prompt, &request.function_schemas);
    let room = tokens::room(limit, compaction.reserved_tokens, fixed);
    let said = tokens::of_view(messages, fixed, &request.model);
    if said < room || session.compacted_to.is_still(said, room) {
        return Ok(Fit::AsItIs);
    }
    let call = CompactNowRequest {
        session_id: session.id.clone(),
        projected_tokens: said + fixed,
        last_user_message_id: context::open_question(rows),
        model: CompactModel {
            id: request.model.clone(),
            provider_id: provider.to_owned(),
            limit,
        },
        budget_id: billing::budget_of(session, request),
    };
    let ask = || session.call::<CompactNow>(call.clone(), COMPACT_MS);
    let reply = while_booting(session.cx.state(), |error| error.is_missing(CompactNow::ID), ask)
        .await
        .map_err(finally)?;
    if let Some(why) = reply.budget_wait {
        return Ok(Fit::Refused(why));
    }
    match reply.status.as_str() {
        "ok" => {
            let (messages, _) = session.context_view().await?;
            let left = tokens::of_view(&messages, fixed, &request.model);
            if left + fixed > limit.context && limit.context >= SMALLEST_WINDOW {
                return Err(Error::invalid(format!(
                    "session too large to compact: {} tokens are needed, the window of {} has {}, of which {} are reserved",
                    left + fixed,
                    request.model,
                    limit.context,
                    compaction.reserved_tokens,
                )));
            }
            session.compacted_to.note(left, room);
            Ok(Fit::Compacted(messages))
        }
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
            session.compacted_to.note(said, room);
            // Outputs may have been pruned.
            Ok(Fit::Compacted(session.context_view().await?.0))
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
    tokens::limits_of(&meta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_compaction_that_left_too_much_is_not_repeated_before_more_was_said() {
        let compacted = CompactedTo::default();
        assert!(!compacted.is_still(900, 800));
        compacted.note(900, 800);
        assert!(compacted.is_still(900, 800) && compacted.is_still(999, 800));
        assert!(!compacted.is_still(1_000, 800));
        compacted.note(700, 800);
        assert!(!compacted.is_still(900, 800));
    }

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
}
