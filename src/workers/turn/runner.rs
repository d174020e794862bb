//! The step runner (contract 02 §2.1): load, check, run the step of the record's state, save, go on.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures::FutureExt;
use tokio::sync::oneshot;

use super::backoff::Backoff;
use super::commit::Outcome;
use super::record::TurnRecord;
use super::session::{Session, load};
use super::step::StepReply;
use super::stop::Answer;
use super::{
    abort, aborted, assistant_streaming, failed, function_awaiting_approval, function_execute, later,
    provisioning, steering_check, wake,
};
use crate::error::{Error, Result};
use crate::model::{AgentEvent, AgentMessage, AssistantMessage, RawMessage, TurnState};

/// Who asked for a step, and with which state in mind.
pub(super) type Caller = Option<(TurnState, oneshot::Sender<Result<StepReply>>)>;

/// Runs steps from the stored record on until the session rests; the record is read unless the session has just stored it.
/// `begin` is called once there is something to run, `ending` right before the record becomes terminal: from then on a new
/// run may be asked for.
pub(super) async fn run(
    session: &mut Session,
    stored: Option<TurnRecord>,
    mut caller: Caller,
    begin: impl FnOnce(),
    ending: impl Fn(),
) {
    let record = match stored {
        Some(record) => {
            session.repeats = false;
            Some(record)
        }
        None => enter(session, &mut caller).await,
    };
    let Some(mut record) = record else {
        return;
    };
    session.stop.enter(record.run());
    begin();
    let began = Instant::now();
    while !session.cx.shutdown_token().is_cancelled() {
        let from = record.state;
        let fence = session.fence();
        let step = transition(session, &mut record, caller.is_some(), &ending);
        let done = match &fence {
            Some(fence) => fence.guard(Box::pin(step)).await,
            None => Some(step.await),
        };
        let Some(done) = done else {
            session.forget();
            later::look_again(session);
            return answer(
                &mut caller,
                Err(Error::Transient("the lease of the session is lost".into())),
            );
        };
        match done {
            Ok(()) => {
                // The step behind the first one is begun before that is stored, so it may have been begun before as well.
                session.repeats &= from == TurnState::Provisioning;
                session.cx.state().answers.forget(&session.id);
                session.cx.state().meters.transition(record.state);
            }
            Err(error) => {
                tracing::warn!(session_id = %session.id, state = from.as_str(), %error, "step not done");
                later::look_again(session);
                session.stop.leave(&Err(error.clone()));
                return answer(&mut caller, Err(error));
            }
        }
        if record.state != from {
            wake::hand_over(session, record.state);
        }
        answer(&mut caller, Ok(StepReply::done(from, record.state)));
        if record.state.is_terminal() {
            session
                .cx
                .state()
                .meters
                .run_ended(began.elapsed(), session.outside);
            tracing::info!(session_id = %session.id, state = record.state.as_str(), turns = record.turn_count, "run ended");
            let aborted = record.aborted_at_ms.is_some();
            let state = Some(if aborted { from } else { record.state });
            return session.stop.leave(&Ok(Answer { aborted, state }));
        }
        if record.state == from && !session.stop.is_asked() {
            return;
        }
    }
    session.stop.leave(&Err(Error::Stopped));
    answer(&mut caller, Err(Error::Stopped));
}

