//! Lanes: the events of one ordering key on their way to one subscriber, one after the other.
//!
//! A lane exists while it has work; then its task ends and its memory goes. A lane that is full, and a subscriber whose
//! events keep too much memory, lose the newest event: the writer is never held up.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::{Binding, Event};
use crate::bus::embedded::{Core, EmbeddedOptions};
use crate::bus::{CallContext, Invocation};
use crate::error::{Error, Result};
use crate::model::FunctionId;

/// Events that may wait per subscriber and ordering key.
const MAX_WAITING: usize = 16_384;

pub(super) struct Lanes {
    inner: Mutex<Inner>,
    timeout: Duration,
    max_bytes: usize,
}

#[derive(Default)]
struct Inner {
    /// Events that wait, by their ordering key.
    lanes: HashMap<Box<str>, VecDeque<Arc<Event>>>,
    /// What the events of all lanes keep in memory, those that are handled now included.
    bytes: usize,
    /// It was said that events are dropped.
    warned: bool,
}

/// Where an event goes.
enum Place {
    /// Into a lane of its own, whose work begins.
    Begins,
    /// Behind others.
    Waits,
    /// There is none; whether that was not said yet.
    None { is_news: bool },
}

impl Lanes {
    pub(super) fn new(options: &EmbeddedOptions) -> Self {
        Self {
            inner: Mutex::default(),
            timeout: options.trigger_timeout,
            max_bytes: options.waiting_event_bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After an event was handled: the next one of its lane. The lane is gone when there is none.
    fn next(&self, key: &str, handled: Arc<Event>) -> Option<Arc<Event>> {
        let mut inner = self.lock();
        inner.bytes -= handled.bytes;
        drop(handled);
        let event = inner.lanes.get_mut(key).and_then(VecDeque::pop_front);
        if event.is_none() {
            inner.lanes.remove(key);
            inner.warned &= !inner.lanes.is_empty();
        }
        event
    }

    fn take_in(&self, key: &str, event: &Arc<Event>) -> Place {
        let mut inner = self.lock();
        let lane = inner.lanes.get(key);
        // One event of any size is taken when nothing else waits.
        let is_full = lane.is_some_and(|lane| lane.len() >= MAX_WAITING)
            || (inner.bytes > 0 && inner.bytes + event.bytes > self.max_bytes);
        if is_full {
            let is_news = !std::mem::replace(&mut inner.warned, true);
            return Place::None { is_news };
        }
        inner.bytes += event.bytes;
        if let Some(lane) = inner.lanes.get_mut(key) {
            lane.push_back(Arc::clone(event));
            return Place::Waits;
        }
        inner.lanes.insert(key.into(), VecDeque::new());
        Place::Begins
    }
}

pub(super) fn deliver(core: &Arc<Core>, binding: &Arc<Binding>, key: &str, event: &Arc<Event>) {
    let Ok(bus) = core.bus() else { return };
    match binding.lanes.take_in(key, event) {
        Place::Waits => return,
        Place::Begins => {}
        Place::None { is_news } => {
            core.triggers.count_dropped();
            if is_news {
                let (trigger, function) = (&binding.spec.id, &binding.spec.function_id);
                tracing::warn!(%trigger, %function, key, "the subscriber cannot keep up, events are dropped");
            }
            return;
        }
    }
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
            next = binding.lanes.next(&key, event);
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
