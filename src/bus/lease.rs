//! A lease that is held: renewed while it is wanted, lost when it was not renewed in time or somebody else has it.
//!
//! Holders fence themselves by time: [`Lease::is_lost`] is so a margin before anybody else may take the lease, counted from
//! the moment the last successful renewal was *sent*. [`claim`] has the protocol on the row.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::CallFuture;
use super::claim::{self, Claimant, Holder, Renewed, Taken, Taking};
use crate::clock::Clock;
use crate::error::{Error, Result};

/// How long a claim counts that is not renewed.
pub const TTL: Duration = Duration::from_secs(30);

/// Performs operations on the row of a lease; answers the reply of `state::update`.
pub type Update = Arc<dyn Fn(Value) -> CallFuture + Send + Sync>;

/// Whether an earlier holder still counts, now.
pub type IsAlive = Arc<dyn Fn(&Holder) -> bool + Send + Sync>;

/// The row of a lease, and how it is judged.
#[derive(Clone)]
pub struct Row {
    /// The way to it.
    pub update: Update,
    /// Judges other holders.
    pub is_alive: IsAlive,
    /// Dates claims.
    pub clock: Arc<dyn Clock>,
    /// How long a claim counts that is not renewed. It is renewed after a third of that, and given up by its holder a sixth
    /// before its end.
    pub ttl: Duration,
}

/// A lease of ours. It is kept while [`Lease::keep`] runs.
#[derive(Clone)]
pub struct Lease {
    row: Row,
    claimant: Claimant,
    epoch: Arc<AtomicU64>,
    /// When the claim or renewal that counts was sent.
    sent: Arc<Mutex<Instant>>,
    /// The last renewal's date. Each is later than the one before, also when the clock stands still or goes back: who
    /// watches the row sees that it was renewed.
    dated: Arc<AtomicI64>,
    lost: CancellationToken,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row")
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("claimant", &self.claimant)
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}

impl Lease {
    /// Takes the lease; the holder when somebody else has it. `first` is the epoch to begin with.
    ///
    /// # Errors
    /// State did not answer, or too late: an outage never counts as a win.
    pub async fn take(row: Row, claimant: Claimant, first: u64) -> Result<Result<Self, Holder>> {
        let sent = Instant::now();
        let taken = timeout_at(deadline(sent, row.ttl), attempt(&row, &claimant, first)).await;
        match taken.map_err(|_| Error::Transient("the lease was not taken in time".into()))?? {
            Taken::Ours(epoch) => Ok(Ok(Self::taken(row, claimant, epoch, sent))),
            Taken::Theirs(holder) => Ok(Err(holder)),
        }
    }

    /// A lease that was taken another way, by a claim that was sent at that moment.
    pub fn taken(row: Row, claimant: Claimant, epoch: u64, sent: Instant) -> Self {
        Self {
            sent: Arc::new(Mutex::new(sent)),
            row,
            claimant,
            epoch: Arc::new(AtomicU64::new(epoch)),
            dated: Arc::default(),
            lost: CancellationToken::new(),
        }
    }

    /// The number of its epoch: higher than that of every earlier holder.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Its nonce.
    pub fn nonce(&self) -> &str {
        &self.claimant.nonce
    }

    /// Whether it does not count any more. From then on its holder must not do what it stands for. A process that was held
    /// up hears it here even before its timers fire.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled() || Instant::now() >= self.until()
    }

    /// Does not count any more, for a reason of its holder.
    pub fn give_up(&self) {
        self.lost.cancel();
    }

    /// Does the work while the lease counts; nothing when it is lost before the work is done.
    pub async fn guard<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut lost = pin!(self.lost.cancelled());
        poll_fn(|cx| {
            if self.is_lost() || lost.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// When it stops to count for us unless it is renewed.
    fn until(&self) -> Instant {
        deadline(self.sent(), self.row.ttl)
    }

    fn sent(&self) -> Instant {
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews it until it is lost, and says why.
    pub async fn keep(&self) -> String {
        let why = self.renew_on().await;
        self.lost.cancel();
        why
    }

    async fn renew_on(&self) -> String {
        let ttl = self.row.ttl;
        let mut next = self.sent() + ttl / 3;
        loop {
            let until = self.until();
            sleep_until(next.min(until)).await;
            let sent = Instant::now();
            if sent >= until {
                return "it could not be renewed in time".to_owned();
            }
            match timeout_at(until, self.renew()).await {
                Ok(Ok(None)) => {
                    *self.sent.lock().unwrap_or_else(PoisonError::into_inner) = sent;
                    next = sent + ttl / 3;
                }
                Ok(Ok(Some(holder))) => return format!("{} has it", holder.nonce),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "lease not renewed, to be tried again");
                    next = Instant::now() + ttl / 30;
                }
                Err(_) => next = until,
            }
        }
    }

    /// Renews it once; one that the engine has forgotten is taken anew. The holder when somebody else has it.
    async fn renew(&self) -> Result<Option<Holder>> {
        let epoch = self.epoch();
        let date = self.row.clock.now_ms().max(self.dated.load(Ordering::SeqCst) + 1);
        self.dated.store(date, Ordering::SeqCst);
        let reply = (self.row.update)(claim::renewal(epoch, date)).await?;
        match claim::renewed(&self.claimant, epoch, &reply) {
            Renewed::Ours => Ok(None),
            Renewed::Theirs(holder) => Ok(Some(holder)),
            Renewed::Forgotten => {
                let next = reply.get("old_value").map_or(1, claim::next_epoch);
                match attempt(&self.row, &self.claimant, next).await? {
                    Taken::Ours(epoch) => {
                        self.epoch.store(epoch, Ordering::SeqCst);
                        Ok(None)
                    }
                    Taken::Theirs(holder) => Ok(Some(holder)),
                }
            }
        }
    }

    /// Gives it back, once it is not kept any more. One that was lost is left as it is.
    ///
    /// # Errors
    /// State did not answer; it lapses.
    pub async fn release(&self) -> Result<()> {
        if self.is_lost() {
            return Ok(());
        }
        (self.row.update)(claim::release(self.epoch())).await.map(drop)
    }
}

/// When a claim that was sent then stops to count for its holder.
fn deadline(sent: Instant, ttl: Duration) -> Instant {
    sent + ttl * 5 / 6
}

async fn attempt(row: &Row, claimant: &Claimant, first: u64) -> Result<Taken> {
    let mut taking = Taking::new(claimant, first);
    loop {
        let reply = (row.update)(taking.ops(row.clock.now_ms())).await?;
        if let Some(taken) = taking.answered(&reply, |holder| (row.is_alive)(holder))? {
            return Ok(taken);
        }
    }
}

#[cfg(test)]
mod tests;
