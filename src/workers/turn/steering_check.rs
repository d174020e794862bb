//! `turn::steering_check`: look at the inboxes, then go on or end the run (contract 02 §7).

use futures::future::join_all;
use serde_json::{Map, Value, json};

use super::Turns;
use super::backoff::Backoff;
use super::commit::Outcome;
use super::record::TurnRecord;
use super::runner;
use super::session::Session;
use super::step::{self, StepReply, StepRequest};
use super::transcript::{INBOX_MS, NewEntry};
use crate::bus::{Cx, Function, Hold};
use crate::error::{Error, Result};
use crate::model::api::session::{InboxPeek, InboxRef, RUN_INBOXES, inbox_hold};
use crate::model::{AgentEvent, AgentMessage, AssistantMessage, RawMessage, StopReason, TurnState};

/// `turn::steering_check`.
#[derive(Debug)]
pub(super) struct SteeringCheck;

impl Function for SteeringCheck {
    const ID: &'static str = "turn::steering_check";
    const DESCRIPTION: &'static str =
        "Run one durable FSM transition for session in state steering_check: drain inboxes and route onward.";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    type State = Turns;
    type Request = StepRequest;
    type Response = StepReply;

    async fn call(cx: &Cx<Turns>, request: StepRequest) -> Result<StepReply> {
        step::run::<Self>(cx, request.session_id, TurnState::SteeringCheck).await
    }
}

pub(super) async fn run(session: &mut Session, record: &mut TurnRecord) -> Result<Outcome> {
    // Pushes are held back from the look at the inboxes on: a message either joins this run or is there for the next one,
    // and none comes between a look and the drain after it.
    let hold = hold_pushes(session).await;
    // What was taken before is answered first, as if nothing had been cut off.
    let mut taken = finish_taking(session, record).await?;
    let mut waiting = None;
    for (name, items) in filled(session).await {
        if taken {
            break;
        }
        if items.iter().any(is_message) {
            waiting = Some((name, items));
            break;
        }
        taken = discard(session, record, name, items).await?;
    }
    if waiting.is_none() && record.function_results.is_empty() && !taken {
        return Ok(end(record, hold, session.cx.now_ms()));
    }
    if is_at_cap(record) {
        return Ok(out_of_turns(session, record));
    }

    let mut outcome = Outcome::default();
    if waiting.is_some() || taken {
        outcome
            .before
            .extend(runner::turn_end(record, Vec::new(), session.cx.now_ms()));
    }
    if let Some((name, items)) = waiting {
        if session.cx.bus().transport().is_exclusive() {
            outcome.drain = Some(name);
            outcome.hold = Some(hold);
        } else {
            take(session, record, name, items).await?;
        }
    }
    record.function_results = Vec::new();
    record.go(TurnState::AssistantStreaming, session.cx.now_ms());
    Ok(outcome)
}

/// When a model's answer leads here and nothing waits, the run ends with the same commit that stores the answer. Else the
/// outcome stays as it is, and this step comes next.
pub(super) async fn end_at_once(session: &mut Session, record: &mut TurnRecord, outcome: Outcome) -> Outcome {
    let is_next = record.state == TurnState::SteeringCheck && record.function_results.is_empty();
    // A queue that gets every hand-over gets this one too.
    let hands_over = session.cx.config().turn.wake_queue.is_some();
    if !is_next || hands_over {
        return outcome;
    }
    let hold = hold_pushes(session).await;
    if !filled(session).await.is_empty() {
        return outcome;
    }
    session.cx.state().meters.transition(record.state);
    let mut joined = outcome;
    session.pass_through(record, &mut joined);
    let end = end(record, hold, session.cx.now_ms());
    joined.before.extend(end.before);
    joined.hold = end.hold;
    joined
}

/// The inboxes that hold something. One that cannot be read counts as empty; its items stay where they are.
async fn filled(session: &Session) -> Vec<(&'static str, Vec<Value>)> {
    let looks = RUN_INBOXES.map(async |name| (name, peek(session, name).await));
    let inboxes = join_all(looks).await.into_iter();
    let readable = inboxes.filter_map(|(name, items)| match items {
        Ok(items) => Some((name, items)),
        Err(error) => {
            tracing::debug!(session_id = %session.id, inbox = name, %error, "inbox counts as empty");
            None
        }
    });
    readable.filter(|(_, items)| !items.is_empty()).collect()
}

/// Empties an inbox that holds no message: nobody could answer what is in it (contract 02 §7). True when a message came in
/// between, from others than this process, and was taken in.
async fn discard(session: &Session, record: &TurnRecord, name: &str, items: Vec<Value>) -> Result<bool> {
    tracing::warn!(session_id = %session.id, inbox = name, items = items.len(), "an inbox without any message is emptied");
    let drained = session.drain(name, None).await?;
    let late: Vec<Value> = drained.into_iter().skip(items.len()).collect();
    let taken = late.iter().any(is_message);
    append(session, record, late, items.len()).await?;
    Ok(taken)
}

/// The items of an inbox. A passing failure is repeated, unless the run is to stop.
async fn peek(session: &Session, inbox: &str) -> Result<Vec<Value>> {
    let request = InboxRef {
        name: inbox.to_owned(),
        session_id: session.id.clone(),
    };
    let mut pause = Backoff::of(&session.cx);
    loop {
        match session.call::<InboxPeek>(request.clone(), INBOX_MS).await {
            Err(error) if error.is_retryable() => {
                let waited = session.stop.unless_asked(pause.wait(error)).await;
                waited.unwrap_or(Err(Error::Stopped))?;
            }
            reply => return reply.map(|reply| reply.items),
        }
    }
}

