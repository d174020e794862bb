//! Trigger type `cron` (contract 00 §10): one task per binding.
//!
//! The next run is computed when the handler has answered or is late, so that a slow handler skips runs and never stops
//! the job. Sleeping uses tokio time, what is due is told by the clock; a long sleep looks at the clock in between, so that
//! a clock that is set, or a machine that slept, is noticed.

mod expression;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::trigger::{Binding, Provider, text_member};
use super::{Core, run};
use crate::bus::{CallContext, Invocation, TriggerSpec};

use expression::{Expression, rfc3339};

/// What the trigger type fires on.
pub(super) const TRIGGER: &str = "Fires at the times of a cron expression of 6 or 7 fields, in UTC";

/// Longest sleep without a look at the clock, milliseconds.
const LONGEST_SLEEP_MS: i64 = 60_000;

/// All jobs.
#[derive(Default)]
pub(super) struct Cron {
    jobs: Mutex<HashMap<String, Job>>,
    core: OnceLock<Weak<Core>>,
}

struct Job {
    binding: Arc<Binding>,
    /// Set when the job ends or the engine goes.
    stop: CancellationToken,
}

impl Cron {
    /// Begins with the jobs that are bound already.
    pub(super) fn start(&self, core: &Arc<Core>) {
        self.core.get_or_init(|| Arc::downgrade(core));
        for job in self.lock().values() {
            begin(core, job);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cron {
    fn drop(&mut self) {
        for job in self.lock().values() {
            job.stop.cancel();
        }
    }
}

fn expression_of(spec: &TriggerSpec) -> Result<Expression, String> {
    let text = text_member(&spec.config, "expression")?
        .ok_or_else(|| "config: expression is required".to_owned())?;
    text.parse::<Expression>().map_err(|error| error.to_string())
}

impl Provider for Cron {
    fn check(&self, spec: &TriggerSpec) -> Result<(), String> {
        expression_of(spec).map(|_| ())
    }

    fn bind(&self, binding: &Arc<Binding>) {
        let job = Job {
            binding: Arc::clone(binding),
            stop: CancellationToken::new(),
        };
        if let Some(core) = self.core.get().and_then(Weak::upgrade) {
            begin(&core, &job);
        }
        self.lock().insert(binding.spec.id.clone(), job);
    }

    fn unbind(&self, binding: &Arc<Binding>) {
        let mut jobs = self.lock();
        if jobs
            .get(&binding.spec.id)
            .is_some_and(|job| Arc::ptr_eq(&job.binding, binding))
            && let Some(job) = jobs.remove(&binding.spec.id)
        {
            job.stop.cancel();
        }
    }
}

fn begin(core: &Arc<Core>, job: &Job) {
    let (Ok(bus), Ok(expression)) = (core.bus(), expression_of(&job.binding.spec)) else {
        return;
    };
    let (binding, stop) = (Arc::clone(&job.binding), job.stop.clone());
    let (ending, core) = (bus.shutdown_token().clone(), Arc::downgrade(core));
    bus.spawn(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = ending.cancelled() => {}
            () = work(core, &binding, &expression) => {}
        }
    });
}

/// Runs the job until it has no more due times.
async fn work(core: Weak<Core>, binding: &Arc<Binding>, expression: &Expression) {
    let mut last = i64::MIN;
    while let Some(now) = now_ms(&core) {
        // The clock may be a little behind the sleep. Much behind means that it was set: then the past is forgotten.
        let after = if last.saturating_sub(now) > LONGEST_SLEEP_MS {
            now
        } else {
            last.max(now)
        };
        let Some(due) = expression.next_after(after) else {
            tracing::info!(trigger = %binding.spec.id, "the cron job has no more runs");
            return;
        };
        sleep_until(&core, due).await;
        last = due;
        if let Some(core) = core.upgrade() {
            fire(&core, binding, due).await;
        }
    }
}

/// Sleeps until the clock shows a time. The last stretch is not checked again: tokio's time and the clock may differ a
/// little.
async fn sleep_until(core: &Weak<Core>, due: i64) {
    while let Some(now) = now_ms(core) {
        let left = due.saturating_sub(now).max(0);
        let step = left.min(LONGEST_SLEEP_MS);
        tokio::time::sleep(Duration::from_millis(u64::try_from(step).unwrap_or_default())).await;
        if step == left {
            return;
        }
    }
}

async fn fire(core: &Arc<Core>, binding: &Arc<Binding>, due: i64) {
    let spec = &binding.spec;
    let Ok(actual) = core.bus().map(|bus| bus.now_ms()) else {
        return;
    };
    let payload = json!({
        "trigger": "cron",
        "job_id": spec.id,
        "scheduled_time": rfc3339(due),
        "actual_time": rfc3339(actual),
    });
    let context = CallContext {
        metadata: spec.metadata.clone().map(Arc::new),
        ..CallContext::default()
    };
    if let Err(error) = call(core, binding, payload, context).await {
        tracing::warn!(trigger = %spec.id, function = %spec.function_id, %error, "cron job failed");
    }
}

async fn call(
    core: &Arc<Core>,
    binding: &Binding,
    payload: Value,
    context: CallContext,
) -> crate::error::Result<()> {
    if !run::condition_passes(core, binding, &payload, &context).await? {
        return Ok(());
    }
    let invocation = Invocation {
        function_id: binding.spec.function_id.clone(),
        payload,
        context,
    };
    run::within(core, invocation, core.options.trigger_timeout)
        .await
        .map(|_| ())
}

fn now_ms(core: &Weak<Core>) -> Option<i64> {
    core.upgrade()
        .and_then(|core| core.bus().ok())
        .map(|bus| bus.now_ms())
}
