//! `turn::function_execute`: gate the calls of a batch, run those that may, park the others (contract 02 §6.2, §6.4).

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::Arc;
use std::time::Instant;

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::announcer::Announcer;
use super::commit::Outcome;
use super::flight::{self, Flight};
use super::gate::{self, Gate};
use super::record::TurnRecord;
use super::runner;
use super::session::Session;
use super::step::{self, StepReply, StepRequest};
use super::transcript::NewEntry;
use super::work::{ExecutedCall, PreparedCall, Work};
use super::{Turns, aborted, dispatch, parked};
use crate::bus::{Cx, Function};
use crate::error::{Error, Result};
use crate::model::api::approval::Settings;
use crate::model::{AgentEvent, AgentMessage, AwaitingCall, CallId, FunctionCall, FunctionResult, TurnState};
use crate::rules::IdPattern;

const INFO_MS: u64 = 5_000;

/// `turn::function_execute`.
#[derive(Debug)]
pub(super) struct FunctionExecute;

impl Function for FunctionExecute {
    const ID: &'static str = "turn::function_execute";
    const DESCRIPTION: &'static str = "Run one durable FSM transition for session in state function_execute: dispatch prepared calls and finalize results.";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    type State = Turns;
    type Request = StepRequest;
    type Response = StepReply;

    async fn call(cx: &Cx<Turns>, request: StepRequest) -> Result<StepReply> {
        step::run::<Self>(cx, request.session_id, TurnState::FunctionExecute).await
    }
}

pub(super) async fn run(session: &mut Session, record: &mut TurnRecord) -> Result<Outcome> {
    let stop = Arc::clone(&session.stop);
    let mut flight = Flight::new(session);
    let before = record.clone();
    let Some(planned) = stop.unless_asked(plan(session, record, &mut flight)).await else {
        // Results of a plan that was cut short have not been told.
        *record = before;
        return aborted::end(session, record, Vec::new()).await;
    };
    let (mut announcer, parked) = planned?;
    let mut events = announce(&mut announcer, record)?;
    while !flight.is_idle() {
        flight
            .launch(session, record, Vec::new(), std::mem::take(&mut events))
            .await?;
        let began = Instant::now();
        let landed = stop.unless_asked(flight.landed()).await;
        session.spent_outside(began);
        let Some(landed) = landed else {
            flight.stop(session, record).await?;
            return aborted::end(session, record, Vec::new()).await;
        };
        let (_, work, _) = record.batch()?;
        // Those that ended meanwhile are stored with it.
        for landed in iter::once(landed).chain(iter::from_fn(|| flight.landed_already())) {
            work.executed.insert(landed.call.id.clone(), landed);
        }
        events = announce(&mut announcer, record)?;
    }

    let (_, _, awaiting) = record.batch()?;
    awaiting.extend(parked);
    if awaiting.is_empty() {
        return finalize(record, events, session.cx.now_ms());
    }
    record.go(TurnState::FunctionAwaitingApproval, session.cx.now_ms());
    Ok(Outcome::of(events))
}

/// Results that an earlier life wrote to the transcript and died before it stored the record: those calls have ended.
pub(super) async fn stored_results(
    session: &Session,
    record: &mut TurnRecord,
) -> Result<BTreeMap<CallId, ExecutedCall>> {
    let mut stored = BTreeMap::new();
    let (_, work, _) = record.batch()?;
    let calls = work.prepared.iter().map(PreparedCall::call);
    let unknown: Vec<FunctionCall> = calls
        .filter(|call| work.started.contains_key(&call.id) && !work.executed.contains_key(&call.id))
        .cloned()
        .collect();
    if unknown.is_empty() {
        return Ok(stored);
    }
    let (rows, _) = session.transcript().await?;
    for call in unknown {
        let entry = record.result_id(&call.id);
        let row = rows.messages.iter().find(|row| *row.entry_id == *entry);
        if let Some(AgentMessage::FunctionResult(message)) = row.and_then(|row| row.message.typed()) {
            let result = FunctionResult {
                content: message.content,
                details: message.details,
                terminate: false,
            };
            let mut executed = flight::executed(call, result, 0);
            executed.is_error = message.is_error;
            stored.insert(executed.call.id.clone(), executed);
        }
    }
    Ok(stored)
}

/// Decides each call that has neither a result nor a place among the parked ones.
async fn plan(
    session: &Session,
    record: &mut TurnRecord,
    flight: &mut Flight,
) -> Result<(Announcer, Vec<AwaitingCall>)> {
    let mut stored = stored_results(session, record).await?;
    let place = record.place();
    let (_, work, awaiting) = record.batch()?;
    let announced = work
        .announced
        .get_or_insert_with(|| work.executed.keys().cloned().collect())
        .clone();
    let is_parked = |id: &CallId| awaiting.iter().any(|parked| parked.function_call_id == *id);
    let is_settled = |id: &CallId| is_parked(id) || work.executed.contains_key(id) || stored.contains_key(id);
    let mut fates = decide_all(session, work, &announced, is_settled).await?;
    let mut announcer = Announcer::default();
    let mut parked = Vec::new();
    for prepared in &work.prepared {
        let call = prepared.call();
        if is_parked(&call.id) {
            continue;
        }
        let started = announced.contains(&call.id);
        if work.executed.contains_key(&call.id) {
            if !started {
                // It ended while the pair before it was still open.
                announcer.add(call.clone(), false, false);
            }
            continue;
        }
        let fate = fates.remove(&call.id);
        announcer.add(call.clone(), matches!(fate, Some(Fate::Waits(_))), started);
        match fate {
            Some(Fate::Runs) => flight.queue(call.clone()),
            Some(Fate::Waits(why)) => parked.push(parked::park(&place, call, why)),
            Some(Fate::Ends(result)) => {
                let executed = flight::failed(call.clone(), result);
                work.executed.insert(call.id.clone(), executed);
            }
            None => work.executed.extend(stored.remove_entry(&call.id)),
        }
    }
    Ok((announcer, parked))
}

