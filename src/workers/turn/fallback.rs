//! Other models for a turn whose own one is not available (`turn.fallback_models`, off unless somebody names some).
//!
//! Only before the first word, and after the provider's own attempts: what was shown cannot be taken back, and a burst that hits one
//! model hits the next one too.

use super::billing;
use super::provider_call::{self, Call};
use super::provider_turn::{End, Reading, Told};
use super::record::TurnRecord;
use super::request::RunRequest;
use super::session::Session;
use crate::bus::provider::stream_of;
use crate::model::route::Route;
use crate::model::{AgentFunction, ErrorKind, RawMessage, StopReason};

/// Asks the models of `turn.fallback_models` in their order, when the turn's own one is not available and has said nothing yet.
/// `None`: its failure stays the answer, because none of them did better, or because a budget pays for the run.
pub(super) async fn ask(
    session: &mut Session,
    record: &mut TurnRecord,
    request: &RunRequest,
    (first, end): (&Reading, &End),
    messages: &[RawMessage],
    tools: &[AgentFunction],
) -> Option<(Reading, End)> {
    // What was set aside is the worst case of the run's own model.
    let is_paid_for = billing::budget_of(session, request).is_some();
    if is_paid_for || !first.is_unavailable(end) {
        return None;
    }
    let mut told = first.told;
    for other in request.fallbacks(&session.cx.config().turn.fallback_models) {
        let Ok(Route::Provider(id)) = provider_call::route_of(session, &other).await else {
            tracing::warn!(provider = other.provider, "no such provider to fall back to");
            continue;
        };
        tracing::warn!(
            session_id = %session.id, from = request.model, to = %id, model = other.model,
            "the model is not available, another one is asked"
        );
        let mut reading = Reading::new(session, &id, &other.model);
        reading.told = told;
        let call = Call {
            function: stream_of(&id),
            silence: provider_call::longest_silence(&session.cx.config(), &id),
            request: &other,
            model_meta: None,
            messages: messages.to_vec(),
            tools: tools.to_vec(),
        };
        let end = reading.provider(session, record, call).await;
        if !reading.has_failed_silently(&end) {
            return Some((reading, end));
        }
        told = reading.told;
    }
    None
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
