//! The lease of a session: one process drives it at a time (contract 01 §8.7, 02 §1).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::bus::claim::{Claimant, Holder};
use crate::bus::lease::{self, Row};
use crate::bus::{Bus, CallContext, Write};
use crate::error::Result;
use crate::model::SessionId;

/// Says whether a lease still counts.
pub(super) use crate::bus::lease::Lease as Fence;

/// State scope of the leases, key = session id.
const LEASES: &str = "turn_lease";

/// Sessions whose next epoch is remembered; what is forgotten costs a round trip.
const MAX_KNOWN: usize = 4_096;

/// The next epoch of sessions that this process has had.
#[derive(Default)]
pub(super) struct Epochs(Mutex<HashMap<SessionId, u64>>);

impl Epochs {
    fn next(&self, session: &SessionId) -> u64 {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(session).copied().unwrap_or(1)
    }

    fn released(&self, session: &SessionId, epoch: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(session.clone(), epoch + 1);
    }
}

/// A held lease. Dropping it stops the renewal; [`Lease::release`] gives it back.
#[derive(Debug)]
pub(super) struct Lease {
    session: SessionId,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Nobody else can write: the row only shows who is at work. It is written with the first commit.
    Alone { unwritten: Option<Write> },
    /// Others can.
    Shared {
        lease: lease::Lease,
        /// Stops the renewal.
        renewal: CancellationToken,
    },
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Kind::Shared { renewal, .. } = &self.kind {
            renewal.cancel();
        }
    }
}

impl Lease {
    /// Takes the lease; `None` when another process holds it.
    ///
    /// A transport that is ours alone cannot have another holder: rows there are of an earlier life and void.
    ///
    /// # Errors
    /// State did not answer: an outage never counts as a win.
    pub(super) async fn acquire(bus: &Bus, epochs: &Epochs, session: &SessionId) -> Result<Option<Self>> {
        if bus.transport().is_exclusive() {
            let row = json!({ "nonce": bus.uuid(), "ts": bus.now_ms() });
            let unwritten = Some(Write::StateSet {
                scope: LEASES.into(),
                key: session.to_string(),
                value: row.into(),
            });
            return Ok(Some(Self {
                session: session.clone(),
                kind: Kind::Alone { unwritten },
            }));
        }
        let mut ownership = bus.transport().ownership();
        let owner = ownership.borrow_and_update().clone();
        let claimant = Claimant {
            nonce: format!("{}/{}", bus.epoch(), bus.uuid()),
            by: owner.as_deref().map(str::to_owned),
        };
        let taken = lease::Lease::take(row_of(bus, session), claimant, epochs.next(session)).await?;
        let Ok(lease) = taken else {
            return Ok(None);
        };
        let (kept, renewal) = (lease.clone(), CancellationToken::new());
        let (id, stopped) = (session.clone(), renewal.clone());
        bus.spawn(async move {
            // Who no longer owns the engine has no session of it either.
            let disowned = async {
                if ownership.wait_for(|now| *now != owner).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let why = tokio::select! {
                () = stopped.cancelled() => return,
                why = kept.keep() => why,
                () = disowned => {
                    kept.give_up();
                    "another process serves the engine".to_owned()
                }
            };
            tracing::warn!(session_id = %id, why, "lease lost; the session is left to its next holder");
        });
        Ok(Some(Self {
            session: session.clone(),
            kind: Kind::Shared { lease, renewal },
        }))
    }

    /// Whether another process holds the lease of a session.
    pub(super) async fn is_held(bus: &Bus, session: &str) -> Result<bool> {
        if bus.transport().is_exclusive() {
            return Ok(false);
        }
        let context = CallContext::default();
        let row = bus.scope(&context, LEASES).get(session).await?;
        Ok(row
            .as_ref()
            .map(Holder::all_of)
            .is_some_and(|holders| holders.iter().any(|holder| is_alive(bus, holder))))
    }

    /// What guards everything that is written or begun under the lease; nothing where nobody else can take it.
    pub(super) fn fence(&self) -> Option<&Fence> {
        match &self.kind {
            Kind::Alone { .. } => None,
            Kind::Shared { lease, .. } => Some(lease),
        }
    }

    /// What the next commit must write for the lease.
    pub(super) fn take_unwritten(&mut self) -> Option<Write> {
        match &mut self.kind {
            Kind::Alone { unwritten } => unwritten.take(),
            Kind::Shared { .. } => None,
        }
    }

    /// Gives the row back within a commit, where nobody else can have taken it meanwhile.
    pub(super) fn release_write(&mut self) -> Option<Write> {
        match &mut self.kind {
            Kind::Alone { unwritten } => {
                *unwritten = None;
                Some(Write::StateDelete {
                    scope: LEASES.into(),
                    key: self.session.to_string(),
                })
            }
            Kind::Shared { .. } => None,
        }
    }

    /// Gives the lease back, if it is still ours.
    pub(super) async fn release(mut self, bus: &Bus, epochs: &Epochs) -> Result<()> {
        if let Some(write) = self.release_write() {
            return bus.transport().commit(vec![write]).await;
        }
        if let Kind::Shared { lease, .. } = &self.kind {
            epochs.released(&self.session, lease.epoch());
            lease.release().await?;
        }
        Ok(())
    }
}

fn row_of(bus: &Bus, session: &SessionId) -> Row {
    let (to, key, judge) = (bus.clone(), session.clone(), bus.clone());
    Row {
        update: Arc::new(move |ops: Value| {
            let (bus, key) = (to.clone(), key.clone());
            async move {
                let context = CallContext::default();
                bus.scope(&context, LEASES).update(&key, ops).await
            }
            .boxed()
        }),
        is_alive: Arc::new(move |holder| is_alive(&judge, holder)),
        clock: Arc::clone(&bus.ports().clock),
        ttl: lease::TTL,
    }
}

/// Whether the claim of an earlier holder binds us. One that was made under another owner of the engine does not: that one
/// has fenced itself before we could own it. Neither does one of this process that could not be given back, or whose writing
/// was not answered: a session has one actor at a time.
fn is_alive(bus: &Bus, holder: &Holder) -> bool {
    let owner = bus.transport().ownership().borrow().clone();
    let is_void = match (&owner, &holder.by) {
        (Some(owner), Some(by)) => **owner != **by && name_of(owner) == name_of(by),
        _ => false,
    };
    let is_ours = holder
        .nonce
        .strip_prefix(bus.epoch())
        .is_some_and(|rest| rest.starts_with('/'));
    let ttl_ms = i64::try_from(lease::TTL.as_millis()).unwrap_or(i64::MAX);
    !is_void && !is_ours && holder.is_alive(bus.now_ms(), ttl_ms)
}

/// The worker name in the id of an owner. Programs of different names serve an engine side by side.
fn name_of(owner: &str) -> Option<&str> {
    owner.rsplit_once('/').map(|(name, _)| name)
}

#[cfg(test)]
mod tests;