/// What becomes of a call.
enum Fate {
    Runs,
    /// A person must decide, for this reason where there is one.
    Waits(Option<String>),
    Ends(FunctionResult),
}

/// Decides the calls that are not settled, as many at a time as may run: none waits for the answer about another one.
async fn decide_all(
    session: &Session,
    work: &Work,
    announced: &BTreeSet<CallId>,
    is_settled: impl Fn(&CallId) -> bool,
) -> Result<BTreeMap<CallId, Fate>> {
    let settings = OnceCell::new();
    let open = work
        .prepared
        .iter()
        .filter(|prepared| !is_settled(&prepared.call().id));
    let decisions: Vec<_> = open
        .map(|prepared| {
            let (id, settings) = (&prepared.call().id, &settings);
            let (may_have_run, shown) = (work.started.contains_key(id), announced.contains(id));
            async move {
                let fate = decide(session, prepared, may_have_run, shown, settings).await?;
                Ok((id.clone(), fate))
            }
            .boxed()
        })
        .collect();
    let at_once = session.cx.config().turn.parallel_calls;
    stream::iter(decisions).buffered(at_once).try_collect().await
}

/// `may_have_run`: an earlier life dispatched it. `shown`: its start event went out before.
async fn decide(
    session: &Session,
    prepared: &PreparedCall,
    may_have_run: bool,
    shown: bool,
    settings: &OnceCell<Settings>,
) -> Result<Fate> {
    let call = prepared.call();
    if let PreparedCall::Synthetic { result, .. } = prepared {
        return Ok(Fate::Ends(result.clone()));
    }
    if may_have_run && !is_retry_safe(session, call).await {
        return Ok(Fate::Ends(flight::interrupted(call)));
    }
    if matches!(prepared, PreparedCall::PreApproved { .. }) {
        return Ok(Fate::Runs);
    }
    Ok(match gate::consult(session, call, settings).await {
        Gate::Allow => Fate::Runs,
        Gate::Deny(result) => Fate::Ends(result),
        Gate::Pending(why) => {
            // A decision that came after the start event was shown is for this call, not for an earlier one.
            if !shown {
                gate::forget_stale_decision(session, call).await?;
            }
            Fate::Waits(why)
        }
    })
}

/// The events that may go out now; the record remembers them, to be saved in the same commit.
fn announce(announcer: &mut Announcer, record: &mut TurnRecord) -> Result<Vec<AgentEvent>> {
    let (_, work, _) = record.batch()?;
    let events = announcer.collect(&work.executed);
    let starts = events.iter().filter_map(|event| match event {
        AgentEvent::FunctionExecutionStart { function_call_id, .. } => Some(function_call_id.clone()),
        _ => None,
    });
    work.announced.get_or_insert_default().extend(starts);
    Ok(events)
}

/// Whether a call that may have run already can be run again: its function says so, or the operator does.
pub(super) async fn is_retry_safe(session: &Session, call: &FunctionCall) -> bool {
    let listed = &session.cx.config().turn.retry_safe;
    if listed
        .iter()
        .any(|pattern| IdPattern::new(pattern).matches(&call.function_id))
    {
        return true;
    }
    let request = json!({ "function_id": call.function_id });
    let ask = || session.invoke("engine::functions::info", request.clone(), INFO_MS);
    let Ok(info) = dispatch::while_booting(session.cx.state(), |_| true, ask).await else {
        return false;
    };
    matches!(
        info.pointer("/metadata/retry").and_then(Value::as_str),
        Some("pure" | "idempotent")
    )
}

/// Ends a batch: results to the transcript in call order, one `turn_end`, and on.
pub(super) fn finalize(record: &mut TurnRecord, mut events: Vec<AgentEvent>, now: i64) -> Result<Outcome> {
    let (work, entries) = take_results(record, now)?;
    events.extend(runner::turn_end(record, record.function_results.clone(), now));
    if work.all_terminate() {
        runner::finish(record, now);
    } else {
        record.awaiting_approval = Some(Vec::new());
        record.go(TurnState::SteeringCheck, now);
    }
    Ok(Outcome {
        entries,
        ..Outcome::of(events)
    })
}

/// Takes the work of a batch in which every call has a result: they are for the transcript, in call order.
pub(super) fn take_results(record: &mut TurnRecord, now: i64) -> Result<(Work, Vec<NewEntry>)> {
    let work = record
        .work
        .take()
        .ok_or_else(|| Error::invalid("record has no work"))?;
    let mut entries = Vec::with_capacity(work.prepared.len());
    for prepared in &work.prepared {
        let id = &prepared.call().id;
        let executed = work
            .executed
            .get(id)
            .ok_or_else(|| Error::invalid(format!("call {id} has no result")))?;
        entries.push(executed.entry(record, now));
    }
    record.function_results = entries.iter().map(|entry| entry.message.clone()).collect();
    Ok((work, entries))
}
