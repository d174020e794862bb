//! `session-tree::ensure`: a session with the caller's id, made when there is none (contract 06 §4.2).

use futures::future::join;

use super::meta::SessionMeta;
use super::request;
use super::sessions::Sessions;
use super::slot::Meta;
use super::staged::{Staged, batch};
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::session::{EnsureRequest, SessionRef};

/// `session-tree::ensure`.
#[derive(Debug)]
pub struct Ensure;

impl Function for Ensure {
    const ID: &'static str = "session-tree::ensure";
    const DESCRIPTION: &'static str = "Idempotently ensure a session exists with the given id";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    const CLIENT: bool = true;
    type State = Sessions;
    type Request = EnsureRequest;
    type Response = SessionRef;

    async fn call(cx: &Cx<Sessions>, request: EnsureRequest) -> Result<SessionRef> {
        request::session(&request.session_id)?;
        let session_id = request.session_id;
        let slot = cx.state().slot(&session_id);
        let staged = Staged::open(cx, &session_id, &slot).await;
        let meta = if batch(cx).is_some() {
            // The caller goes on to append, for which the entries are needed: both are read at once.
            let (loaded, meta) = join(slot.load(cx, &session_id), slot.load_meta(cx, &session_id)).await;
            loaded?;
            meta?
        } else {
            slot.load_meta(cx, &session_id).await?
        };
        if staged.meta().is_none()
            && let Meta::Missing = meta
        {
            let now_ms = cx.state().change_time(cx.now_ms());
            let meta = SessionMeta {
                display_name: request.display_name,
                cwd: request.cwd,
                ..SessionMeta::new(session_id.clone(), 0, now_ms)
            };
            staged.create(meta).await?;
        } else {
            staged.leave();
        }
        Ok(SessionRef { session_id })
    }
}