/// Loads the record and takes the session; `None` when there is nothing to do, caller and those who asked for a stop having
/// been told.
async fn enter(session: &mut Session, caller: &mut Caller) -> Option<TurnRecord> {
    let mut record = match load(&session.cx, &session.id).await {
        Ok(Some(record)) => record,
        Ok(None) => {
            if let Some((state, _)) = caller {
                let text = format!(
                    "turn::{} invariant: missing session {}",
                    state.as_str(),
                    session.id
                );
                answer(caller, Err(Error::Invalid(text)));
            }
            session.stop.leave(&Ok(Answer {
                aborted: false,
                state: None,
            }));
            return None;
        }
        Err(error) => {
            later::look_again(session);
            session.stop.leave(&Err(error.clone()));
            answer(caller, Err(error));
            return None;
        }
    };
    if caller.as_ref().is_some_and(|(state, _)| *state != record.state) {
        answer(caller, Ok(StepReply::skipped("stale")));
        return None;
    }
    if record.state.is_terminal() {
        if record.agent_end_emitted == Some(false)
            && let Err(error) = session.end_run(&mut record).await
        {
            tracing::warn!(session_id = %session.id, %error, "the end of a run could not be announced");
        }
        session.stop.leave(&Ok(Answer {
            aborted: false,
            state: Some(record.state),
        }));
        return None;
    }
    if let Err(error) = take(session).await {
        later::look_again(session);
        if session.stop.is_asked() {
            let forwarded = abort::forward(session, &record).await;
            session.stop.leave(&forwarded);
        }
        answer(caller, Err(error));
        return None;
    }
    session.published = Some(record.view());
    session.repeats = true;
    Some(record)
}

/// Takes the session. One that others had in hand before may have a wish to stop waiting.
async fn take(session: &mut Session) -> Result<()> {
    let newly = session.take_lease().await?;
    if newly && !session.cx.bus().transport().is_exclusive() {
        abort::look(session).await?;
    }
    Ok(())
}

/// One transition. A passing failure is repeated from the stored record; any other one fails the run.
///
/// # Errors
/// The store did not take the outcome, or an outside caller's step failed for a passing reason.
async fn transition(
    session: &mut Session,
    record: &mut TurnRecord,
    for_caller: bool,
    ending: &impl Fn(),
) -> Result<()> {
    let mut previous = record.clone();
    let cx = session.cx.clone();
    let mut pause = Backoff::of(&cx);
    let outcome = loop {
        match perform(session, record).await {
            Ok(outcome) => break outcome,
            Err(error) if error.is_retryable() && for_caller => {
                *record = previous;
                return Err(error);
            }
            Err(error) => {
                *record = previous.clone();
                session.repeats = true;
                let error = if error.is_retryable() {
                    match as_stored(session, &previous, &mut pause, error).await {
                        Ok(stored) => {
                            *record = stored.clone();
                            previous = stored;
                            continue;
                        }
                        Err(error) => error,
                    }
                } else {
                    error
                };
                // A process that is stopping leaves the step to its next life.
                if cx.shutdown_token().is_cancelled() {
                    return Err(error);
                }
                break failed::fail(session, record, &error).await?;
            }
        }
    };
    if *record == previous {
        return Ok(());
    }
    let outcome = if for_caller {
        outcome
    } else {
        steering_check::end_at_once(session, record, outcome).await
    };
    if record.state.is_terminal() {
        ending();
    }
    // A prompt that is lost is built again, so the model need not wait for it.
    let rebuildable =
        previous.state == TurnState::Provisioning && record.state == TurnState::AssistantStreaming;
    if rebuildable && !for_caller {
        return session.save_behind(record, outcome).await;
    }
    match save(session, record, outcome).await {
        // The transcript does not take a message of this step.
        Err(error) if !error.is_retryable() && !cx.shutdown_token().is_cancelled() => {
            session.published = Some(previous.view());
            *record = previous;
            let outcome = failed::fail(session, record, &error).await?;
            ending();
            save(session, record, outcome).await
        }
        result => result,
    }
}

/// After a pause, the record of a step as it is stored: what a failed attempt has stored on its way, such as a call that was
/// started, has happened and must not happen again.
///
/// # Errors
/// The cause, when no attempt is left.
async fn as_stored(
    session: &Session,
    previous: &TurnRecord,
    pause: &mut Backoff,
    mut cause: Error,
) -> Result<TurnRecord> {
    loop {
        let waited = pause.wait(cause);
        // A stop does not wait for better times, but to be stored itself.
        if previous.aborted_at_ms.is_some() || session.stop.is_asked() {
            waited.await?;
        } else {
            session.stop.unless_asked(waited).await.unwrap_or(Ok(()))?;
        }
        match load(&session.cx, &session.id).await {
            Ok(Some(stored)) if stored.state == previous.state => return Ok(stored),
            // The transition before this one is still on its way to the store.
            Ok(_) => return Ok(previous.clone()),
            Err(error) if error.is_retryable() => cause = error,
            Err(error) => return Err(error),
        }
    }
}

