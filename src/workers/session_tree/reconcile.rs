//! `session-tree::reconcile`: adds the messages of a flat transcript that a session lacks (contract 06 §4.15). What counts
//! is how many there are, not what they say; where the two part is told.

use std::sync::Arc;

use futures::future::join;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::append::check;
use super::entry::{Body, SessionEntry};
use super::idle;
use super::index::{Index, summary_line};
use super::meta::SessionMeta;
use super::request;
use super::sessions::Sessions;
use super::slot::{Meta, Slot};
use crate::bus::{Cx, Function, decode};
use crate::error::{Error, Result};
use crate::model::{EntryId, RawMessage, SessionId};

/// Why nothing is added while a run is at work.
const BUSY: &str = "its messages come from the run";

/// `session-tree::reconcile`.
#[derive(Debug)]
pub struct Reconcile;

/// Request of [`Reconcile`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// The session; made when there is none and something is to be added.
    pub session_id: SessionId,
    /// All messages there should be on the active path, oldest first. Those that the path lacks at its end are added.
    #[schemars(with = "Vec<RawMessage>")]
    pub state_snapshot: Vec<Value>,
}

/// Response of [`Reconcile`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Response {
    /// Messages of the snapshot.
    pub state_count: usize,
    /// Messages on the active path before.
    pub tree_count_before: usize,
    /// Messages on the active path after.
    pub tree_count_after: usize,
    /// Messages added.
    pub repaired: usize,
    /// First place where role or content of the two differ, if there is one: what was added may be the wrong part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged_at: Option<usize>,
}

impl Function for Reconcile {
    const ID: &'static str = "session-tree::reconcile";
    const DESCRIPTION: &'static str = "Mirror missing messages from a state-snapshot into session-tree";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    const CLIENT: bool = true;
    type State = Sessions;
    type Request = Request;
    type Response = Response;

    fn decode(payload: Value) -> Result<Request> {
        let without_snapshot = !payload.get("state_snapshot").is_some_and(Value::is_array);
        if without_snapshot {
            // The session id is asked for first.
            decode::<Value>(payload, Self::REQUIRED, false)?;
            return Err(Error::invalid("missing required field: state_snapshot"));
        }
        decode(payload, Self::REQUIRED, false)
    }

    async fn call(cx: &Cx<Sessions>, request: Request) -> Result<Response> {
        request::session(&request.session_id)?;
        let session_id = request.session_id;
        let slot = cx.state().slot(&session_id);
        let _writer = slot.write().await;
        let (loaded, meta) = join(slot.load(cx, &session_id), slot.load_meta(cx, &session_id)).await;
        loaded?;
        let meta = meta?;

        let path = slot.ask(|index| index.messages(None))?;
        let diverged_at = (path.iter().map(|row| &row.message))
            .zip(&request.state_snapshot)
            .position(|(message, given)| differ(message, given));
        let state_count = request.state_snapshot.len();
        let mut missing = Vec::new();
        for given in request.state_snapshot.into_iter().skip(path.len()) {
            let message =
                RawMessage::new(given).map_err(|why| Error::Invalid(format!("invalid message: {why}")))?;
            check(&message)?;
            missing.push(message);
        }
        let repaired = missing.len();
        if repaired > 0 {
            // What a page shows of a run may be half a message, and a call's result must come behind it.
            idle::check(cx, &session_id, BUSY).await?;
            add(cx, &session_id, &slot, meta, missing).await?;
        }
        Ok(Response {
            state_count,
            tree_count_before: path.len(),
            tree_count_after: path.len() + repaired,
            repaired,
            diverged_at,
        })
    }
}

/// Whether role or content of a stored message are not those of the given one.
fn differ(message: &RawMessage, given: &Value) -> bool {
    match RawMessage::new(given.clone()) {
        Ok(given) => {
            message.role() != given.role() || message.object().get("content") != given.object().get("content")
        }
        Err(_) => true,
    }
}

/// Adds messages under the tip, each under the one before it.
async fn add(
    cx: &Cx<Sessions>,
    session_id: &SessionId,
    slot: &Arc<Slot>,
    meta: Meta,
    messages: Vec<RawMessage>,
) -> Result<()> {
    let now_ms = cx.now_ms();
    let summary = messages.last().and_then(summary_line);
    let bodies = messages
        .into_iter()
        .map(|message| Body::Message(message.with_timestamp(now_ms)));
    let entries = slot.ask(|index| chain(index, bodies, now_ms, || cx.uuid().into()))?;
    let changed = cx.state().change_time(now_ms);
    let row = match meta {
        Meta::Known(row) => Some(SessionMeta::clone(&row)),
        Meta::Missing => {
            let row = SessionMeta::new(session_id.clone(), 0, changed);
            // An engine that others share may store the entries and not the row.
            if !cx.bus().transport().is_exclusive() {
                slot.create(cx, row.clone()).await?;
            }
            Some(row)
        }
        Meta::Unreadable | Meta::Unknown => None,
    };
    let count = slot.ask(Index::len)? + entries.len();
    let row = row.map(|row| row.refreshed(changed, count, summary));
    slot.append(cx, session_id, entries, row).await
}

/// New entries under the tip, each under the one before it.
fn chain(
    index: &Index,
    bodies: impl Iterator<Item = Body>,
    now_ms: i64,
    new_id: impl Fn() -> EntryId,
) -> Vec<SessionEntry> {
    let mut parent = index.tip().cloned();
    let mut timestamp = index.next_timestamp(now_ms);
    let mut entries = Vec::new();
    for body in bodies {
        let id = new_id();
        entries.push(SessionEntry::new(id.clone(), parent.replace(id), timestamp, body));
        timestamp = timestamp.saturating_add(1);
    }
    entries
}
