//! A lease over state that any number of rivals may want (contract 01 §8.7), on an engine without compare-and-set.
//!
//! ```text
//!  { "7": { "claims": [ {nonce, ts, by?}, … ], "renewed": ms, "released": true },  "8": … }
//! ```
//!
//! What an engine has is `append`: it never takes anything away, and its answer shows who was first. So a row is a chain of
//! epochs, each decided for ever by the first append to it. Whoever finds an epoch released or lapsed appends to the next
//! one; only the first of those has it. A write that comes late, however late, goes to an epoch that is decided or over. The
//! epoch is the fence: it only grows, and its holder sees a later one in the answer to every renewal.
//!
//! A row `{nonce, ts}` of the protocol before counts as epoch 0.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// Attempts to take a lease that others take and give back meanwhile.
const ATTEMPTS: u32 = 8;

/// Who wants the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// Never used by anybody else, nor twice.
    pub nonce: String,
    /// Lets others find out more about the claimant.
    pub by: Option<String>,
}

/// Who has, or had, the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Number of the epoch.
    pub epoch: u64,
    /// The claimant's nonce.
    pub nonce: String,
    /// The claimant's `by`.
    pub by: Option<String>,
    /// When it was claimed or renewed last, by the claimant's clock.
    pub seen_ms: i64,
    /// It was given back.
    pub is_released: bool,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The lease is ours, with this epoch.
    Ours(u64),
    /// Somebody else has it.
    Theirs(Holder),
}

/// What a renewal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// The lease is still ours.
    Ours,
    /// The engine has lost the row, or its latest part.
    Forgotten,
    /// Somebody else has it.
    Theirs(Holder),
}

#[derive(Deserialize)]
struct Claim {
    nonce: String,
    ts: i64,
    #[serde(default)]
    by: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Epoch {
    claims: Vec<Claim>,
    renewed: Option<i64>,
    released: bool,
    withdrawn: bool,
}

impl Holder {
    /// The last holder of a row, if it ever had one.
    pub fn of(row: &Value) -> Option<Self> {
        Self::all_of(row).into_iter().next()
    }

    /// All whom the row still tells of, the last one first. Not only that one may be alive: a claim that was long on its way
    /// may have come on top of a living one, and is not taken back yet.
    pub fn all_of(row: &Value) -> Vec<Self> {
        let chained = epochs(row).into_iter().rev().filter_map(|(number, value)| {
            let epoch = Epoch::deserialize(value).ok()?;
            let first = epoch.claims.into_iter().next().filter(|_| !epoch.withdrawn)?;
            Some(Self {
                epoch: number,
                nonce: first.nonce,
                by: first.by,
                seen_ms: epoch.renewed.map_or(first.ts, |renewed| renewed.max(first.ts)),
                is_released: epoch.released,
            })
        });
        let before = Claim::deserialize(row).ok().map(|Claim { nonce, ts, by }| Self {
            epoch: 0,
            nonce,
            by,
            seen_ms: ts,
            is_released: false,
        });
        chained.chain(before).collect()
    }

    /// Whether the claim counts, by the clocks of both.
    pub fn is_alive(&self, now_ms: i64, ttl_ms: i64) -> bool {
        !self.is_released && now_ms.saturating_sub(self.seen_ms) < ttl_ms
    }
}

/// The epochs of a row, in their order.
fn epochs(row: &Value) -> Vec<(u64, &Value)> {
    let members = row.as_object().into_iter().flatten();
    let mut epochs: Vec<(u64, &Value)> = members
        .filter_map(|(key, value)| Some((key.parse().ok()?, value)))
        .collect();
    epochs.sort_unstable_by_key(|(number, _)| *number);
    epochs
}

/// The epoch after all of a row.
pub fn next_epoch(row: &Value) -> u64 {
    epochs(row).last().map_or(1, |(number, _)| number + 1)
}

/// An attempt to take the lease, without I/O: perform [`Taking::ops`] on the row, and hand the reply to
/// [`Taking::answered`], until that knows the outcome. An outage never counts as a win.
#[derive(Debug)]
pub struct Taking<'a> {
    claimant: &'a Claimant,
    epoch: u64,
    attempts: u32,
    /// Somebody was alive when we claimed; our claim goes back.
    displaced: Option<Holder>,
}

