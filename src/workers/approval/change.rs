//! Reading and changing a session's settings record in state.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::State;
use super::checked::{self, Checked, Readable};
use super::settings::{Record, SCOPE};
use super::wake;
use crate::bus::Cx;
use crate::error::Result;
use crate::model::api::approval::Settings;
use crate::model::{FunctionId, SessionId};

/// Request of the functions that change a list.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct GrantRequest {
    /// The session, without `/`.
    pub(super) session_id: SessionId,
    /// Exact function id, at least one character.
    pub(super) function_id: FunctionId,
}

impl Readable for GrantRequest {
    fn read(members: &Map<String, Value>) -> Result<Self, String> {
        Ok(Self {
            session_id: checked::key(members, "session_id")?.into(),
            function_id: checked::text(members, "function_id")?.into(),
        })
    }
}

/// Answer of the functions that change settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Answer {
    /// The whole record after the change.
    Settings(Settings),
    /// Nothing was changed.
    Failed(Outcome),
}

/// `{ok: true}`, or what went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Outcome {
    /// Whether it worked.
    pub(super) ok: bool,
    /// Short text for people, only when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Outcome {
    /// It worked.
    pub(super) fn done() -> Self {
        Self {
            ok: true,
            error: None,
        }
    }

    /// It did not.
    pub(super) fn failed(error: impl Into<String>) -> Self {
        Self {
            ok: false,
            error: Some(error.into()),
        }
    }
}

impl Answer {
    /// Nothing was changed.
    pub(super) fn failed(error: impl Into<String>) -> Self {
        Self::Failed(Outcome::failed(error))
    }
}

/// The stored record; nothing stored is an empty one. A state that cannot be read is an error.
pub(super) async fn read(cx: &Cx<State>, session_id: &SessionId) -> Result<Record> {
    let stored = cx.scope(SCOPE).get(session_id).await?;
    Ok(stored.as_ref().map(Record::read).unwrap_or_default())
}

/// Changes the record under the session's lock. `edit` says whether there is something to write. When the record cannot be
/// read or written, nothing is changed and nothing assumed.
pub(super) async fn change(
    cx: &Cx<State>,
    session_id: &SessionId,
    edit: impl FnOnce(&mut Record) -> bool + Send,
) -> Answer {
    match try_change(cx, session_id, edit).await {
        Ok(settings) => {
            wake::settings_changed(cx, session_id, &settings);
            Answer::Settings(settings)
        }
        Err(error) => {
            tracing::warn!(session_id = session_id.as_str(), %error, "approval settings not changed");
            Answer::failed(error.to_string())
        }
    }
}

/// Changes one of the lists; `edit` gets the function's id and the time.
pub(super) async fn change_list(
    cx: &Cx<State>,
    Checked(request): Checked<GrantRequest>,
    edit: impl FnOnce(&mut Record, &FunctionId, i64) -> bool + Send,
) -> Answer {
    match request {
        Ok(GrantRequest {
            session_id,
            function_id,
        }) => {
            let now_ms = cx.now_ms();
            change(cx, &session_id, |record| edit(record, &function_id, now_ms)).await
        }
        Err(problem) => Answer::failed(problem),
    }
}

async fn try_change(
    cx: &Cx<State>,
    session_id: &SessionId,
    edit: impl FnOnce(&mut Record) -> bool + Send,
) -> Result<Settings> {
    let _guard = cx.bus().hold(&super::settings_hold(session_id)).await;
    let mut record = read(cx, session_id).await?;
    if edit(&mut record) {
        cx.scope(SCOPE).set(session_id, &record).await?;
    }
    Ok(record.settings(cx.state().default_mode()))
}
