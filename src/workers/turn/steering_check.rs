//! `turn::steering_check`: look at the inboxes, then go on or end the run (contract 02 §7).

use futures::future::join_all;
use serde_json::{Map, Value, json};

use super::Turns;
use super::backoff::Backoff;
use super::record::TurnRecord;
use super::runner;
use super::session::{Outcome, Session};
use super::step::{self, StepReply, StepRequest};
use crate::bus::{Cx, Function, Hold};
use crate::error::{Error, Result};
use crate::model::api::Contract;
use crate::model::api::session::{InboxDrain, InboxItems, InboxPeek, InboxRef};
use crate::model::{AgentEvent, AgentMessage, AssistantMessage, RawMessage, StopReason, TurnState};

const INBOX_MS: u64 = 10_000;
/// In the order in which they are looked at.
const INBOXES: [&str; 2] = ["steering", "followup"];

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
    let taken = if session.repeats {
        taken_before(session, record).await?
    } else {
        Taken::default()
    };
    // Pushes are held back from the look at the inboxes on: a message either joins this run or is there for the next one,
    // and none comes between a look and the drain after it.
    let hold = hold_pushes(session).await;
    let waiting = first_waiting(session).await;
    let nothing_else = record.function_results.is_empty() && taken.messages.is_empty();
    if waiting.is_none() && nothing_else {
        return Ok(end(record, hold, session.cx.now_ms()));
    }
    if is_at_cap(record) {
        return out_of_turns(session, record).await;
    }

    let mut events = Vec::new();
    if waiting.is_some() || !taken.messages.is_empty() {
        events.extend(runner::turn_end(record, Vec::new(), session.cx.now_ms()));
    }
    if let Some((name, items)) = waiting {
        take_in(session, record, name, items, &taken).await?;
    }
    drop(hold);
    record.function_results = Vec::new();
    record.go(TurnState::AssistantStreaming, session.cx.now_ms());
    Ok(Outcome::of(events))
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
    if first_waiting(session).await.is_some() {
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

/// The first inbox that has items. One that cannot be read counts as empty; its items stay where they are.
async fn first_waiting(session: &Session) -> Option<(&'static str, Vec<Value>)> {
    let looks = INBOXES.map(async |name| (name, ask(session, InboxPeek::ID, name).await));
    let inboxes = join_all(looks).await;
    let mut readable = inboxes.into_iter().filter_map(|(name, items)| match items {
        Ok(items) => Some((name, items)),
        Err(error) => {
            tracing::debug!(session_id = %session.id, inbox = name, %error, "inbox counts as empty");
            None
        }
    });
    readable.find(|(_, items)| !items.is_empty())
}

/// The items that an inbox answers with. A passing failure is repeated, unless the run is to stop.
async fn ask(session: &Session, function: &str, name: &str) -> Result<Vec<Value>> {
    let request = json!(InboxRef {
        name: name.to_owned(),
        session_id: session.id.clone()
    });
    let mut pause = Backoff::of(&session.cx);
    let reply = loop {
        match session.invoke(function, request.clone(), INBOX_MS).await {
            Err(error) if error.is_retryable() => {
                let waited = session.stop.unless_asked(pause.wait(error)).await;
                waited.unwrap_or(Err(Error::Stopped))?;
            }
            outcome => break outcome?,
        }
    };
    let items = serde_json::from_value::<InboxItems>(reply).unwrap_or_default();
    Ok(items.items)
}

/// The inbox messages that this very step has appended already, before it was cut off.
async fn taken_before(session: &Session, record: &TurnRecord) -> Result<Taken> {
    let (rows, _) = session.transcript().await?;
    let prefix = record.entry_id("in-");
    let mut taken = Taken::default();
    for row in rows.messages {
        let index = row.entry_id.strip_prefix(&prefix).map(str::parse::<usize>);
        if let Some(Ok(index)) = index {
            taken.next = taken.next.max(index + 1);
            taken.messages.push(row.message);
        }
    }
    Ok(taken)
}

/// Inbox messages of this step that are in the transcript.
#[derive(Default)]
struct Taken {
    messages: Vec<RawMessage>,
    /// Number of the first entry id that is free for another one.
    next: usize,
}

/// Appends the items, then takes them out of the inbox, then appends what came in between (from others than this
/// process). Deterministic entry ids make a repetition harmless: when the inbox still begins with what was taken before,
/// it was not drained; when it does not, it was, and what it holds now is new.
async fn take_in(
    session: &Session,
    record: &TurnRecord,
    name: &str,
    peeked: Vec<Value>,
    taken: &Taken,
) -> Result<()> {
    let undrained = begins_with(&peeked, &taken.messages);
    if !undrained && name != INBOXES[0] {
        // What was taken is answered first, as if nothing had been cut off.
        return Ok(());
    }
    let offset = if undrained { 0 } else { taken.next };
    let seen = peeked.len();
    append(session, record, peeked, offset).await?;
    // One that fails fails the step: what was appended and is not taken out would be appended once more a turn later.
    let drained = ask(session, InboxDrain::ID, name).await?;
    append(
        session,
        record,
        drained.into_iter().skip(seen).collect(),
        offset + seen,
    )
    .await
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

async fn append(session: &Session, record: &TurnRecord, items: Vec<Value>, offset: usize) -> Result<()> {
    for (index, item) in items.into_iter().enumerate() {
        match as_message(item) {
            Ok(message) => {
                let entry_id = record.entry_id(&format!("in-{}", offset + index));
                session
                    .append_insisting(message.with_timestamp(session.cx.now_ms()), entry_id)
                    .await?;
            }
            Err(why) => tracing::warn!(session_id = %session.id, why, "inbox item is not a message"),
        }
    }
    Ok(())
}

async fn hold_pushes(session: &Session) -> Hold {
    session
        .cx
        .bus()
        .hold(&crate::model::api::session::inbox_hold(&session.id))
        .await
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
async fn out_of_turns(session: &Session, record: &mut TurnRecord) -> Result<Outcome> {
    let now = session.cx.now_ms();
    let cap = record
        .max_turns
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let text = format!("loop stopped: max_turns ({cap}) reached");
    let message = AssistantMessage::synthetic(StopReason::End, Some(&text), now);
    let message = RawMessage::from(&AgentMessage::Assistant(message));
    session
        .append_insisting(message.clone(), record.entry_id("cap"))
        .await?;
    record.last_assistant = Some(message.clone());
    let mut events = vec![AgentEvent::MessageComplete {
        message,
        body_streamed: Some(false),
    }];
    events.extend(runner::turn_end(record, Vec::new(), now));
    runner::finish(record, now);
    Ok(Outcome::of(events))
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
