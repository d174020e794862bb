//! The leases of this worker: one compaction and one pruning per session at a time (contract 10 §5).
//!
//! Within the process a named lock decides. Against others there is a row in state that everybody can read: `{nonce, ts}`
//! while it is held. On an engine of our own the row alone is enough. On one that others write to, the protocol of
//! [`claim`] decides, and `nonce` and `ts` stand beside its epochs; a row without `ts` is free.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::bus::claim::{self, Claimant, Holder};
use crate::bus::lease::{self, Row};
use crate::bus::{Bus, CallContext, Hold, Scope};
use crate::error::Result;
use crate::model::SessionId;

/// Scope of the compaction leases, key = session.
pub(super) const COMPACTION: &str = "compaction_lease";
/// Scope of the prune leases, key = session.
pub(super) const PRUNE: &str = "prune_lease";

const TTL: Duration = Duration::from_mins(5);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A held lease; it is renewed until it is released or dropped.
#[derive(Debug)]
pub(super) struct Lease {
    place: Place,
    kind: Kind,
    renewal: CancellationToken,
    /// Dropped last: the next one of this process finds the row free.
    _hold: Hold,
}

#[derive(Debug)]
enum Kind {
    /// Only we write. With the nonce.
    Alone(String),
    Shared(lease::Lease),
}

/// Where a lease is.
#[derive(Debug, Clone)]
struct Place {
    bus: Bus,
    context: CallContext,
    scope: &'static str,
    session: SessionId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.cancel();
    }
}

