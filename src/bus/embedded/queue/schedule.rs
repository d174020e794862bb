//! Which job of one queue may run, as a state machine without clock, storage or tasks.
//!
//! ```text
//!  push ─► ready ─lease─► running ─remove─► gone (done, or moved to the dead letters)
//!            ▲  │ target missing     │
//!            │  ▼                    ├─retry──► delayed ─time─► ready
//!            └─ parked ◄──park───────┘
//! ```
//!
//! Times are milliseconds of any clock that only goes forward. Invariants: a job is in exactly one of these states; at most
//! `concurrency` run; with [`Discipline::Fifo`] only the oldest job of a group is ever ready, delayed, parked or running,
//! and the others wait behind it (contract 00 §16); nothing here spends an attempt except [`Schedule::judge`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::policy::{Discipline, Policy};
use crate::model::FunctionId;

/// Place of a job in the order of its queue; grows with each enqueued job.
pub(super) type Seq = i64;

/// First pause before a missing target is looked for again, milliseconds.
const RECHECK_FIRST_MS: i64 = 100;
/// Longest such pause, milliseconds.
const RECHECK_MOST_MS: i64 = 5_000;

/// What the schedule knows of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// Order.
    pub(super) seq: Seq,
    /// The function that does it.
    pub(super) target: FunctionId,
    /// Fifo group.
    pub(super) group: Option<Arc<str>>,
    /// Attempts spent.
    pub(super) attempts: u32,
    /// Not to be run before this time.
    pub(super) not_before: i64,
}

/// What a failed attempt means for its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Again, after a pause.
    Retry {
        /// Attempts spent, this one included.
        attempts: u32,
        /// Pause in milliseconds.
        pause_ms: u64,
    },
    /// No attempt is left.
    Dead {
        /// Attempts spent, this one included.
        attempts: u32,
    },
}

/// The jobs of one queue.
#[derive(Debug)]
pub(super) struct Schedule {
    policy: Policy,
    jobs: HashMap<Seq, Job>,
    groups: HashMap<Arc<str>, Group>,
    ready: BTreeSet<Seq>,
    delayed: BTreeSet<(i64, Seq)>,
    parked: HashMap<FunctionId, Parked>,
    running: BTreeSet<Seq>,
}

/// Jobs of a fifo group that do not run now, oldest first.
#[derive(Debug, Default)]
struct Group {
    waiting: BTreeSet<Seq>,
    // More than one only after the discipline was changed while jobs ran.
    running: usize,
}

/// Jobs whose target is not registered.
#[derive(Debug)]
struct Parked {
    jobs: BTreeSet<Seq>,
    pause_ms: i64,
    recheck_at: i64,
}

