//! `engine::*` functions that do something: channels, bindings, the worker's own entry, logs (contract 00 §1.5, §3.1, §8, §10).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::trigger::{Event, Owner};
use super::{Builtin, Core, answer, failed, input, introspect, peer};
use crate::bus::channel::MAX_UNTAKEN;
use crate::bus::{CallContext, CallFuture, ChannelOptions, Invocation, TriggerSpec};
use crate::error::{Error, Result};
use crate::model::lenient;

const PART: &str = "iii-engine";

/// `engine::functions-available` fires at most this often.
const FUNCTIONS_CHANGED_EVERY: Duration = Duration::from_secs(5);

/// A worker that connects registers its functions one by one; they make one event.
const REGISTRATIONS_SETTLE: Duration = Duration::from_millis(100);

/// How long the maker of a binding waits for an outside provider, which counts as accepted then (contract 00 §1.8).
const PROVIDER_ANSWERS_WITHIN: Duration = Duration::from_secs(10);

macro_rules! log_function {
    ($id:literal, $level:ident) => {
        Builtin {
            id: $id,
            description: concat!("Write a line of level ", stringify!($level), " to the log"),
            part: PART,
            handler: |_, call| {
                answer(input::<Line>($id, call.payload).map(|line| {
                    let Line {
                        message,
                        data,
                        trace_id,
                        span_id,
                        service_name,
                    } = line;
                    let data = data.map(|data| data.to_string());
                    tracing::event!(
                        tracing::Level::$level,
                        service_name,
                        trace_id,
                        span_id,
                        data,
                        "{message}"
                    );
                    Value::Null
                }))
            },
        }
    };
}

pub(super) const FUNCTIONS: &[Builtin] = &[
    Builtin {
        id: "engine::channels::create",
        description: "Create a data channel between two ends",
        part: PART,
        handler: |core, call| answer(create_channel(core, call)),
    },
    Builtin {
        id: "engine::register_trigger",
        description: "Bind a trigger to a function",
        part: PART,
        handler: |core, call| register_trigger(core, call).unwrap_or_else(failed),
    },
    Builtin {
        id: "engine::unregister_trigger",
        description: "Take a trigger binding away",
        part: PART,
        handler: |core, call| answer(unregister_trigger(core, call)),
    },
    Builtin {
        id: "engine::workers::register",
        description: "Tell the engine about the calling worker",
        part: PART,
        handler: |core, call| answer(register_worker(core, call)),
    },
    log_function!("engine::log::trace", TRACE),
    log_function!("engine::log::debug", DEBUG),
    log_function!("engine::log::info", INFO),
    log_function!("engine::log::warn", WARN),
    log_function!("engine::log::error", ERROR),
];

#[derive(Deserialize)]
struct Line {
    message: String,
    #[serde(default)]
    data: Option<Value>,
    #[serde(default, deserialize_with = "lenient::optional")]
    trace_id: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    span_id: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    service_name: Option<String>,
}

#[derive(Deserialize)]
struct CreateChannel {
    #[serde(default)]
    buffer_size: Option<u64>,
}

fn create_channel(core: &Core, call: Invocation) -> Result<Value> {
    let request: CreateChannel = input("engine::channels::create", call.payload)?;
    let mut options = ChannelOptions::default();
    if let Some(size) = request.buffer_size {
        // The channel clamps what is too large.
        options.buffer = usize::try_from(size).unwrap_or(usize::MAX);
    }
    let bus = core.bus()?;
    if bus.channels().count() >= MAX_UNTAKEN && bus.channels().untaken() >= MAX_UNTAKEN {
        let why = format!("{MAX_UNTAKEN} channels wait for somebody to open them already");
        return Err(Error::Unavailable(why));
    }
    let pair = bus.create_channel(options);
    Ok(json!({ "writer": pair.writer, "reader": pair.reader }))
}