impl Lease {
    /// Takes a lease, or gives up when it is not free within this time. State that does not answer counts as not free: an
    /// outage is never a win.
    pub(super) async fn acquire(
        bus: &Bus,
        scope: &'static str,
        session: &SessionId,
        wait: Duration,
    ) -> Option<Self> {
        let deadline = Instant::now() + wait;
        let name = format!("{scope}/{session}");
        // Also with no time left this takes what is free.
        let hold = timeout_at(deadline, bus.hold(&name)).await.ok()?;
        let place = Place {
            bus: bus.clone(),
            context: CallContext::default(),
            scope,
            session: session.clone(),
        };
        let mut pause = FIRST_PAUSE;
        let kind = loop {
            match place.take().await {
                Ok(Some(kind)) => break kind,
                Ok(None) => {}
                Err(error) => tracing::warn!(session_id = %session, scope, %error, "lease not taken"),
            }
            if Instant::now() + pause > deadline {
                return None;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        let renewal = CancellationToken::new();
        place.keep(&kind, renewal.clone());
        Some(Self {
            place,
            kind,
            renewal,
            _hold: hold,
        })
    }

    /// Whether it is still ours, to be asked before anything is written for it. State that does not answer counts as lost.
    pub(super) async fn is_held(&self) -> bool {
        match &self.kind {
            Kind::Alone(nonce) => self.place.is_ours(nonce).await.unwrap_or(false),
            Kind::Shared(lease) => !lease.is_lost(),
        }
    }

    /// Gives it back. What cannot be given back lapses.
    pub(super) async fn release(self) {
        self.renewal.cancel();
        let released = match &self.kind {
            Kind::Alone(nonce) => self.place.clear(nonce).await,
            Kind::Shared(lease) => lease.release().await,
        };
        if let Err(error) = released {
            let Place { scope, session, .. } = &self.place;
            tracing::warn!(session_id = %session, scope, %error, "lease not released, it will lapse");
        }
    }
}

impl Place {
    fn rows(&self) -> Scope<'_> {
        self.bus.scope(&self.context, self.scope)
    }

    async fn take(&self) -> Result<Option<Kind>> {
        let row = self.rows().get(&self.session).await?;
        // Looked at first, so that one in use is not touched.
        if row.as_ref().is_some_and(|row| self.is_held(row)) {
            return Ok(None);
        }
        if self.bus.transport().is_exclusive() {
            return self.take_alone().await;
        }
        if row.as_ref().is_some_and(|row| !row.is_object()) {
            self.rows().delete(&self.session).await?;
        }
        let claimant = Claimant {
            nonce: self.nonce(),
            by: None,
        };
        let first = row.as_ref().map_or(1, claim::next_epoch);
        let taken = lease::Lease::take(self.row(), claimant, first).await?;
        let Ok(lease) = taken else { return Ok(None) };
        let shown =
            json!([{ "type": "merge", "value": { "nonce": lease.nonce(), "ts": self.bus.now_ms() } }]);
        self.update(shown).await?;
        Ok(Some(Kind::Shared(lease)))
    }

    async fn take_alone(&self) -> Result<Option<Kind>> {
        let nonce = self.nonce();
        let value = json!({ "nonce": nonce, "ts": self.bus.now_ms() });
        let ops = json!([{ "type": "set", "path": "", "value": value }]);
        let reply = self.update(ops).await?;
        match reply.get("old_value") {
            // An outside worker was quicker: its row goes back.
            Some(old) if self.is_held(old) => {
                self.rows().set(&self.session, old).await?;
                Ok(None)
            }
            _ => Ok(Some(Kind::Alone(nonce))),
        }
    }

    /// Frees a row of our own, if it still is.
    async fn clear(&self, nonce: &str) -> Result<()> {
        if self.is_ours(nonce).await? {
            self.rows().delete(&self.session).await?;
        }
        Ok(())
    }

    async fn is_ours(&self, nonce: &str) -> Result<bool> {
        let row = self.rows().get(&self.session).await?;
        Ok(row.is_some_and(|row| row.get("nonce").is_some_and(|found| found == nonce)))
    }

    /// Renews a row of our own; `false` when it is not ours any more.
    async fn renew(&self, nonce: &str) -> Result<bool> {
        let is_ours = self.is_ours(nonce).await?;
        if is_ours {
            let ops = json!([{ "type": "set", "path": "ts", "value": self.bus.now_ms() }]);
            self.update(ops).await?;
        }
        Ok(is_ours)
    }

    /// Renews it until it is released or lost.
    fn keep(&self, kind: &Kind, stopped: CancellationToken) {
        let place = self.clone();
        match kind {
            Kind::Shared(lease) => {
                let lease = lease.clone();
                self.bus.spawn(async move {
                    if let Some(why) = stopped.run_until_cancelled(lease.keep()).await {
                        tracing::warn!(session_id = %place.session, scope = place.scope, why, "lease lost");
                    }
                });
            }
            Kind::Alone(nonce) => {
                let nonce = nonce.clone();
                let mut due = Instant::now() + TTL / 3;
                self.bus.spawn(async move {
                    let renew = async {
                        loop {
                            sleep_until(due).await;
                            due += TTL / 3;
                            match place.renew(&nonce).await {
                                Ok(true) => {}
                                Ok(false) => break,
                                Err(error) => tracing::debug!(%error, "lease not renewed, to be tried again"),
                            }
                        }
                    };
                    if stopped.run_until_cancelled(renew).await.is_some() {
                        tracing::warn!(session_id = %place.session, scope = place.scope, "lease lost");
                    }
                });
            }
        }
    }

    async fn update(&self, ops: Value) -> Result<Value> {
        self.rows().update(&self.session, ops).await
    }

    /// Names this life of the process.
    fn nonce(&self) -> String {
        format!("{}/{}", self.bus.epoch(), self.bus.uuid())
    }

    fn is_held(&self, row: &Value) -> bool {
        Holder::all_of(row).iter().any(|holder| self.is_alive(holder))
    }

    /// Whether a claim binds us: not one of this process, which the named lock keeps apart.
    fn is_alive(&self, holder: &Holder) -> bool {
        let ttl_ms = i64::try_from(TTL.as_millis()).unwrap_or(i64::MAX);
        let own = format!("{}/", self.bus.epoch());
        !holder.nonce.starts_with(&own) && holder.is_alive(self.bus.now_ms(), ttl_ms)
    }

    /// The row for [`lease::Lease`]; what others read is renewed and removed with it.
    fn row(&self) -> Row {
        let (to, judge) = (self.clone(), self.clone());
        Row {
            update: Arc::new(move |ops: Value| {
                let place = to.clone();
                async move { place.update(shown_too(ops)).await }.boxed()
            }),
            is_alive: Arc::new(move |holder| judge.is_alive(holder)),
            clock: Arc::clone(&self.bus.ports().clock),
            ttl: TTL,
        }
    }
}

/// Operations on the epochs, and what they mean for those who read `nonce` and `ts`.
fn shown_too(mut ops: Value) -> Value {
    let first = ops.pointer("/0/value");
    let renewed = first.and_then(|value| value.get("renewed")).cloned();
    let released = first.and_then(|value| value.get("released")).is_some();
    if let Some(ops) = ops.as_array_mut() {
        ops.extend(renewed.map(|at| json!({ "type": "set", "path": "ts", "value": at })));
        if released {
            ops.extend(["nonce", "ts"].map(|path| json!({ "type": "remove", "path": path })));
        }
    }
    ops
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn what_others_read_follows_the_epochs() {
        assert_eq!(
            shown_too(claim::renewal(3, 17)),
            json!([{ "type": "merge", "path": ["3"], "value": { "renewed": 17 } }, { "type": "set", "path": "ts", "value": 17 }])
        );
        let released = shown_too(claim::release(1));
        assert_eq!(
            released,
            json!([{ "type": "merge", "path": ["1"], "value": { "released": true } },
                { "type": "remove", "path": "nonce" }, { "type": "remove", "path": "ts" }])
        );
    }
}
