//! Other models for a turn whose own one is not available (`turn.fallback_models`, off unless somebody names some).
//!
//! Only before the first word, and after the provider's own attempts: what was shown cannot be taken back, and a burst that hits one
//! model hits the next one too. Where a budget pays, what was set aside for a model is settled before the next one is asked.

use super::model_turn::{Asking, Attempt, Tried};
use super::provider_call;
use super::provider_turn::{End, Reading, Told};
use super::record::TurnRecord;
use super::session::Session;
use crate::error::Result;
use crate::model::route::Route;
use crate::model::turn::BudgetWait;
use crate::model::{ErrorKind, StopReason};

/// The turn's own attempt, or that of another model when its own one is not available and has said nothing yet. The models of
/// `turn.fallback_models` are asked in their order; one that the budget does not let be asked is passed over.
///
/// When none did better, the run waits for money if that kept one of them from being asked. But a turn that has cost something
/// does not rest, since it would cost that again and again: then, as without a cap, its own failure stays the answer.
///
/// # Errors
/// A cost is not known to be recorded.
pub(super) async fn ask(
    session: &mut Session,
    record: &mut TurnRecord,
    asking: &Asking<'_>,
    mut first: Box<Attempt>,
) -> Result<Tried> {
    let others = asking
        .request
        .fallbacks(&session.cx.config().turn.fallback_models);
    if others.is_empty() || !first.reading.is_unavailable(&first.end) {
        return Ok(Tried::Ended(first));
    }
    let mut costs = first.pay(session).await?;
    let (mut told, mut refused) = (first.reading.told, None);
    for other in others {
        let Ok(Route::Provider(id)) = provider_call::route_of(session, &other).await else {
            tracing::warn!(provider = other.provider, "no such provider to fall back to");
            continue;
        };
        tracing::warn!(
            session_id = %session.id, from = asking.request.model, to = %id, model = other.model,
            "the model is not available, another one is asked"
        );
        match asking.attempt(session, record, (&other, &id), told).await {
            Tried::Refused(why) => {
                tracing::warn!(session_id = %session.id, model = other.model, why.reason, "it is passed over");
                // What a raised cap would let go on comes before what it would not.
                if refused
                    .as_ref()
                    .is_none_or(|kept: &BudgetWait| kept.is_final && !why.is_final)
                {
                    refused = Some(why);
                }
            }
            Tried::Ended(next) if !next.reading.has_failed_silently(&next.end) => {
                return Ok(Tried::Ended(next));
            }
            Tried::Ended(mut next) => {
                costs |= next.pay(session).await?;
                told = next.reading.told;
            }
        }
    }
    Ok(match refused {
        Some(why) if !costs => Tried::Refused(why),
        _ => Tried::Ended(first),
    })
}

impl Reading {
    /// Whether nothing came, and that may be otherwise with another model.
    fn is_unavailable(&self, end: &End) -> bool {
        let kind = self.outcome.as_ref().and_then(|message| message.error_kind);
        let passes = match end {
            End::Complete => matches!(kind, Some(ErrorKind::RateLimited | ErrorKind::Transient)),
            End::Failed(_) => true,
            End::Stopped => false,
        };
        passes && self.has_failed_silently(end)
    }

    /// Whether it ended with a failure and without a word.
    fn has_failed_silently(&self, end: &End) -> bool {
        let failed = match (end, &self.outcome) {
            (End::Complete, Some(message)) => {
                message.stop_reason == StopReason::Error && message.content.is_empty()
            }
            (End::Complete, None) | (End::Failed(_), _) => true,
            (End::Stopped, _) => false,
        };
        failed && self.told != Told::Content
    }
}
