//! Lanes: the events of one ordering key on their way to one subscriber, one after the other.
//!
//! A lane exists while it has work; then its task ends and its memory goes. A lane that is full drops the newest event:
//! the writer is never held up.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::{Binding, Event};
use crate::bus::embedded::Core;
use crate::bus::{CallContext, Invocation};
use crate::error::{Error, Result};
use crate::model::FunctionId;

/// Events that may wait per subscriber and ordering key.
const MAX_WAITING: usize = 16_384;

pub(super) struct Lanes {
    lanes: Mutex<HashMap<Box<str>, Lane>>,
    timeout: Duration,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Arc<Event>>,
    warned: bool,
}

impl Lanes {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            lanes: Mutex::default(),
            timeout,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next event of a lane; the lane is gone when there is none.
    fn next(&self, key: &str) -> Option<Arc<Event>> {
        let mut lanes = self.lock();
        let event = lanes.get_mut(key).and_then(|lane| lane.waiting.pop_front());
        if event.is_none() {
            lanes.remove(key);
        }
        event
    }
}

pub(super) fn deliver(core: &Arc<Core>, binding: &Arc<Binding>, key: &str, event: &Arc<Event>) {
    let Ok(bus) = core.bus() else { return };
    let mut lanes = binding.lanes.lock();
    if let Some(lane) = lanes.get_mut(key) {
        if lane.waiting.len() < MAX_WAITING {
            lane.waiting.push_back(Arc::clone(event));
            return;
        }
        core.triggers.count_dropped();
        if !std::mem::replace(&mut lane.warned, true) {
            tracing::warn!(
                trigger = %binding.spec.id,
                function = %binding.spec.function_id,
                key,
                waiting = MAX_WAITING,
                "the subscriber cannot keep up, events are dropped"
            );
        }
        return;
    }
    lanes.insert(key.into(), Lane::default());
    drop(lanes);
    let (core, binding, key, first) = (
        Arc::clone(core),
        Arc::clone(binding),
        Box::from(key),
        Arc::clone(event),
    );
    bus.spawn(async move {
        let key: Box<str> = key;
        let mut next = Some(first);
        while let Some(event) = next {
            handle(&core, &binding, &event).await;
            drop(event);
            next = binding.lanes.next(&key);
        }
    });
}

async fn handle(core: &Arc<Core>, binding: &Binding, event: &Event) {
    if !binding.is_alive() {
        return;
    }
    let function = &binding.spec.function_id;
    if let Some(condition) = &binding.condition {
        match call(core, binding, condition, event).await {
            Ok(Value::Bool(false)) => return,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(trigger = %binding.spec.id, %condition, %error, "condition failed, event skipped");
                return;
            }
        }
    }
    if let Err(error) = call(core, binding, function, event).await {
        tracing::debug!(trigger = %binding.spec.id, %function, %error, "event handler failed");
    }
}

async fn call(core: &Arc<Core>, binding: &Binding, function: &FunctionId, event: &Event) -> Result<Value> {
    let invocation = Invocation {
        function_id: function.clone(),
        payload: (event.payload)()?,
        context: CallContext {
            metadata: binding.metadata.clone(),
            ..event.context.clone()
        },
    };
    let timeout = binding.lanes.timeout;
    if let Ok(outcome) = tokio::time::timeout(timeout, core.invoke_for(&binding.owner, invocation)).await {
        return outcome;
    }
    tracing::warn!(trigger = %binding.spec.id, %function, "event handler is late, the next event is sent");
    Err(Error::Timeout {
        function: function.to_string(),
        after_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    })
}
