//! How a call runs: here or over the transport, with a deadline, counted, its panic caught.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use tracing::Instrument;

use super::context::{CallContext, CallOptions};
use super::decode::strip_engine_members;
use super::function::Payload;
use super::registry::Entry;
use super::transport::Invocation;
use super::{Bus, to_json};
use crate::error::{Error, Result};
use crate::model::api::Contract;

/// A call whose caller knows the types. Nothing is serialised when the callee is here and of the same type.
pub(super) async fn typed<C: Contract>(
    bus: &Bus,
    context: &CallContext,
    id: &str,
    request: C::Request,
    options: CallOptions,
) -> Result<C::Response> {
    let payload = match bus.0.registry.get(id) {
        Some(entry) => {
            local(
                bus,
                &entry,
                Payload::typed(request),
                context.nested(&options),
                options.timeout,
            )
            .await?
        }
        None => Payload::Json(remote(bus, context, id, to_json(&request)?, &options).await?),
    };
    match payload.into_typed::<C::Response>()? {
        Ok(response) => Ok(response),
        Err(json) => serde_path_to_error::deserialize(json)
            .map_err(|error| Error::Unavailable(format!("unexpected answer of {id}: {error}"))),
    }
}

/// A call with JSON on both sides.
pub(super) async fn json(
    bus: &Bus,
    context: &CallContext,
    id: &str,
    payload: Value,
    options: CallOptions,
) -> Result<Value> {
    match bus.0.registry.get(id) {
        Some(entry) => {
            let context = context.nested(&options).with_ids_of(&payload);
            local(bus, &entry, Payload::Json(payload), context, options.timeout)
                .await?
                .into_json()
        }
        None => remote(bus, context, id, payload, &options).await,
    }
}

/// Begins a call now: where it leaves the process, its place among the others is taken at once.
pub(super) fn begin(
    bus: &Bus,
    context: &CallContext,
    id: &str,
    payload: Value,
) -> BoxFuture<'static, Result<Value>> {
    let context = context.nested(&CallOptions::default());
    let Some(entry) = bus.0.registry.get(id) else {
        return bus.0.transport.notify(Invocation {
            function_id: id.into(),
            payload,
            context,
        });
    };
    let (bus, context) = (bus.clone(), context.with_ids_of(&payload));
    async move {
        local(&bus, &entry, Payload::Json(payload), context, None)
            .await?
            .into_json()
    }
    .boxed()
}

/// A call that came from outside: no deadline of our own, the caller has one. What an engine added to the payload is
/// taken out, so that it is never stored or passed on.
pub(super) async fn serve(bus: &Bus, id: &str, mut payload: Value, context: CallContext) -> Result<Value> {
    strip_engine_members(&mut payload);
    let Some(entry) = bus.0.registry.get(id) else {
        return Err(Error::FunctionNotFound(id.to_owned()));
    };
    let _serving = bus.0.registry.serving();
    start(bus, &entry, Payload::Json(payload), context)
        .await?
        .into_json()
}

async fn local(
    bus: &Bus,
    entry: &Arc<Entry>,
    payload: Payload,
    context: CallContext,
    timeout: Option<Duration>,
) -> Result<Payload> {
    let limit = timeout.unwrap_or_else(|| bus.default_timeout());
    match tokio::time::timeout(limit, start(bus, entry, payload, context)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(timed_out(entry.function.id(), limit)),
    }
}

async fn remote(
    bus: &Bus,
    context: &CallContext,
    id: &str,
    payload: Value,
    options: &CallOptions,
) -> Result<Value> {
    let limit = options.timeout.unwrap_or_else(|| bus.default_timeout());
    let invocation = Invocation {
        function_id: id.into(),
        payload,
        context: context.nested(options),
    };
    let started = Instant::now();
    let call = bus.0.transport.call_within(invocation, limit);
    let outcome = match tokio::time::timeout(limit, call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(timed_out(id, limit)),
    };
    bus.0
        .registry
        .engine_calls()
        .record(outcome.is_ok(), started.elapsed());
    outcome
}

fn timed_out(id: &str, limit: Duration) -> Error {
    Error::Timeout {
        function: id.to_owned(),
        after_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Starts a handler of this process.
fn start(bus: &Bus, entry: &Arc<Entry>, payload: Payload, context: CallContext) -> Running {
    let span = tracing::info_span!(
        "execute",
        function = entry.function.id().as_str(),
        session_id = context.baggage.session_id.as_deref(),
    );
    let entry = Arc::clone(entry);
    let started = Instant::now();
    let work = {
        let bus = bus.clone();
        async move {
            let call = AssertUnwindSafe(entry.function.start(bus, context, payload));
            let outcome = match call.catch_unwind().await {
                Ok(outcome) => outcome,
                Err(panic) => Err(panicked(entry.function.id(), panic.as_ref())),
            };
            entry.calls.record(outcome.is_ok(), started.elapsed());
            outcome
        }
    };
    Running {
        work: Some(work.instrument(span).boxed()),
        bus: bus.clone(),
    }
}

fn panicked(id: &str, panic: &(dyn std::any::Any + Send)) -> Error {
    let detail = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    tracing::error!(function = id, detail, "handler panicked");
    Error::Panicked {
        function: id.to_owned(),
        detail,
    }
}

/// A handler at work. A caller that times out or goes away does not tear it: the rest runs on its own, as it would
/// behind an engine, so that no write of a handler is cut in half.
struct Running {
    work: Option<BoxFuture<'static, Result<Payload>>>,
    bus: Bus,
}

impl Future for Running {
    type Output = Result<Payload>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = self.work.as_mut() else {
            return Poll::Ready(Err(Error::Stopped));
        };
        let outcome = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(outcome)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.bus.spawn(work.map(|_| ()));
        }
    }
}
