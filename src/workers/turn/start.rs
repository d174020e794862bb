//! `run::start`: begin a durable run and return at once (contract 02 §3).

use std::sync::Arc;

use tokio::sync::oneshot;

use super::actor::Input;
use super::record::TurnRecord;
use super::request::RunRequest;
use super::session::{Outcome, Session, load};
use super::transcript::NewEntry;
use super::{Turns, context, later, runner, wake};
use crate::bus::{Batch, CallContext, CallOptions, Cx, Function};
use crate::error::{Error, Result};
use crate::model::api::Contract;
use crate::model::api::run::{self, StartRequest, StartResponse};
use crate::model::api::session::{Ensure, EnsureRequest};
use crate::model::text::MAX_ID_BYTES;
use crate::model::{SessionId, TurnState};

const ENSURE_MS: u64 = 10_000;
/// A run that has not moved for so long, and whose lease nobody holds, may be replaced.
const STALE_MS: i64 = 30 * 60 * 1000;

/// Told to whoever asks for a run while the process is stopping.
const STOPPING: &str = "the program is stopping; start the run again once it is back";

/// `run::start`.
#[derive(Debug)]
pub(super) struct Start;

impl Function for Start {
    const ID: &'static str = run::Start::ID;
    const DESCRIPTION: &'static str = "Start a durable agent session and return immediately.";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    type State = Turns;
    type Request = StartRequest;
    type Response = StartResponse;

    async fn call(cx: &Cx<Turns>, request: StartRequest) -> Result<StartResponse> {
        check_session_id(&request.session_id)?;
        check_names(&request)?;
        let session = request.session_id.clone();
        let (reply, answer) = oneshot::channel();
        cx.state().actors.submit(
            cx,
            &session,
            Input::Start {
                request: Box::new(request),
                reply,
            },
        );
        answer.await.unwrap_or(Err(Error::Stopped))
    }
}

/// Session ids become part of state keys that use `/` as their separator.
pub(super) fn check_session_id(id: &str) -> Result<()> {
    let problem = match id {
        "" => return Err(Error::missing_string("session_id")),
        id if id.len() > 256 => "is longer than 256 bytes",
        id if id.contains('/') => "must not contain \"/\"",
        id if id.chars().any(char::is_control) => "must not contain control characters",
        _ => return Ok(()),
    };
    Err(Error::invalid(format!("session_id {problem}")))
}

/// Names that are kept with the run must have the size of names.
fn check_names(request: &StartRequest) -> Result<()> {
    let names = [
        ("provider", Some(request.provider.as_str())),
        ("model", Some(request.model.as_str())),
        ("message_id", request.message_id.as_deref()),
        ("budget_id", request.budget_id.as_deref()),
    ];
    match names
        .into_iter()
        .find(|(_, name)| name.is_some_and(|name| name.len() > MAX_ID_BYTES))
    {
        Some((member, _)) => Err(Error::invalid(format!(
            "{member} is longer than {MAX_ID_BYTES} bytes"
        ))),
        None => Ok(()),
    }
}

/// The answer for a session whose run is not over.
pub(super) fn busy(session_id: SessionId) -> StartResponse {
    StartResponse {
        session_id,
        started: false,
        reason: Some("session_busy".into()),
        extra: serde_json::Map::new(),
    }
}

/// What became of a `run::start`.
pub(super) struct Begun {
    pub(super) response: StartResponse,
    /// The record of the run, when there is one.
    pub(super) record: Option<TurnRecord>,
}

/// Accepts a run, or says that the session is busy. Accepted means stored.
pub(super) async fn begin(session: &mut Session, request: StartRequest) -> Result<Begun> {
    // It would be stored, and rest until the next start of the program.
    if session.cx.shutdown_token().is_cancelled() {
        return Err(Error::Transient(STOPPING.into()));
    }
    // What one message needs is asked for at once, in one batch; for several the transcript is read first.
    let batch = (request.messages.len() == 1).then(Batch::default);
    let looked_up = look_up(session, batch.as_ref()).await;
    let Ok(Before::Free(previous)) = looked_up else {
        if let Some(batch) = batch {
            batch.settle(false);
        }
        if let Before::Unended(mut record) = looked_up? {
            end(session, &mut record).await?;
            return Box::pin(begin(session, request)).await;
        }
        return Ok(Begun {
            response: busy(request.session_id),
            record: None,
        });
    };
    trace_message(session, &request);
    if batch.is_none() {
        ensure(&session.cx, &session.id, None).await?;
    }
    let run_request = session.set_request(RunRequest::from_start(&request))?;
    let entries = new_entries(session, &request).await?;

    let config = session.cx.config();
    let max_turns = request
        .max_turns
        .or_else(|| config.turn.default_max_turns.map(Into::into));
    let (run_id, now) = (session.cx.uuid(), session.cx.now_ms());
    let mut record = TurnRecord::new(session.id.clone(), max_turns, run_id, now);
    record.emitter = previous.as_ref().and_then(|record| record.emitter.clone());
    let outcome = Outcome {
        writes: vec![run_request],
        entries,
        batch,
        ..Outcome::default()
    };
    session.published = previous.as_ref().map(|record| record.view());
    session.save(&mut record, &outcome).await?;
    wake::hand_over(session, record.state);
    Ok(Begun {
        response: StartResponse {
            session_id: request.session_id,
            started: true,
            reason: None,
            extra: serde_json::Map::new(),
        },
        record: Some(record),
    })
}

