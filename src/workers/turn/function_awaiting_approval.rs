//! `turn::function_awaiting_approval`: settle each parked call as its decision arrives (contract 02 §6.3).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::commit::Outcome;
use super::flight::{self, Flight};
use super::function_execute::{finalize, is_retry_safe};
use super::parked::Parked;
use super::record::{APPROVALS, Decision, DecisionKind, TurnRecord};
use super::session::Session;
use super::step::{self, StepReply, StepRequest};
use super::work::ExecutedCall;
use super::{Turns, aborted, gate};
use crate::bus::{Cx, Function, Write};
use crate::error::{Error, Result};
use crate::model::api::approval::Settings;
use crate::model::{AgentEvent, FunctionResult, TurnState};

/// Pause before decisions that could not be read are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// `turn::function_awaiting_approval`.
#[derive(Debug)]
pub(super) struct FunctionAwaitingApproval;

impl Function for FunctionAwaitingApproval {
    const ID: &'static str = "turn::function_awaiting_approval";
    const DESCRIPTION: &'static str = "Run one durable FSM transition for session in state function_awaiting_approval: execute each call as its approval decision arrives.";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    type State = Turns;
    type Request = StepRequest;
    type Response = StepReply;

    async fn call(cx: &Cx<Turns>, request: StepRequest) -> Result<StepReply> {
        step::run::<Self>(cx, request.session_id, TurnState::FunctionAwaitingApproval).await
    }
}

pub(super) async fn run(session: &mut Session, record: &mut TurnRecord) -> Result<Outcome> {
    record.batch()?;
    let stop = Arc::clone(&session.stop);
    let mut flight = Flight::new(session);
    loop {
        // An allowed call runs on while later decisions are looked at: no call holds back another one.
        let Some(settled) = stop.unless_asked(scan(session, record, &mut flight)).await else {
            flight.stop(session, record).await?;
            return aborted::end(session, record, Vec::new()).await;
        };
        let (settled, again) = match settled {
            Ok(settled) => (settled, None),
            // The calls under way have their results to come, so what cannot be read now is looked at again.
            Err(error) if may_be_read_later(&error) && !flight.is_idle() => {
                tracing::warn!(session_id = %session.id, %error, "decisions not read");
                (Vec::new(), Some(LOOK_AGAIN))
            }
            Err(error) => return Err(error),
        };
        if flight.is_idle() && settled.is_empty() {
            break;
        }
        let landed = land(session, record, &mut flight, settled, again).await?;
        if let Some(executed) = landed {
            settle(session, record, &mut flight, vec![executed]).await?;
        }
    }

    let (_, work, awaiting) = record.batch()?;
    if !awaiting.is_empty() {
        return Ok(Outcome::default());
    }
    if work.is_complete() {
        return finalize(record, Vec::new(), session.cx.now_ms());
    }
    record.go(TurnState::FunctionExecute, session.cx.now_ms());
    Ok(Outcome::default())
}

/// Looks at every parked call: those with a decision to run go to the flight, those with a result are answered. While the
/// flight has no room an allowed call stays parked, so that its decision may still be taken back.
async fn scan(session: &Session, record: &mut TurnRecord, flight: &mut Flight) -> Result<Vec<ExecutedCall>> {
    let place = record.place();
    let (_, work, awaiting) = record.batch()?;
    awaiting.retain(|entry| !work.executed.contains_key(&entry.function_call_id));
    let (entries, started) = (awaiting.clone(), work.started.clone());
    let mut settled = Vec::new();
    let mut snapshot = None;
    for entry in entries {
        let parked = Parked::read(&place, &entry);
        let call = parked.call.clone();
        if flight.has(&call.id) {
            continue;
        }
        let result = if started.contains_key(&call.id) && !is_retry_safe(session, &call).await {
            flight::interrupted(&call)
        } else if parked.changed {
            tracing::warn!(session_id = %session.id, call = %call.id, "a parked call was changed, it does not run");
            parked.call_changed()
        } else {
            match decide(session, &parked, &mut snapshot).await? {
                Fate::Waits => continue,
                Fate::Runs if !flight.has_room() => continue,
                Fate::Runs => {
                    flight.queue(call);
                    continue;
                }
                Fate::Ends(result) => result,
            }
        };
        settled.push(flight::executed(call, result, 0));
    }
    Ok(settled)
}

/// Stores what was settled without running, dispatches what may run, and waits for the next result or the next reason to
/// look again, which after a failed look is the end of a pause.
async fn land(
    session: &mut Session,
    record: &mut TurnRecord,
    flight: &mut Flight,
    settled: Vec<ExecutedCall>,
    again: Option<Duration>,
) -> Result<Option<ExecutedCall>> {
    if settled.is_empty() {
        flight.launch(session, record, Vec::new(), Vec::new()).await?;
    } else {
        settle(session, record, flight, settled).await?;
        if flight.is_idle() {
            return Ok(None);
        }
    }
    let (recheck, stop) = (Arc::clone(&session.recheck), session.stop.token());
    let began = Instant::now();
    let landed = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        executed = flight.landed() => Some(executed),
        () = recheck.notified() => None,
        () = pause(again) => None,
    };
    session.spent_outside(began);
    Ok(landed)
}

fn may_be_read_later(error: &Error) -> bool {
    error.is_retryable() && *error != Error::Stopped
}

async fn pause(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Takes calls off the parked list: their results, their end events, their decisions used up, the shorter list shown.
async fn settle(
    session: &mut Session,
    record: &mut TurnRecord,
    flight: &mut Flight,
    settled: Vec<ExecutedCall>,
) -> Result<()> {
    let events: Vec<AgentEvent> = settled.iter().map(flight::end_event).collect();
    let writes: Vec<Write> = settled
        .iter()
        .map(|executed| gate::used_decision(session, &executed.call.id))
        .collect();
    let (_, work, awaiting) = record.batch()?;
    awaiting.retain(|entry| {
        settled
            .iter()
            .all(|executed| executed.call.id != entry.function_call_id)
    });
    work.executed.extend(
        settled
            .into_iter()
            .map(|executed| (executed.call.id.clone(), executed)),
    );
    flight.launch(session, record, writes, events).await
}

/// What becomes of a parked call now.
enum Fate {
    Waits,
    Runs,
    Ends(FunctionResult),
}

/// The decision on a parked call: a person's, else what the session's settings say by now. Neither lets a call through that
/// has come to be on the floor.
async fn decide(session: &Session, parked: &Parked, snapshot: &mut Option<Settings>) -> Result<Fate> {
    let call = &parked.call;
    let stored = session
        .cx
        .scope(APPROVALS)
        .get(&session.approval_key(&call.id))
        .await?;
    let meant = Decision::read(stored).filter(|decision| {
        let meant = parked.is_meant_by(decision);
        if !meant {
            tracing::warn!(session_id = %session.id, call = %call.id, "a decision for another call is not used");
        }
        meant
    });
    let floor = gate::floor(session).map_err(Error::Unavailable)?;
    let Some(decision) = meant else {
        let settings = match snapshot {
            Some(settings) => settings,
            None => snapshot.insert(gate::settings(session).await),
        };
        let released = gate::released(settings, call, &floor);
        return Ok(if released { Fate::Runs } else { Fate::Waits });
    };
    if decision.kind != DecisionKind::Allow {
        return Ok(Fate::Ends(parked.refused(&decision)));
    }
    Ok(gate::forbidden(call, &floor).map_or(Fate::Runs, Fate::Ends))
}
