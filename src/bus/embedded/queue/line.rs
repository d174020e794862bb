//! One line of jobs, a named queue or one subscriber's copy of a topic, and the task that starts them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::execute;
use super::policy::Policy;
use super::schedule::{Job, Schedule, Seq};
use crate::bus::embedded::Core;
use crate::bus::embedded::trigger::Binding;

/// Time that only goes forward, in milliseconds; tests can pause it. Starts at 1: a `not_before` of 0 is always over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticker(Instant);

impl Ticker {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(&self) -> i64 {
        i64::try_from(self.0.elapsed().as_millis()).map_or(i64::MAX, |ms| ms.saturating_add(1))
    }

    fn instant(&self, at: i64) -> Instant {
        let ms = u64::try_from(at.saturating_sub(1)).unwrap_or_default();
        self.0
            .checked_add(Duration::from_millis(ms))
            .unwrap_or_else(|| Instant::now() + Duration::from_hours(24))
    }
}

/// A line of jobs.
#[derive(Debug)]
pub(super) struct Line {
    /// Queue or topic.
    pub(super) name: String,
    schedule: Mutex<Schedule>,
    /// Declared, or subscribed to; else its jobs stay where they are.
    open: AtomicBool,
    /// Bindings that feed this copy of a topic, the newest last: its settings count. Empty for a named queue.
    subscribers: Mutex<Vec<Arc<Binding>>>,
    targets_changed: AtomicBool,
    running: AtomicBool,
    wake: Notify,
}

impl Line {
    pub(super) fn new(name: &str, policy: Policy) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            schedule: Mutex::new(Schedule::new(policy)),
            open: AtomicBool::new(false),
            subscribers: Mutex::default(),
            targets_changed: AtomicBool::new(false),
            running: AtomicBool::new(false),
            wake: Notify::new(),
        })
    }

    pub(super) fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribers(&self) -> MutexGuard<'_, Vec<Arc<Binding>>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Lets its jobs run under a policy.
    pub(super) fn open(&self, policy: Policy) {
        self.schedule().set_policy(policy);
        self.open.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Keeps its jobs where they are; running ones go on.
    pub(super) fn close(&self) {
        self.open.store(false, Ordering::Release);
    }

    pub(super) fn push(&self, job: Job) {
        self.schedule().push(job);
        self.wake.notify_one();
    }

    /// Changes the place of a job that ran, and lets the next one go.
    pub(super) fn settle(&self, change: impl FnOnce(&mut Schedule)) {
        change(&mut self.schedule());
        self.wake.notify_one();
    }

    /// A function was registered somewhere.
    pub(super) fn targets_changed(&self) {
        self.targets_changed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Jobs that are not done.
    pub(super) fn depth(&self) -> usize {
        self.schedule().depth()
    }

    /// Starts the task of this line, once.
    pub(super) fn run(self: &Arc<Self>, core: &Arc<Core>, ticker: Ticker, stop: &CancellationToken) {
        let Ok(bus) = core.bus() else { return };
        if self.running.swap(true, Ordering::AcqRel) {
            return;
        }
        // The task must not keep the engine alive, or its store would never be closed.
        bus.spawn(work(Arc::clone(self), Arc::downgrade(core), ticker, stop.clone()));
    }

    /// Starts all jobs that may run; answers when to look again although nothing happened.
    fn start_jobs(self: &Arc<Self>, core: &Arc<Core>, ticker: Ticker) -> Option<i64> {
        if !self.is_open() {
            return None;
        }
        if self.targets_changed.swap(false, Ordering::AcqRel) {
            self.schedule().targets_changed();
        }
        let now = ticker.now();
        while let Some(job) = self.lease(core, now) {
            execute::start(core, self, ticker, job);
        }
        self.schedule().next_wake()
    }

    fn lease(&self, core: &Arc<Core>, now: i64) -> Option<Job> {
        self.schedule().lease(now, |target| core.knows(target))
    }
}

async fn work(line: Arc<Line>, core: Weak<Core>, ticker: Ticker, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let wake = match core.upgrade() {
            Some(core) => line.start_jobs(&core, ticker),
            None => return,
        };
        let pause = async {
            match wake {
                Some(at) => tokio::time::sleep_until(ticker.instant(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = line.wake.notified() => {}
            () = pause => {}
        }
    }
}

/// A job as the schedule takes it.
pub(super) fn job(stored: &super::jobs::Stored, ticker: Ticker, wall_ms: i64) -> Job {
    let pause = stored.not_before_ms.saturating_sub(wall_ms);
    let seq: Seq = stored.seq;
    Job {
        seq,
        target: stored.target.as_str().into(),
        group: stored.group.as_deref().map(Arc::from),
        attempts: stored.attempts,
        not_before: if pause > 0 {
            ticker.now().saturating_add(pause)
        } else {
            0
        },
    }
}