/// Takes the items in where no commit can do all of it at once: they are appended, then taken out of the inbox, then what
/// came in between (from others than this process) is appended. One that fails fails the step, which is repeated.
async fn take(session: &Session, record: &TurnRecord, name: &str, peeked: Vec<Value>) -> Result<()> {
    let seen = peeked.len();
    append(session, record, peeked, 0).await?;
    let drained = session.drain(name, None).await?;
    append(session, record, drained.into_iter().skip(seen).collect(), seen).await
}

/// Ends what a [`take`] of this very step has begun, before it was cut off; true when there was one. An inbox that still
/// begins with what was appended was not emptied.
pub(super) async fn finish_taking(session: &Session, record: &TurnRecord) -> Result<bool> {
    let may_be_cut = session.repeats && record.state == TurnState::SteeringCheck;
    if !may_be_cut || session.cx.bus().transport().is_exclusive() {
        return Ok(false);
    }
    let taken = taken_before(session, record).await?;
    if taken.is_empty() {
        return Ok(false);
    }
    for name in RUN_INBOXES {
        let items = peek(session, name).await?;
        if begins_with(&items, &taken) {
            take(session, record, name, items).await?;
            break;
        }
    }
    Ok(true)
}

/// The inbox messages that this step has appended already.
async fn taken_before(session: &Session, record: &TurnRecord) -> Result<Vec<RawMessage>> {
    let (rows, _) = session.transcript().await?;
    let prefix = record.entry_id("in-");
    let rows = rows.messages.into_iter();
    let taken = rows.filter(|row| row.entry_id.starts_with(&prefix));
    Ok(taken.map(|row| row.message).collect())
}

fn begins_with(items: &[Value], taken: &[RawMessage]) -> bool {
    let mut messages = items.iter().filter_map(|item| as_message(item.clone()).ok());
    let mut next = || messages.next().map(|message| without_timestamp(&message));
    taken.iter().all(|taken| next() == Some(without_timestamp(taken)))
}

fn without_timestamp(message: &RawMessage) -> Map<String, Value> {
    let mut object = message.object().clone();
    object.remove("timestamp");
    object
}

fn as_message(item: Value) -> std::result::Result<RawMessage, String> {
    match item {
        Value::String(text) => RawMessage::new(json!({ "role": "user", "content": text })),
        item => RawMessage::new(item),
    }
}

fn is_message(item: &Value) -> bool {
    as_message(item.clone()).is_ok()
}

async fn append(session: &Session, record: &TurnRecord, items: Vec<Value>, offset: usize) -> Result<()> {
    for entry in entries(record, items, offset, session.cx.now_ms()) {
        session.append_insisting(entry).await?;
    }
    Ok(())
}

/// Inbox items as messages of this turn, numbered from `offset`.
pub(super) fn entries(
    record: &TurnRecord,
    items: Vec<Value>,
    offset: usize,
    now_ms: i64,
) -> impl Iterator<Item = NewEntry> {
    items.into_iter().zip(offset..).filter_map(move |(item, index)| {
        let message = as_message(item)
            .inspect_err(
                |why| tracing::warn!(session_id = %record.session_id, why, "inbox item is not a message"),
            )
            .ok()?;
        Some(NewEntry::new(
            message.with_timestamp(now_ms),
            record.entry_id(&format!("in-{index}")),
        ))
    })
}

async fn hold_pushes(session: &Session) -> Hold {
    session.cx.bus().hold(&inbox_hold(&session.id)).await
}

#[expect(clippy::cast_precision_loss, reason = "turns are counted one by one")]
fn is_at_cap(record: &TurnRecord) -> bool {
    let cap = record.max_turns.as_ref().and_then(serde_json::Number::as_f64);
    cap.is_some_and(|cap| record.turn_count as f64 >= cap)
}

/// Nothing is left to do.
fn end(record: &mut TurnRecord, hold: Hold, now: i64) -> Outcome {
    let events = runner::turn_end(record, Vec::new(), now).into_iter().collect();
    runner::finish(record, now);
    Outcome {
        hold: Some(hold),
        ..Outcome::of(events)
    }
}

/// The cap on turns is reached; the transcript says so. What waits in the inboxes stays for the next run.
fn out_of_turns(session: &Session, record: &mut TurnRecord) -> Outcome {
    let now = session.cx.now_ms();
    let cap = record
        .max_turns
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let text = format!("loop stopped: max_turns ({cap}) reached");
    let message = AssistantMessage::synthetic(StopReason::End, Some(&text), now);
    let message = RawMessage::from(&AgentMessage::Assistant(message));
    let entry = NewEntry::new(message.clone(), record.entry_id("cap"));
    record.last_assistant = Some(message.clone());
    let mut events = vec![AgentEvent::MessageComplete {
        message,
        body_streamed: Some(false),
    }];
    events.extend(runner::turn_end(record, Vec::new(), now));
    runner::finish(record, now);
    Outcome {
        entries: vec![entry],
        ..Outcome::of(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> RawMessage {
        as_message(json!(text)).unwrap().with_timestamp(7)
    }

    #[test]
    fn an_inbox_that_was_not_drained_begins_with_what_was_taken() {
        let inbox = [json!(42), json!("a"), json!("b")];
        assert!(begins_with(&inbox, &[]));
        assert!(begins_with(&inbox, &[message("a")]));
        assert!(begins_with(&inbox, &[message("a"), message("b")]));
        assert!(!begins_with(&inbox, &[message("b")]));
        assert!(!begins_with(&inbox, &[message("a"), message("b"), message("c")]));
        assert!(!begins_with(&[], &[message("a")]));
    }
}
