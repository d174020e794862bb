//! Functions about dead letters (contract 00 §6.6). A name means the queue and the topic that have it.

use std::sync::Arc;

use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::functions::{BROKER, OfTopic};
use super::jobs::{self, DeadLetter, Stored};
use super::line;
use crate::bus::embedded::{Core, failed, input, with_code};
use crate::bus::{CallFuture, Invocation};
use crate::error::{Error, Result};

/// Dead letters of one answer when the caller does not say.
const PAGE: u32 = 50;
/// Most dead letters of one answer.
const MAX_PAGE: u32 = 1_000;

pub(super) fn topics(core: &Arc<Core>) -> CallFuture {
    let lines = core.store.read(jobs::dead_lines);
    let answer = async move {
        let row = |(topic, count): (String, i64)| json!({ "topic": topic, "broker_type": BROKER, "message_count": count });
        lines
            .await
            .map(|lines| lines.into_iter().map(row).collect())
            .map_err(with_code("dlq_topics_failed"))
    };
    answer.boxed()
}

pub(super) fn messages(core: &Arc<Core>, id: &'static str, call: Invocation) -> Result<CallFuture> {
    let OfTopic { topic, offset, limit } = OfTopic::read(id, call.payload)?;
    let (offset, limit) = (offset.unwrap_or(0), limit.unwrap_or(PAGE).min(MAX_PAGE));
    let letters = core
        .store
        .read(move |connection| jobs::dead_letters(connection, &topic, offset, limit));
    let answer = async move {
        let letters = letters.await.map_err(with_code("dlq_messages_failed"))?;
        Ok(letters.iter().map(dead_letter).collect())
    };
    Ok(answer.boxed())
}

fn dead_letter(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "payload": letter.payload,
        "error": letter.error,
        "failed_at": letter.failed_at_ms.div_euclid(1_000),
        "retries": letter.attempts,
        "size_bytes": letter.size_bytes,
    })
}

#[derive(Deserialize)]
struct OfQueue {
    #[serde(default)]
    queue: String,
    #[serde(default)]
    message_id: String,
}

impl OfQueue {
    fn read(id: &str, payload: Value, message: bool) -> Result<Self> {
        let request: Self = input(id, payload)?;
        if request.queue.is_empty() {
            return Err(Error::coded("queue_not_set", "Queue is not set"));
        }
        if message && request.message_id.is_empty() {
            return Err(Error::coded("message_id_not_set", "Message id is not set"));
        }
        Ok(request)
    }
}

pub(super) fn redrive(core: &Arc<Core>, id: &'static str, call: Invocation) -> Result<CallFuture> {
    let OfQueue { queue, .. } = OfQueue::read(id, call.payload, false)?;
    let known = core.queues.knows(&queue);
    let revived = revive(core, queue.clone(), None);
    let answer = async move {
        match revived.await? {
            0 if !known => Err(Error::coded(
                "redrive_failed",
                format!("Queue '{queue}' not found"),
            )),
            redriven => Ok(json!({ "queue": queue, "redriven": redriven })),
        }
    };
    Ok(answer.boxed())
}

pub(super) fn redrive_message(core: &Arc<Core>, id: &'static str, call: Invocation) -> Result<CallFuture> {
    let OfQueue { queue, message_id } = OfQueue::read(id, call.payload, true)?;
    let revived = revive(core, queue.clone(), Some(message_id.clone()));
    let answer =
        async move { Ok(json!({ "queue": queue, "message_id": message_id, "redriven": revived.await? })) };
    Ok(answer.boxed())
}

/// Puts dead letters back into their lines; answers how many.
fn revive(core: &Arc<Core>, queue: String, message: Option<String>) -> CallFuture<usize> {
    let Ok(bus) = core.bus() else {
        return failed(Error::Stopped);
    };
    let (back, now_ms) = (Arc::clone(core), bus.now_ms());
    let pending = core.store.transact_then(
        move |connection| jobs::revive(connection, &queue, message.as_deref()),
        move |revived: &Vec<Stored>| {
            for stored in revived {
                back.queues
                    .line_of(stored)
                    .push(line::job(stored, back.queues.ticker, now_ms));
            }
        },
    );
    async move {
        pending
            .await
            .map(|revived| revived.len())
            .map_err(with_code("redrive_failed"))
    }
    .boxed()
}

pub(super) fn discard_message(core: &Arc<Core>, id: &'static str, call: Invocation) -> Result<CallFuture> {
    let OfQueue { queue, message_id } = OfQueue::read(id, call.payload, true)?;
    let (line, letter) = (queue.clone(), message_id.clone());
    let discarded = core
        .store
        .transact(move |connection| jobs::discard(connection, &line, &letter));
    let answer = async move {
        let discarded = discarded.await.map_err(with_code("discard_message_failed"))?;
        // The member has this name in both functions (contract 00 §6.6).
        Ok(json!({ "queue": queue, "message_id": message_id, "redriven": u8::from(discarded) }))
    };
    Ok(answer.boxed())
}