/// What there is of the session before a run begins.
enum Before {
    /// A run that is not over.
    Busy,
    /// A run whose end nobody has heard of, and that nobody goes on with.
    Unended(Box<TurnRecord>),
    /// No run, or one that is over.
    Free(Option<Box<TurnRecord>>),
}

/// Everything that must be known first, asked for at once, while the lease is taken. With a batch the session is made as
/// well, which stores nothing yet.
async fn look_up(session: &mut Session, batch: Option<&Batch>) -> Result<Before> {
    let (cx, id) = (session.cx.clone(), session.id.clone());
    let made = async {
        match batch {
            Some(batch) => ensure(&cx, &id, Some(batch.clone())).await,
            None => Ok(()),
        }
    };
    let (previous, free, made) = futures::join!(load(&cx, &id), session.claim(), made);
    let previous = previous?;
    if !free? {
        return Ok(Before::Busy);
    }
    match previous {
        Some(record) if is_open(&cx, &record) => {
            // Nobody has it in hand, or this would not be asked.
            later::look_again(session);
            Ok(Before::Busy)
        }
        Some(record) if !record.state.is_terminal() || record.agent_end_emitted == Some(false) => {
            Ok(Before::Unended(Box::new(record)))
        }
        previous => made.map(|()| Before::Free(previous.map(Box::new))),
    }
}

/// A run that is not over. One that is not parked and was not touched for long counts as abandoned: its lease was free.
fn is_open(cx: &Cx<Turns>, record: &TurnRecord) -> bool {
    let parked = record.state == TurnState::FunctionAwaitingApproval;
    let untouched = cx.now_ms().saturating_sub(record.updated_at_ms) > STALE_MS;
    !record.state.is_terminal() && (parked || !untouched)
}

/// Each run has its end, before another one begins (contract 02 §7.3).
async fn end(session: &mut Session, record: &mut TurnRecord) -> Result<()> {
    if record.state.is_terminal() {
        return session.end_run(record).await;
    }
    let abandoned = Error::Transient("the run was abandoned".into());
    session.repeats = true;
    runner::end_unfinished(session, record, &abandoned).await
}

/// Traces of the run are grouped under the client's message.
fn trace_message(session: &mut Session, request: &StartRequest) {
    let mut baggage = session.cx.context().baggage.clone();
    baggage.message_id = request.message_id.as_deref().map(Arc::from);
    session.cx = session.cx.with_context(CallContext {
        baggage,
        ..CallContext::default()
    });
}

async fn ensure(cx: &Cx<Turns>, session_id: &SessionId, batch: Option<Batch>) -> Result<()> {
    let request = EnsureRequest {
        session_id: session_id.clone(),
        display_name: None,
        cwd: None,
    };
    let options = CallOptions {
        batch,
        ..CallOptions::timeout_ms(ENSURE_MS)
    };
    cx.call_with::<Ensure>(request, options).await.map(|_| ())
}

/// What is not yet on the active path; the last message always is new.
async fn new_entries(session: &Session, request: &StartRequest) -> Result<Vec<NewEntry>> {
    let first_new = if request.messages.len() > 1 {
        let (path, compactions) = session.transcript().await?;
        context::first_new(&path.messages, &compactions, &request.messages)
    } else {
        0
    };
    let new = request.messages.iter().skip(first_new).cloned();
    Ok(new.map(|message| NewEntry { message, id: None }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_that_could_never_be_approved_are_refused() {
        for id in ["", "a/b", "a\nb", &"x".repeat(257)] {
            assert!(check_session_id(id).is_err(), "{id:?}");
        }
        check_session_id("console-ab12").unwrap();
    }
}
