//! Calls that come in: off the SDK's thread at once, and never answered too early.

use std::future::Future;
use std::sync::{Arc, Weak};

use iii_sdk::{Error as SdkError, current_invocation};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Core, error};
use crate::bus::{Baggage, Bus, CallContext};
use crate::error::{Error, Result};
use crate::model::FunctionId;

/// What the SDK runs for a function of ours, on its one thread: it hands the call over and waits.
pub(super) fn handler(
    core: Weak<Core>,
    id: FunctionId,
) -> impl Fn(Value, Option<Value>) -> BoxedAnswer + Send + Sync + 'static {
    move |payload, metadata| {
        let (core, id) = (core.clone(), id.clone());
        Box::pin(async move {
            let arrived = Instant::now();
            let Some(core) = core.upgrade() else {
                return Err(error::to_sdk(&Error::Stopped));
            };
            let bus = core.bus().map_err(|error| error::to_sdk(&error))?;
            let socket = core.link.socket();
            let context = context_of(metadata);
            let holdback = core.options.result_holdback;
            let (answer, answered) = oneshot::channel();
            bus.spawn({
                let bus = bus.clone();
                async move {
                    let outcome = run(&bus, &id, payload, context, arrived + holdback).await;
                    answer.send(outcome).ok();
                }
            });
            let outcome = answered.await.unwrap_or(Err(Error::Stopped));
            if core.link.socket() != socket {
                // The engine has told the caller already; the SDK would keep the result for the next connection.
                return Err(error::to_sdk(&Error::Stopped));
            }
            outcome.map_err(|error| error::to_sdk(&error))
        })
    }
}

type BoxedAnswer = std::pin::Pin<Box<dyn Future<Output = Result<Value, SdkError>> + Send>>;

async fn run(
    bus: &Bus,
    id: &FunctionId,
    payload: Value,
    context: CallContext,
    earliest: Instant,
) -> Result<Value> {
    let outcome = bus.serve(id, payload, context).await;
    // An engine may send the call before it knows it; a result that is back first is lost (contract 00 §2.7).
    if earliest > Instant::now() {
        tokio::time::sleep_until(earliest).await;
    }
    outcome
}

/// What came beside the payload. Must run inside the SDK's own task.
fn context_of(metadata: Option<Value>) -> CallContext {
    let (traceparent, baggage) = current_invocation()
        .map(|invocation| (invocation.traceparent, invocation.baggage))
        .unwrap_or_default();
    CallContext {
        baggage: baggage.as_deref().map(Baggage::parse).unwrap_or_default(),
        metadata: metadata.filter(|metadata| !metadata.is_null()).map(Arc::new),
        traceparent: traceparent.filter(|text| !text.is_empty()).map(Arc::from),
        cancel: None,
        batch: None,
    }
}
