//! Calls of one batch under way: bounded, each marked as started in the stored record before it is dispatched.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::oneshot;

use super::dispatch;
use super::record::TurnRecord;
use super::session::Session;
use super::stop::Answer;
use super::work::ExecutedCall;
use crate::bus::Write;
use crate::error::{Error, Result};
use crate::model::{AgentEvent, CallId, FunctionCall, FunctionResult};

/// Calls of this process that watch their cancel token have so long to end before a stopped run goes on without them.
const LAST_MOMENT: Duration = Duration::from_millis(250);

/// Calls waiting to be dispatched, and those that are.
pub(super) struct Flight {
    waiting: VecDeque<FunctionCall>,
    running: FuturesUnordered<Landing>,
    ids: Vec<CallId>,
    limit: usize,
    /// A result has come in that is not stored yet.
    unstored: bool,
}

type Landing = futures::future::BoxFuture<'static, ExecutedCall>;

impl Flight {
    pub(super) fn new(session: &Session) -> Self {
        Self {
            waiting: VecDeque::new(),
            running: FuturesUnordered::new(),
            ids: Vec::new(),
            limit: session.cx.config().turn.parallel_calls,
            unstored: false,
        }
    }

    /// Queues a call.
    pub(super) fn queue(&mut self, call: FunctionCall) {
        self.ids.push(call.id.clone());
        self.waiting.push_back(call);
    }

    /// Whether a call that is queued now is dispatched at once.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() + self.running.len() < self.limit
    }

    /// Whether a call waits or runs.
    pub(super) fn has(&self, id: &CallId) -> bool {
        self.ids.contains(id)
    }

    /// Whether nothing waits and nothing runs.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Stores the record, with the next calls marked as started in it, then dispatches them.
    pub(super) async fn launch(
        &mut self,
        session: &mut Session,
        record: &mut TurnRecord,
        writes: Vec<Write>,
        events: Vec<AgentEvent>,
    ) -> Result<()> {
        let free = self
            .limit
            .saturating_sub(self.running.len())
            .min(self.waiting.len());
        let next: Vec<FunctionCall> = self.waiting.drain(..free).collect();
        if next.is_empty() && writes.is_empty() && events.is_empty() && !self.unstored {
            return Ok(());
        }
        let now = session.cx.now_ms();
        let work = record
            .work
            .as_mut()
            .ok_or_else(|| Error::invalid("record has no work"))?;
        work.started
            .extend(next.iter().map(|call| (call.id.clone(), now)));
        session.checkpoint(record, writes, events).await?;
        self.unstored = false;
        if session.stop.is_asked() {
            // Marked, but not dispatched: these have certainly not run.
            if let Some(work) = &mut record.work {
                work.started
                    .retain(|id, _| next.iter().all(|call| call.id != *id));
            }
            return Ok(());
        }
        for call in next {
            self.running.push(dispatch_one(session, record, call));
        }
        Ok(())
    }

    /// The run is to stop. Nothing waits to be dispatched any more, and what runs has been told so by its cancel token. That
    /// is stored, so that a crash from here on leaves a run that ends; then the calls have a moment to do so. What they
    /// answer is dropped: nobody can tell how much of them took effect.
    pub(super) async fn stop(&mut self, session: &mut Session, record: &mut TurnRecord) -> Result<()> {
        self.waiting.clear();
        if self.running.is_empty() {
            return Ok(());
        }
        record.aborted_at_ms = Some(session.cx.now_ms());
        session.checkpoint(record, Vec::new(), Vec::new()).await?;
        session.stop.answer(Answer {
            aborted: true,
            state: Some(record.state),
        });
        let ended = async { while self.running.next().await.is_some() {} };
        if tokio::time::timeout(LAST_MOMENT, ended).await.is_err() {
            tracing::info!(session_id = %session.id, left = self.running.len(), "calls of a stopped run go on");
        }
        Ok(())
    }

    /// The next call that has its result; waits for it. Never when nothing runs.
    pub(super) async fn landed(&mut self) -> ExecutedCall {
        match self.running.next().await {
            Some(executed) => self.take(executed),
            None => std::future::pending().await,
        }
    }

    /// A call that has its result by now.
    pub(super) fn landed_already(&mut self) -> Option<ExecutedCall> {
        let executed = self.running.next().now_or_never().flatten()?;
        Some(self.take(executed))
    }

    fn take(&mut self, executed: ExecutedCall) -> ExecutedCall {
        self.ids.retain(|id| *id != executed.call.id);
        self.unstored = true;
        executed
    }
}

/// Runs a call on a task of its own, so that calls of one batch use more than one core.
fn dispatch_one(session: &Session, record: &TurnRecord, call: FunctionCall) -> Landing {
    let began = Instant::now();
    let (result, landed) = oneshot::channel();
    let (cx, key, target) = (session.cx.clone(), record.idempotency_key(&call.id), call.clone());
    let stop = session.stop.token();
    session.cx.spawn(async move {
        let outcome = dispatch::call(&cx, target, key, stop).await;
        if outcome.is_none_or(|outcome| result.send(outcome).is_err()) {
            tracing::debug!("the result of a call has no taker");
        }
    });
    Box::pin(async move {
        let result = landed.await.unwrap_or_else(|_| interrupted(&call));
        executed(call, result, dispatch::duration_ms(began))
    })
}

/// A call with its result.
pub(super) fn executed(call: FunctionCall, result: FunctionResult, duration_ms: i64) -> ExecutedCall {
    let is_error = result.is_error();
    ExecutedCall {
        call,
        result,
        is_error,
        duration_ms,
    }
}

/// A call that never ran, or was cut off: it failed, whatever its details say.
pub(super) fn failed(call: FunctionCall, result: FunctionResult) -> ExecutedCall {
    ExecutedCall {
        is_error: true,
        ..executed(call, result, 0)
    }
}

/// The result of a call that was started and whose end nobody saw. It is not run again: that is for the model to decide.
pub(super) fn interrupted(call: &FunctionCall) -> FunctionResult {
    FunctionResult::error_code(
        "interrupted",
        &call.function_id,
        "The call was started, then interrupted before its result was seen. Whether it took effect is unknown. Check \
         before calling it again.",
    )
}

/// The events of a call that begins and of one that ends.
pub(super) fn start_event(call: &FunctionCall) -> AgentEvent {
    AgentEvent::FunctionExecutionStart {
        function_call_id: call.id.clone(),
        function_id: call.function_id.clone(),
        args: call.arguments.clone(),
    }
}

pub(super) fn end_event(executed: &ExecutedCall) -> AgentEvent {
    AgentEvent::FunctionExecutionEnd {
        function_call_id: executed.call.id.clone(),
        function_id: executed.call.function_id.clone(),
        result: executed.result.clone(),
        is_error: executed.is_error,
        duration_ms: executed.duration_ms,
    }
}
