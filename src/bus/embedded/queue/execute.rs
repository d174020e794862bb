//! One attempt of one job: load, call, store what became of it, and only then let the next one go.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::jobs::{self, Settlement};
use super::line::{Line, Ticker};
use super::schedule::{Job, Verdict};
use crate::bus::embedded::{Core, run};
use crate::bus::{CallContext, Invocation};
use crate::error::{Error, Result};

/// First pause before an outcome that could not be stored is stored again; doubles up to the most.
const STORE_AGAIN_FIRST: Duration = Duration::from_millis(100);
const STORE_AGAIN_MOST: Duration = Duration::from_secs(5);

/// Runs a leased job in a task of its own.
pub(super) fn start(core: &Arc<Core>, line: &Arc<Line>, ticker: Ticker, job: Job) {
    // Without a bus the process is ending; the lease is void at the next open.
    let Ok(bus) = core.bus() else { return };
    // Not waited for: the handler must not be later for it, and the answer comes in any case after it.
    drop(
        core.store
            .transact(move |connection| jobs::mark_running(connection, job.seq)),
    );
    let (core, line, stop) = (Arc::clone(core), Arc::clone(line), bus.shutdown_token().clone());
    bus.spawn(async move {
        let outcome = attempt(&core, &line, &job).await;
        settle(&core, &line, ticker, &job, outcome, &stop).await;
    });
}

async fn attempt(core: &Arc<Core>, line: &Line, job: &Job) -> Result<Value> {
    let seq = job.seq;
    let (payload, context) = core
        .store
        .read(move |connection| jobs::load(connection, seq))
        .await?;
    let limit = Duration::from_millis(line.schedule().policy().timeout_ms);
    let subscriber = line.subscribers().last().cloned();
    if let Some(binding) = subscriber
        && !run::condition_passes(core, &binding, &payload, &context).await?
    {
        return Ok(Value::Null);
    }
    let cancel = CancellationToken::new();
    let invocation = Invocation {
        function_id: job.target.clone(),
        payload,
        context: CallContext {
            cancel: Some(cancel.clone()),
            ..context
        },
    };
    let outcome = run::within(core, invocation, limit).await;
    if matches!(outcome, Err(Error::Timeout { .. })) {
        // The next attempt must not run beside this one if the handler can help it.
        cancel.cancel();
    }
    outcome
}

async fn settle(
    core: &Arc<Core>,
    line: &Line,
    ticker: Ticker,
    job: &Job,
    outcome: Result<Value>,
    stop: &CancellationToken,
) {
    let seq = job.seq;
    let error = match outcome {
        Ok(_) => {
            if store(core, job, Settlement::Done, stop).await {
                line.settle(|schedule| schedule.remove(seq));
            }
            return;
        }
        // Cut off by the end of the process: no attempt is spent, the lease is void at the next open.
        Err(Error::Stopped) if stop.is_cancelled() => return,
        Err(error) => error,
    };
    if error.is_function_not_found() && !core.knows(&job.target) {
        if store(core, job, Settlement::Untouched, stop).await {
            line.settle(|schedule| schedule.park(seq, ticker.now()));
        }
        return;
    }
    let verdict = line.schedule().judge(seq);
    match verdict {
        Some(Verdict::Retry { attempts, pause_ms }) => {
            tracing::info!(queue = %line.name, function = %job.target, attempts, pause_ms, %error, "job failed");
            let pause = i64::try_from(pause_ms).unwrap_or(i64::MAX);
            let settlement = Settlement::Retry {
                attempts,
                not_before_ms: wall_ms(core).saturating_add(pause),
                error: error.to_string(),
            };
            if store(core, job, settlement, stop).await {
                line.settle(|schedule| schedule.retry(seq, attempts, ticker.now().saturating_add(pause)));
            }
        }
        Some(Verdict::Dead { attempts }) => {
            tracing::warn!(queue = %line.name, function = %job.target, attempts, %error, "job is a dead letter");
            let settlement = Settlement::Dead {
                attempts,
                failed_at_ms: wall_ms(core),
                error: error.to_string(),
            };
            if store(core, job, settlement, stop).await {
                line.settle(|schedule| schedule.remove(seq));
            }
        }
        None => {}
    }
}

/// Stores an outcome, again and again if need be: a job whose outcome is not stored stays leased. False when the process
/// ended before.
async fn store(core: &Arc<Core>, job: &Job, settlement: Settlement, stop: &CancellationToken) -> bool {
    let seq = job.seq;
    let mut pause = STORE_AGAIN_FIRST;
    loop {
        let wanted = settlement.clone();
        let stored = core
            .store
            .transact(move |connection| jobs::settle(connection, seq, &wanted))
            .await;
        let Err(error) = stored else { return true };
        if stop.is_cancelled() {
            return false;
        }
        tracing::error!(function = %job.target, %error, "the outcome of a job could not be stored");
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = pause.saturating_mul(2).min(STORE_AGAIN_MOST);
    }
}

pub(super) fn wall_ms(core: &Core) -> i64 {
    core.bus().map_or(0, |bus| bus.now_ms())
}
