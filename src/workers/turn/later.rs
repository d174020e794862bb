//! A session whose run was left as it is, and is looked at again after a while (field lesson D11).

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Turns;
use super::actor::Input;
use super::session::Session;
use crate::bus::Cx;
use crate::model::SessionId;

/// No session stays as it is for longer.
const AFTER: Duration = Duration::from_secs(30);

/// The sessions that are to be looked at.
#[derive(Default)]
pub(super) struct Looks(Mutex<HashSet<SessionId>>);

impl Looks {
    /// False when it is there already.
    fn add(&self, session: &SessionId) -> bool {
        self.lock().insert(session.clone())
    }

    fn remove(&self, session: &SessionId) {
        self.lock().remove(session);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<SessionId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resumes the session later, once, however often this is asked.
pub(super) fn look_again(session: &Session) {
    if !session.cx.state().looks.add(&session.id) {
        return;
    }
    let (cx, id): (Cx<Turns>, _) = (session.cx.clone(), session.id.clone());
    session.cx.spawn(async move {
        let due = cx
            .shutdown_token()
            .run_until_cancelled(tokio::time::sleep(AFTER))
            .await;
        cx.state().looks.remove(&id);
        if due.is_some() {
            cx.state().actors.submit(&cx, &id, Input::Resume);
        }
    });
}