/// Saves, repeating while the store is away: what the step did must not be done again.
async fn save(session: &mut Session, record: &mut TurnRecord, mut outcome: Outcome) -> Result<()> {
    if let Some(under_way) = outcome.under_way.take() {
        under_way.await.unwrap_or(Err(Error::Stopped))?;
    }
    let mut pause = Backoff::of(&session.cx);
    loop {
        match session.save(record, &outcome).await {
            Err(error) if error.is_retryable() => pause.wait(error).await?,
            // A run that has failed is over, also when its transcript cannot take the reason.
            Err(error) if record.state == TurnState::Failed && !outcome.entries.is_empty() => {
                tracing::warn!(session_id = %session.id, %error, "failed run not fully written to the transcript");
                outcome.entries.clear();
            }
            result => return result,
        }
    }
}

/// Runs the step of the record's state, or ends a run that is to stop. A panic is a failure of that step.
async fn perform(session: &mut Session, record: &mut TurnRecord) -> Result<Outcome> {
    let state = record.state;
    let stopping = session.stop.is_asked() || record.aborted_at_ms.is_some();
    let step = async {
        if stopping {
            return aborted::end(session, record, Vec::new()).await;
        }
        match state {
            TurnState::Provisioning => provisioning::run(session, record).await,
            TurnState::AssistantStreaming => assistant_streaming::run(session, record).await,
            TurnState::FunctionExecute => function_execute::run(session, record).await,
            TurnState::FunctionAwaitingApproval => function_awaiting_approval::run(session, record).await,
            TurnState::SteeringCheck => steering_check::run(session, record).await,
            TurnState::Stopped | TurnState::Failed => Ok(Outcome::default()),
        }
    };
    AssertUnwindSafe(step).catch_unwind().await.unwrap_or_else(|_| {
        Err(Error::Panicked {
            function: format!("turn::{}", state.as_str()),
            detail: "the step panicked".into(),
        })
    })
}

/// Ends the run of a session whose actor cannot go on with it.
pub(super) async fn give_up(session: &mut Session, cause: &Error) -> Result<()> {
    match enter(session, &mut None).await {
        Some(mut record) => end_unfinished(session, &mut record, cause).await,
        None => Ok(()),
    }
}

/// Ends a run that nobody goes on with.
pub(super) async fn end_unfinished(
    session: &mut Session,
    record: &mut TurnRecord,
    cause: &Error,
) -> Result<()> {
    session.published = Some(record.view());
    let outcome = failed::fail(session, record, cause).await?;
    save(session, record, outcome).await
}

/// Ends a run: what is parked is cleared, `turn_end` goes out if it has not.
pub(super) fn finish(record: &mut TurnRecord, now_ms: i64) {
    record.awaiting_approval = None;
    record.work = None;
    record.go(TurnState::Stopped, now_ms);
}

/// `turn_end` of the current turn, once.
pub(super) fn turn_end(record: &mut TurnRecord, results: Vec<RawMessage>, now_ms: i64) -> Option<AgentEvent> {
    if std::mem::replace(&mut record.turn_end_emitted, true) {
        return None;
    }
    let message = record.last_assistant.clone().unwrap_or_else(|| {
        RawMessage::from(&AgentMessage::Assistant(AssistantMessage::empty("", "", now_ms)))
    });
    Some(AgentEvent::TurnEnd {
        message,
        function_results: results,
    })
}

fn answer(caller: &mut Caller, outcome: Result<StepReply>) {
    if let Some((_, reply)) = caller.take()
        && reply.send(outcome).is_err()
    {
        tracing::debug!("the caller of a step went away before its answer");
    }
}