impl<'a> Taking<'a> {
    /// `first` is the epoch to begin with. Any will do; one that is over costs a second attempt.
    pub fn new(claimant: &'a Claimant, first: u64) -> Self {
        Self {
            claimant,
            epoch: first,
            attempts: 0,
            displaced: None,
        }
    }

    /// What to perform next.
    pub fn ops(&self, now_ms: i64) -> Value {
        match self.displaced {
            Some(_) => withdraw(self.epoch),
            None => claim(self.claimant, self.epoch, now_ms),
        }
    }

    /// Takes in the reply of `state::update`; `is_alive` decides about other holders.
    ///
    /// # Errors
    /// The reply makes no sense, or the lease changes hands again and again.
    pub fn answered(&mut self, reply: &Value, is_alive: impl Fn(&Holder) -> bool) -> Result<Option<Taken>> {
        if let Some(holder) = self.displaced.take() {
            return Ok(Some(Taken::Theirs(holder)));
        }
        let row = reply.get("new_value").unwrap_or(&Value::Null);
        let alive_in = |row: &Value| Holder::all_of(row).into_iter().find(&is_alive);
        let top = Holder::of(row).ok_or_else(|| Error::store("lease", "no claim after one was made"))?;
        let is_ours = top.epoch == self.epoch && top.nonce == self.claimant.nonce;
        match reply.get("old_value").and_then(alive_in) {
            Some(holder) if is_ours => {
                self.displaced = Some(holder);
                Ok(None)
            }
            Some(holder) => Ok(Some(Taken::Theirs(holder))),
            None if is_ours => Ok(Some(Taken::Ours(self.epoch))),
            None if is_alive(&top) => Ok(Some(Taken::Theirs(top))),
            None if self.attempts == ATTEMPTS => {
                Err(Error::Transient("a lease changes hands too fast".into()))
            }
            None => {
                self.attempts += 1;
                self.epoch = next_epoch(row);
                Ok(None)
            }
        }
    }
}

/// Operations that renew an epoch.
pub fn renewal(epoch: u64, now_ms: i64) -> Value {
    json!([{ "type": "merge", "path": [epoch.to_string()], "value": { "renewed": now_ms } }])
}

/// What the reply to [`renewal`] says.
pub fn renewed(claimant: &Claimant, epoch: u64, reply: &Value) -> Renewed {
    match reply.get("new_value").and_then(Holder::of) {
        Some(top) if top.epoch == epoch && top.nonce == claimant.nonce => Renewed::Ours,
        Some(top) if top.epoch >= epoch => Renewed::Theirs(top),
        Some(_) | None => Renewed::Forgotten,
    }
}

/// Operations that claim an epoch. The first one makes an object of a row that holds null, as rows given back by others do.
fn claim(claimant: &Claimant, epoch: u64, now_ms: i64) -> Value {
    let mut value = Map::from_iter([
        ("nonce".to_owned(), json!(claimant.nonce)),
        ("ts".to_owned(), json!(now_ms)),
    ]);
    if let Some(by) = &claimant.by {
        value.insert("by".to_owned(), json!(by));
    }
    let key = epoch.to_string();
    json!([
        { "type": "merge", "path": [key], "value": {} },
        { "type": "append", "path": [key, "claims"], "value": value },
    ])
}

/// Operations that take a claim back which came before a living holder's end.
fn withdraw(epoch: u64) -> Value {
    json!([{ "type": "merge", "path": [epoch.to_string()], "value": { "withdrawn": true } }])
}

/// Operations that give an epoch back. Those before it go: nobody can win them any more.
pub fn release(epoch: u64) -> Value {
    let before = epoch.saturating_sub(u64::from(ATTEMPTS)).max(2)..epoch;
    let earlier = (1..epoch.min(2))
        .chain(before)
        .map(|number| json!({ "type": "remove", "path": number.to_string() }));
    let released = json!({ "type": "merge", "path": [epoch.to_string()], "value": { "released": true } });
    std::iter::once(released).chain(earlier).collect()
}

#[cfg(test)]
pub(crate) mod tests;