#[derive(Deserialize)]
struct RegisterTrigger {
    trigger_type: String,
    function_id: String,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    metadata: Option<Value>,
}

fn register_trigger(core: &Arc<Core>, call: Invocation) -> Result<CallFuture> {
    let request: RegisterTrigger = input("engine::register_trigger", call.payload)?;
    let id = core.bus()?.uuid();
    let spec = TriggerSpec {
        id: id.clone(),
        trigger_type: request.trigger_type,
        function_id: request.function_id.into(),
        config: request.config,
        metadata: request.metadata,
    };
    let is_outside = core.triggers.is_outside(&spec.trigger_type);
    let verdict = is_outside.then(|| core.triggers.expect_verdict(&id));
    core.triggers.bind(core, spec, Owner::Nobody, 0)?;
    let answer = async move {
        if let Some(verdict) = verdict
            && let Ok(Ok(Err(why))) = tokio::time::timeout(PROVIDER_ANSWERS_WITHIN, verdict).await
        {
            return Err(Error::coded("trigger_registration_failed", why));
        }
        Ok(json!({ "id": id }))
    };
    Ok(answer.boxed())
}

#[derive(Deserialize)]
struct UnregisterTrigger {
    id: String,
}

fn unregister_trigger(core: &Core, call: Invocation) -> Result<Value> {
    let request: UnregisterTrigger = input("engine::unregister_trigger", call.payload)?;
    let removed = core.triggers.unbind_for_others(&request.id)?;
    Ok(json!({ "removed": removed }))
}

#[derive(Deserialize)]
struct RegisterWorker {
    #[serde(default, deserialize_with = "lenient::optional", rename = "_caller_worker_id")]
    caller: Option<String>,
}

/// The listener answers for outside workers through [`peer::PeerHandle::describe`]; here it is the program that speaks,
/// and what it is called is settled by its configuration.
fn register_worker(core: &Core, call: Invocation) -> Result<Value> {
    let request: RegisterWorker = input("engine::workers::register", call.payload)?;
    let program = core.peers.program().ok_or(Error::Stopped)?;
    let id = request.caller.as_deref().unwrap_or(&program.id);
    peer::announce(core, "worker_metadata_updated", id);
    Ok(json!({ "success": true }))
}

/// The state of the trigger type `engine::functions-available`.
#[derive(Debug, Default)]
pub(super) struct FunctionsEvent {
    /// One is on its way.
    is_pending: AtomicBool,
    last: Mutex<Option<Instant>>,
}

impl FunctionsEvent {
    /// How long the next one has to wait.
    fn pause(&self) -> Duration {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = last.map_or(FUNCTIONS_CHANGED_EVERY, |last| last.elapsed());
        FUNCTIONS_CHANGED_EVERY
            .saturating_sub(passed)
            .max(REGISTRATIONS_SETTLE)
    }

    fn fires(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.is_pending.store(false, Ordering::Release);
    }
}

/// Fires `engine::functions-available` soon, but not more often than it may; several changes give one event.
pub(super) fn functions_changed(core: &Arc<Core>) {
    core.queues.targets_changed();
    let Ok(bus) = core.bus() else { return };
    if core
        .triggers
        .bindings_of("engine::functions-available")
        .is_empty()
        || core.functions_event.is_pending.swap(true, Ordering::AcqRel)
    {
        return;
    }
    let pause = core.functions_event.pause();
    let core = Arc::downgrade(core);
    let stop = bus.shutdown_token().clone();
    bus.spawn(async move {
        if tokio::time::timeout(pause, stop.cancelled()).await.is_ok() {
            return;
        }
        let Some(core) = core.upgrade() else { return };
        core.functions_event.fires();
        let payload = json!({ "event": "functions_changed", "functions": introspect::all_rows(&core) });
        let event = Event::new(CallContext::default(), 0, move || Ok(payload.clone()));
        core.triggers.broadcast("engine::functions-available", &event);
    });
}
