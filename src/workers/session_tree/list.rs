//! `session-tree::list`: a page of the sessions there are (contract 06 §4.12).

use std::collections::HashSet;

use futures::stream::{self, StreamExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::meta::SessionMeta;
use super::request;
use super::sessions::Sessions;
use super::storage;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::{SessionId, lenient};

/// Sessions counted at the same time, when their rows do not say how many entries they have.
const PARALLEL_COUNTS: usize = 8;

/// `session-tree::list`.
#[derive(Debug)]
pub struct List;

/// Request of [`List`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// Most rows to answer; all when absent. Rounded down, at least 0.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    #[schemars(with = "Option<f64>")]
    pub limit: Option<Number>,
    /// Rows to leave out at the beginning. Rounded down, at least 0.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    #[schemars(with = "Option<f64>")]
    pub offset: Option<Number>,
    /// `asc` (oldest change first) or `desc`, the default.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub order: Option<String>,
}

/// Response of [`List`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Response {
    /// The page.
    pub sessions: Vec<Row>,
    /// Number of all sessions.
    pub total: usize,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// Its id.
    pub session_id: SessionId,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds of its last change.
    pub updated_at: i64,
    /// Entries of every kind, all branches.
    pub entry_count: usize,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// First 80 characters of the last message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message_summary: Option<String>,
}

impl Function for List {
    const ID: &'static str = "session-tree::list";
    const DESCRIPTION: &'static str = "List sessions with optional pagination and ordering";
    type State = Sessions;
    type Request = Request;
    type Response = Response;

    fn decode(payload: Value) -> Result<Request> {
        request::read(payload, Self::REQUIRED)
    }

    async fn call(cx: &Cx<Sessions>, request: Request) -> Result<Response> {
        let mut metas = if cx.state().in_memory(cx) {
            cx.state().metas()
        } else {
            stored(cx).await?
        };
        sort(&mut metas, request.order.as_deref() == Some("asc"));
        let total = metas.len();
        let page = metas
            .into_iter()
            .skip(request::whole(request.offset.as_ref()).unwrap_or_default())
            .take(request::whole(request.limit.as_ref()).unwrap_or(usize::MAX));
        let sessions = stream::iter(page.map(|meta| row(cx, meta)))
            .buffered(PARALLEL_COUNTS)
            .collect()
            .await;
        Ok(Response { sessions, total })
    }
}

/// The rows in the store; one that is no row spoils only itself.
async fn stored(cx: &Cx<Sessions>) -> Result<Vec<SessionMeta>> {
    let stored = storage::metas(cx).await?;
    let mut bad = 0_usize;
    let mut ids = HashSet::with_capacity(stored.len());
    let mut metas = Vec::with_capacity(stored.len());
    for value in stored {
        match SessionMeta::read(value) {
            Some(meta) if ids.insert(meta.session_id.clone()) => metas.push(meta),
            Some(_) | None => bad += 1,
        }
    }
    if bad > 0 {
        tracing::warn!(count = bad, "rows of sessions that cannot be read are not listed");
    }
    Ok(metas)
}

fn sort(metas: &mut [SessionMeta], ascending: bool) {
    metas.sort_by(|a, b| {
        let by_time = a
            .updated_at
            .cmp(&b.updated_at)
            .then_with(|| a.session_id.cmp(&b.session_id));
        if ascending { by_time } else { by_time.reverse() }
    });
}

/// The row of a session. What this process remembers is the newest; then comes the stored count; else the entries are
/// read.
async fn row(cx: &Cx<Sessions>, meta: SessionMeta) -> Row {
    let slot = cx.state().peek(&meta.session_id);
    let remembered = slot.as_ref().and_then(|slot| slot.counted());
    let trusted = !slot.is_some_and(|slot| slot.recount());
    let (entry_count, last_message_summary) = match (remembered, meta.entry_count) {
        (Some(counted), _) => counted,
        (None, Some(count)) if trusted => (count, meta.last_message_summary),
        (None, _) => count(cx, &meta.session_id).await,
    };
    Row {
        session_id: meta.session_id,
        created_at: meta.created_at,
        updated_at: meta.updated_at,
        entry_count,
        display_name: meta.display_name,
        cwd: meta.cwd,
        last_message_summary,
    }
}

async fn count(cx: &Cx<Sessions>, session: &SessionId) -> (usize, Option<String>) {
    let slot = cx.state().slot(session);
    match slot
        .read(cx, session, |index| (index.len(), index.summary()))
        .await
    {
        Ok(counted) => counted,
        Err(error) => {
            tracing::warn!(%session, %error, "session listed without its entries");
            (0, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn equal_times_are_ordered_by_id() {
        let meta = |id: &str, time| SessionMeta::new(id.into(), 1, time);
        let ids = |ascending| {
            let mut metas = vec![meta("b", 5), meta("a", 5), meta("c", 1)];
            sort(&mut metas, ascending);
            metas
                .into_iter()
                .map(|meta| meta.session_id.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(true), ["c", "a", "b"]);
        assert_eq!(ids(false), ["b", "a", "c"]);
    }
}
