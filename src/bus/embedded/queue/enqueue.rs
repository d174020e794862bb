//! A job comes onto a named queue (contract 00 §6.3).

use std::sync::Arc;

use futures::FutureExt;
use serde_json::{Value, json};

use super::jobs::{self, Kind, NewJob};
use super::{MAX_DEPTH, line};
use crate::bus::embedded::store::Doc;
use crate::bus::embedded::{Core, carried, failed, with_code};
use crate::bus::{CallFuture, Invocation, strip_engine_members};
use crate::error::{Error, Result};

const CODE: &str = "enqueue_error";

/// Stores a job and answers its receipt. With a receipt of the caller's own, a repetition stores nothing.
pub(in crate::bus::embedded) fn enqueue(
    core: &Arc<Core>,
    queue: &str,
    receipt: Option<String>,
    invocation: Invocation,
) -> CallFuture {
    submit(core, queue, receipt, invocation).unwrap_or_else(failed)
}

fn submit(
    core: &Arc<Core>,
    queue: &str,
    receipt: Option<String>,
    invocation: Invocation,
) -> Result<CallFuture> {
    let line = core
        .queues
        .declared(queue)
        .ok_or_else(|| Error::coded(CODE, format!("Queue '{queue}' not found")))?;
    let bus = core.bus()?;
    let Invocation {
        function_id,
        mut payload,
        context,
    } = invocation;
    // Not part of the job (contract 00 §2.4).
    strip_engine_members(&mut payload);
    let group = line.schedule().policy().group(queue, &payload)?;
    if line.depth() >= MAX_DEPTH {
        return Err(Error::coded(
            CODE,
            format!("Queue '{queue}' is full ({MAX_DEPTH} jobs)"),
        ));
    }
    let id = receipt.unwrap_or_else(|| bus.uuid());
    let job = NewJob {
        id: id.clone(),
        kind: Kind::Named,
        line: queue.to_owned(),
        target: Some(function_id.to_string()),
        group,
        payload: Arc::new(Doc::new(Arc::new(payload)).map_err(with_code(CODE))?),
        context: carried(&context),
    };
    let (ticker, now_ms) = (core.queues.ticker, bus.now_ms());
    let pending = core.store.transact_then(
        move |connection| jobs::insert(connection, &job),
        move |stored| {
            if let Some(stored) = stored {
                line.push(line::job(stored, ticker, now_ms));
            }
        },
    );
    let answer = async move {
        pending.await.map_err(with_code(CODE))?;
        Ok::<Value, Error>(json!({ "messageReceiptId": id }))
    };
    Ok(answer.boxed())
}
