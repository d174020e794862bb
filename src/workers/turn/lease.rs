//! The single-writer lease over state (contract 01 §8.7), renewed while its session is at work.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::bus::{Bus, CallContext, Write, to_json};
use crate::error::Result;
use crate::model::SessionId;

/// State scope of the leases, key = session id.
const LEASES: &str = "turn_lease";
const TTL_MS: i64 = 30_000;
const RENEW_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    nonce: String,
    ts: i64,
}

/// A held lease. Dropping it stops the renewal; [`Lease::release`] gives the row back.
#[derive(Debug)]
pub(super) struct Lease {
    session: SessionId,
    nonce: String,
    /// The row of a lease that needs no asking, to be written with the first commit.
    unwritten: Option<Write>,
    _renewal: DropGuard,
}

impl Lease {
    /// Takes the lease; `None` when another process holds it. It is looked at first, so that one in use is not touched.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub(super) async fn acquire(bus: &Bus, session: &SessionId) -> Result<Option<Self>> {
        if Self::is_held(bus, session).await? {
            return Ok(None);
        }
        Self::claim(bus, session).await
    }

    /// Takes the lease, expecting it to be free; `None` when another process holds it. What was there before decides: to look
    /// first costs a round trip more.
    ///
    /// A transport that is ours alone cannot have another holder: rows there are of an earlier life and void.
    ///
    /// # Errors
    /// State did not answer: an outage never counts as a win.
    pub(super) async fn claim(bus: &Bus, session: &SessionId) -> Result<Option<Self>> {
        let nonce = format!("{}/{}", bus.epoch(), bus.uuid());
        let context = CallContext::default();
        let scope = bus.scope(&context, LEASES);
        if bus.transport().is_exclusive() {
            let row = row_write(bus, session, &nonce)?;
            return Ok(Some(Self::hold(bus, session, nonce, Some(row))));
        }
        let row = to_json(&Row {
            nonce: nonce.clone(),
            ts: bus.now_ms(),
        })?;
        let reply = scope
            .update(session, json!([{ "type": "set", "path": "", "value": row }]))
            .await?;
        let old = reply.get("old_value").cloned().unwrap_or_default();
        if is_held_elsewhere(bus, &old) {
            scope.set(session, &old).await?;
            return Ok(None);
        }
        Ok(Some(Self::hold(bus, session, nonce, None)))
    }

    /// Whether another process holds the lease of a session.
    pub(super) async fn is_held(bus: &Bus, session: &str) -> Result<bool> {
        if bus.transport().is_exclusive() {
            return Ok(false);
        }
        let context = CallContext::default();
        Ok(bus
            .scope(&context, LEASES)
            .get(session)
            .await?
            .is_some_and(|row| is_held_elsewhere(bus, &row)))
    }

    /// What the next commit must write for the lease.
    pub(super) fn take_unwritten(&mut self) -> Option<Write> {
        self.unwritten.take()
    }

    /// Gives the row back within a commit, where nobody else can have taken it meanwhile.
    pub(super) fn release_write(&mut self, bus: &Bus) -> Option<Write> {
        self.unwritten = None;
        bus.transport().is_exclusive().then(|| Write::StateDelete {
            scope: LEASES.into(),
            key: self.session.to_string(),
        })
    }

    /// Gives the lease back, if the row is still ours.
    pub(super) async fn release(self, bus: &Bus) -> Result<()> {
        let context = CallContext::default();
        let scope = bus.scope(&context, LEASES);
        let row = scope.get(&self.session).await?;
        if row.is_some_and(|row| row.get("nonce").and_then(Value::as_str) == Some(&self.nonce)) {
            scope.delete(&self.session).await?;
        }
        Ok(())
    }

    fn hold(bus: &Bus, session: &SessionId, nonce: String, unwritten: Option<Write>) -> Self {
        let stop = CancellationToken::new();
        let (task_bus, task_session, task_nonce, stopped) =
            (bus.clone(), session.clone(), nonce.clone(), stop.clone());
        bus.spawn(async move {
            while stopped
                .run_until_cancelled(tokio::time::sleep(RENEW_EVERY))
                .await
                .is_some()
            {
                let renewed = match row_write(&task_bus, &task_session, &task_nonce) {
                    Ok(write) => task_bus.transport().commit(vec![write]).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = renewed {
                    tracing::warn!(session_id = %task_session, %error, "lease not renewed");
                }
            }
        });
        Self {
            session: session.clone(),
            nonce,
            unwritten,
            _renewal: stop.drop_guard(),
        }
    }
}

fn row_write(bus: &Bus, session: &SessionId, nonce: &str) -> Result<Write> {
    let row = to_json(&Row {
        nonce: nonce.to_owned(),
        ts: bus.now_ms(),
    })?;
    Ok(Write::StateSet {
        scope: LEASES.into(),
        key: session.to_string(),
        value: row.into(),
    })
}

/// A row of this process that its session does not hold is one that could not be given back, or whose writing was not
/// answered: it binds nobody, as a session has one actor at a time.
fn is_held_elsewhere(bus: &Bus, row: &Value) -> bool {
    Row::deserialize(row).is_ok_and(|row| {
        let is_ours = row
            .nonce
            .strip_prefix(bus.epoch())
            .is_some_and(|rest| rest.starts_with('/'));
        !is_ours && bus.now_ms().saturating_sub(row.ts) < TTL_MS
    })
}

#[cfg(test)]
mod tests;