impl Schedule {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            jobs: HashMap::new(),
            groups: HashMap::new(),
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            parked: HashMap::new(),
            running: BTreeSet::new(),
        }
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Jobs that are not done, running ones included.
    pub(super) fn depth(&self) -> usize {
        self.jobs.len()
    }

    /// Adds a job.
    pub(super) fn push(&mut self, job: Job) {
        let seq = job.seq;
        if self.jobs.insert(seq, job).is_none() {
            self.place(seq);
        }
    }

    /// The oldest job that may run now, which then runs. A job whose target is missing is set aside instead.
    pub(super) fn lease(&mut self, now: i64, available: impl Fn(&str) -> bool) -> Option<Job> {
        self.promote(now);
        self.recheck(now, &available);
        if self.running.len() >= self.policy.concurrency {
            return None;
        }
        while let Some(seq) = self.ready.pop_first() {
            let Some(job) = self.jobs.get(&seq).cloned() else {
                continue;
            };
            if available(&job.target) {
                self.start(&job);
                return Some(job);
            }
            self.set_aside(&job, now);
        }
        None
    }

    /// What a failure of the running job means. Changes nothing: the verdict is stored first.
    pub(super) fn judge(&self, seq: Seq) -> Option<Verdict> {
        let attempts = self.jobs.get(&seq)?.attempts.saturating_add(1);
        Some(if attempts >= self.policy.max_attempts {
            Verdict::Dead { attempts }
        } else {
            Verdict::Retry {
                attempts,
                pause_ms: self.policy.pause_ms(attempts),
            }
        })
    }

    /// The running job waits for its next attempt.
    pub(super) fn retry(&mut self, seq: Seq, attempts: u32, not_before: i64) {
        if !self.stop(seq) {
            return;
        }
        if let Some(job) = self.jobs.get_mut(&seq) {
            job.attempts = attempts;
            job.not_before = not_before;
        }
        self.put_back(seq);
    }

    /// The target of the running job went away before it began: it waits, no attempt is spent.
    pub(super) fn park(&mut self, seq: Seq, now: i64) {
        if !self.stop(seq) {
            return;
        }
        self.put_back(seq);
        if self.ready.remove(&seq)
            && let Some(job) = self.jobs.get(&seq).cloned()
        {
            self.set_aside(&job, now);
        }
    }

    /// The running job is done or dead.
    pub(super) fn remove(&mut self, seq: Seq) {
        if !self.stop(seq) {
            return;
        }
        let Some(job) = self.jobs.remove(&seq) else { return };
        if let Some(name) = self.group_of(&job) {
            self.expose_head(&name);
        }
    }

    /// Functions were registered: jobs that wait for one are looked at again by the next lease.
    pub(super) fn targets_changed(&mut self) {
        for (_, parked) in self.parked.drain() {
            self.ready.extend(parked.jobs);
        }
    }

    /// When to look again although nothing happened.
    pub(super) fn next_wake(&self) -> Option<i64> {
        let delayed = self.delayed.first().map(|(at, _)| *at);
        let recheck = self.parked.values().map(|parked| parked.recheck_at).min();
        delayed.into_iter().chain(recheck).min()
    }

    /// Follows a changed declaration; running jobs go on.
    pub(super) fn set_policy(&mut self, policy: Policy) {
        if self.policy == policy {
            return;
        }
        self.policy = policy;
        self.groups.clear();
        self.ready.clear();
        self.delayed.clear();
        self.parked.clear();
        let running: Vec<_> = self
            .running
            .iter()
            .filter_map(|seq| self.jobs.get(seq))
            .cloned()
            .collect();
        for job in running {
            if let Some(name) = self.group_of(&job) {
                self.groups.entry(name).or_default().running += 1;
            }
        }
        let mut waiting: Vec<Seq> = self
            .jobs
            .keys()
            .filter(|seq| !self.running.contains(seq))
            .copied()
            .collect();
        waiting.sort_unstable();
        for seq in waiting {
            self.place(seq);
        }
    }

    fn group_of(&self, job: &Job) -> Option<Arc<str>> {
        match self.policy.discipline {
            Discipline::Fifo => job.group.clone(),
            Discipline::Standard => None,
        }
    }

    /// Puts a job that does not run where it belongs.
    fn place(&mut self, seq: Seq) {
        let Some(job) = self.jobs.get(&seq) else { return };
        let Some(name) = self.group_of(job) else {
            self.expose(seq);
            return;
        };
        let group = self.groups.entry(Arc::clone(&name)).or_default();
        let head = group.waiting.first().copied();
        group.waiting.insert(seq);
        if group.running > 0 || head.is_some_and(|head| head < seq) {
            return;
        }
        if let Some(head) = head {
            self.hide(head);
        }
        self.expose(seq);
    }

    /// Returns a job that ran; nothing of its group is exposed at that moment, and an older one may be waiting.
    fn put_back(&mut self, seq: Seq) {
        match self.jobs.get(&seq).and_then(|job| self.group_of(job)) {
            Some(name) => {
                self.groups
                    .entry(Arc::clone(&name))
                    .or_default()
                    .waiting
                    .insert(seq);
                self.expose_head(&name);
            }
            None => self.expose(seq),
        }
    }

    fn expose(&mut self, seq: Seq) {
        let Some(job) = self.jobs.get(&seq) else { return };
        // Due ones are found by the next lease.
        if job.not_before > 0 {
            self.delayed.insert((job.not_before, seq));
        } else {
            self.ready.insert(seq);
        }
    }

    fn hide(&mut self, seq: Seq) {
        self.ready.remove(&seq);
        if let Some(job) = self.jobs.get(&seq) {
            self.delayed.remove(&(job.not_before, seq));
            if let Some(parked) = self.parked.get_mut(&job.target) {
                parked.jobs.remove(&seq);
            }
        }
    }

    fn expose_head(&mut self, name: &Arc<str>) {
        let Some(group) = self.groups.get(name) else {
            return;
        };
        if group.running > 0 {
            return;
        }
        match group.waiting.first().copied() {
            Some(head) => self.expose(head),
            None => {
                self.groups.remove(name);
            }
        }
    }

    fn start(&mut self, job: &Job) {
        self.running.insert(job.seq);
        if let Some(name) = self.group_of(job) {
            let group = self.groups.entry(name).or_default();
            group.waiting.remove(&job.seq);
            group.running += 1;
        }
    }

    /// Takes a job out of the running ones; false when it was not one.
    fn stop(&mut self, seq: Seq) -> bool {
        if !self.running.remove(&seq) {
            return false;
        }
        if let Some(job) = self.jobs.get(&seq)
            && let Some(name) = self.group_of(job)
            && let Some(group) = self.groups.get_mut(&name)
        {
            group.running = group.running.saturating_sub(1);
        }
        true
    }

    fn set_aside(&mut self, job: &Job, now: i64) {
        let parked = self.parked.entry(job.target.clone()).or_insert_with(|| Parked {
            jobs: BTreeSet::new(),
            pause_ms: RECHECK_FIRST_MS,
            recheck_at: now.saturating_add(RECHECK_FIRST_MS),
        });
        parked.jobs.insert(job.seq);
    }

    fn promote(&mut self, now: i64) {
        while let Some((at, seq)) = self.delayed.first().copied() {
            if at > now {
                return;
            }
            self.delayed.pop_first();
            self.ready.insert(seq);
        }
    }

    fn recheck(&mut self, now: i64, available: &impl Fn(&str) -> bool) {
        let mut appeared = Vec::new();
        for (target, parked) in &mut self.parked {
            if parked.recheck_at > now {
                continue;
            }
            if parked.jobs.is_empty() || available(target) {
                appeared.push(target.clone());
            } else {
                parked.pause_ms = parked.pause_ms.saturating_mul(2).min(RECHECK_MOST_MS);
                parked.recheck_at = now.saturating_add(parked.pause_ms);
            }
        }
        for target in appeared {
            if let Some(parked) = self.parked.remove(&target) {
                self.ready.extend(parked.jobs);
            }
        }
    }
}

#[cfg(test)]
mod tests;
