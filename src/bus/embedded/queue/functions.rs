//! Functions about queues and topics (contract 00 §6.2, §6.6).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::jobs::{self, DeadLetter, Stored};
use super::policy::Policy;
use super::{CONFIGURATION_ID, Queues, enqueue, line, topics};
use crate::bus::embedded::{Builtin, Core, failed, input, input_and, with_code};
use crate::bus::{Baggage, CallContext, CallFuture, Invocation};
use crate::error::{Error, Result};
use crate::model::lenient;

const PART: &str = "iii-queue";
const BROKER: &str = "builtin";
const DEAD_LETTERS_PAGE: u32 = 50;
const MAX_DEAD_LETTERS_PAGE: u32 = 1_000;

macro_rules! function {
    ($id:literal, $description:literal, $handler:expr) => {
        Builtin {
            id: $id,
            description: $description,
            part: PART,
            handler: |core, call: Invocation| {
                let handler: fn(&Arc<Core>, &'static str, Invocation) -> Result<CallFuture> = $handler;
                handler(core, $id, call).unwrap_or_else(failed)
            },
        }
    };
}

pub(in crate::bus::embedded) const FUNCTIONS: &[Builtin] = &[
    Builtin {
        id: "iii::durable::publish",
        description: "Publish a message durably to a topic",
        part: PART,
        handler: topics::publish,
    },
    function!("engine::queue::enqueue", "Put a job on a named queue", enqueue_job),
    function!("engine::queue::list_topics", "List the topics", list_topics),
    function!("engine::queue::topic_stats", "Figures of a topic or queue", topic_stats),
    function!("engine::queue::dlq_topics", "List the topics and queues with dead letters", dlq_topics),
    function!("engine::queue::dlq_messages", "List the dead letters of a topic or queue", dlq_messages),
    function!("iii::queue::redrive", "Deliver all dead letters of a queue again", redrive),
    function!("iii::queue::redrive_message", "Deliver one dead letter again", redrive_message),
    function!("iii::queue::discard_message", "Forget a dead letter", discard_message),
    function!("queue::define", "Declare a named queue", define),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Enqueue {
    queue: String,
    #[serde(rename = "function_id")]
    function_id: String,
    #[serde(default, deserialize_with = "lenient::optional")]
    message_receipt_id: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    traceparent: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    baggage: Option<String>,
}

/// What an engine asks its queue provider; here for callers that look for one (contract 00 §6.1).
fn enqueue_job(core: &Arc<Core>, id: &'static str, call: Invocation) -> Result<CallFuture> {
    let (request, data) = input_and::<Enqueue>(id, call.payload, &["data"])?;
    let context = CallContext {
        baggage: request.baggage.as_deref().map_or(call.context.baggage, baggage),
        traceparent: request.traceparent.map(Arc::from).or(call.context.traceparent),
        ..CallContext::default()
    };
    let invocation = Invocation { function_id: request.function_id.into(), payload: data, context };
    Ok(enqueue(core, &request.queue, request.message_receipt_id, invocation))
}

/// The two members of a W3C baggage text that are carried.
fn baggage(text: &str) -> Baggage {
    let member = |name: &str| {
        text.split(',')
            .filter_map(|pair| pair.split(';').next()?.split_once('='))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| Arc::from(value.trim()))
    };
    Baggage { session_id: member("iii.session.id"), message_id: member("iii.message.id") }
}

fn list_topics(core: &Arc<Core>, _: &'static str, _: Invocation) -> Result<CallFuture> {
    let core = Arc::clone(core);
    let answer = async move {
        let stored = core.store.read(jobs::topics).await.map_err(with_code("list_topics_failed"))?;
        let subscribers = core.queues.subscriber_counts();
        let names: BTreeSet<String> = stored.into_iter().chain(subscribers.keys().cloned()).collect();
        let row = |name: String| {
            json!({
                "subscriber_count": subscribers.get(&name).copied().unwrap_or_default(),
                "broker_type": BROKER,
                "name": name,
            })
        };
        Ok(names.into_iter().map(row).collect())
    };
    Ok(answer.boxed())
}

#[derive(Deserialize)]
struct OfTopic {
    #[serde(default)]
    topic: String,
    #[serde(default, deserialize_with = "lenient::optional")]
    offset: Option<u32>,
    #[serde(default, deserialize_with = "lenient::optional")]
    limit: Option<u32>,
}

impl OfTopic {
    fn read(id: &str, payload: Value) -> Result<Self> {
        let request: Self = input(id, payload)?;
        if request.topic.is_empty() {
            return Err(Error::coded("topic_required", "topic is required"));
        }
        Ok(request)
    }
}

fn topic_stats(core: &Arc<Core>, id: &'static str, call: Invocation) -> Result<CallFuture> {
    let OfTopic { topic, .. } = OfTopic::read(id, call.payload)?;
    let (consumers, config) = core.queues.consumers(&topic);
    let counts = core.store.read(move |connection| jobs::counts(connection, &topic));
    let answer = async move {
        let counts = counts.await.map_err(with_code("topic_stats_failed"))?;
        Ok(json!({
            "depth": counts.live,
            "consumer_count": consumers,
            "dlq_depth": counts.dead,
            "config": config,
        }))
    };
    Ok(answer.boxed())
}

fn dlq_topics(core: &Arc<Core>, _: &'static str, _: Invocation) -> Result<CallFuture> {
    let lines = core.store.read(jobs::dead_lines);
    let answer = async move {
        let row = |(topic, count): (String, i64)| {
            json!({ "topic": topic, "broker_type": BROKER, "message_count": count })
        };
        lines.await.map(|lines| lines.into_iter().map(row).collect()).map_err(with_code("dlq_topics_failed"))
    };
    Ok(answer.boxed())
}

fn dlq_messages(core: &Arc<Core>, id: &'static str, call: Invocation) -> Result<CallFuture> {
    let OfTopic { topic, offset, limit } = OfTopic::read(id, call.payload)?;
    let (offset, limit) = (offset.unwrap_or(0), limit.unwrap_or(DEAD_LETTERS_PAGE).min(MAX_DEAD_LETTERS_PAGE));
    let letters = core.store.read(move |connection| jobs::dead_letters(connection, &topic, offset, limit));
    let answer = async move {
        let letters = letters.await.map_err(with_code("dlq_messages_failed"))?;
        Ok(letters.into_iter().map(dead_letter).collect())
    };
    Ok(answer.boxed())
}

fn dead_letter(letter: DeadLetter) -> Value {
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

fn redrive(core: &Arc<Core>, id: &'static str, call: Invocation) -> Result<CallFuture> {
    let OfQueue { queue, .. } = OfQueue::read(id, call.payload, false)?;
    let known = core.queues.knows(&queue);
    let revived = revive(core, queue.clone(), None);
    let answer = async move {
        match revived.await? {
            0 if !known => Err(Error::coded("redrive_failed", format!("Queue '{queue}' not found"))),
            redriven => Ok(json!({ "queue": queue, "redriven": redriven })),
        }
    };
    Ok(answer.boxed())
}

fn redrive_message(core: &Arc<Core>, id: &'static str, call: Invocation) -> Result<CallFuture> {
    let OfQueue { queue, message_id } = OfQueue::read(id, call.payload, true)?;
    let revived = revive(core, queue.clone(), Some(message_id.clone()));
    let answer =
        async move { Ok(json!({ "queue": queue, "message_id": message_id, "redriven": revived.await? })) };
    Ok(answer.boxed())
}

/// Puts dead letters back into their lines; answers how many.
fn revive(core: &Arc<Core>, queue: String, message: Option<String>) -> CallFuture<usize> {
    let Ok(bus) = core.bus() else { return failed(Error::Stopped) };
    let (back, now_ms) = (Arc::clone(core), bus.now_ms());
    let pending = core.store.transact_then(
        move |connection| jobs::revive(connection, &queue, message.as_deref()),
        move |revived: &Vec<Stored>| {
            for stored in revived {
                back.queues.line_of(stored).push(line::job(stored, back.queues.ticker, now_ms));
            }
        },
    );
    async move { pending.await.map(|revived| revived.len()).map_err(with_code("redrive_failed")) }.boxed()
}

fn discard_message(core: &Arc<Core>, id: &'static str, call: Invocation) -> Result<CallFuture> {
    let OfQueue { queue, message_id } = OfQueue::read(id, call.payload, true)?;
    let (line, letter) = (queue.clone(), message_id.clone());
    let discarded = core.store.transact(move |connection| jobs::discard(connection, &line, &letter));
    let answer = async move {
        let discarded = discarded.await.map_err(with_code("discard_message_failed"))?;
        // The member has this name in both functions (contract 00 §6.6).
        Ok(json!({ "queue": queue, "message_id": message_id, "redriven": u8::from(discarded) }))
    };
    Ok(answer.boxed())
}

#[derive(Deserialize)]
struct Define {
    queue: String,
    config: Value,
}

/// Writes the declaration into configuration `queue`, from where the queue is opened like any other.
fn define(core: &Arc<Core>, id: &'static str, call: Invocation) -> Result<CallFuture> {
    let Define { queue, config } = input(id, call.payload)?;
    if queue.is_empty() {
        return Err(Error::coded("queue_not_set", "Queue is not set"));
    }
    Policy::of_queue(&config)
        .map_err(|error| Error::coded("SCHEMA_INVALID", format!("schema validation failed: {error}")))?;
    let name = queue.clone();
    let change = move |now: &Value| declared_with(now, name, config);
    let changed = core.configuration.change(core, CONFIGURATION_ID, change, &call.context);
    Ok(async move { Ok(json!({ "queue": queue, "changed": changed.await?.is_some() })) }.boxed())
}

/// The declarations with one more; `None` when it is there already.
fn declared_with(now: &Value, queue: String, config: Value) -> Option<Value> {
    let mut root = now.as_object().cloned().unwrap_or_default();
    let configs = root.entry("queue_configs").or_insert_with(|| Value::Object(Map::new()));
    if !configs.is_object() {
        *configs = Value::Object(Map::new());
    }
    let before = configs.as_object_mut()?.insert(queue, config.clone());
    (before.as_ref() != Some(&config)).then_some(Value::Object(root))
}

impl Queues {
    /// Subscribed functions per topic.
    fn subscriber_counts(&self) -> BTreeMap<String, usize> {
        let lines = self.read();
        let topics = lines.topics.iter().map(|(topic, copies)| {
            (topic.clone(), copies.values().filter(|line| line.is_open()).count())
        });
        topics.filter(|(_, count)| *count > 0).collect()
    }

    /// How many consume a queue or topic, and how it is worked off.
    fn consumers(&self, name: &str) -> (usize, Value) {
        if let Some(line) = self.declared(name) {
            return (1, line.schedule().policy().to_json());
        }
        let lines = self.read();
        let open = lines.topics.get(name).into_iter().flatten().filter(|(_, line)| line.is_open());
        let configs: BTreeMap<String, Value> =
            open.map(|(function, line)| (function.to_string(), line.schedule().policy().to_json())).collect();
        match configs.len() {
            0 => (0, Value::Null),
            count => (count, json!(configs)),
        }
    }

    fn knows(&self, name: &str) -> bool {
        let lines = self.read();
        lines.named.contains_key(name) || lines.topics.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_declaration_is_added_once_and_keeps_its_neighbours() {
        let config = json!({"concurrency": 2});
        let first = declared_with(&Value::Null, "a".into(), config.clone());
        assert_eq!(first, Some(json!({"queue_configs": {"a": {"concurrency": 2}}})));
        let now = json!({"other": 1, "queue_configs": {"b": {}}});
        assert_eq!(
            declared_with(&now, "a".into(), config.clone()),
            Some(json!({"other": 1, "queue_configs": {"b": {}, "a": {"concurrency": 2}}}))
        );
        assert_eq!(declared_with(&first.unwrap(), "a".into(), config), None);
    }

    #[test]
    fn two_members_of_the_baggage_are_carried() {
        assert_eq!(
            baggage("x=1, iii.session.id=s1;p=q ,iii.message.id=m1,junk"),
            Baggage { session_id: Some("s1".into()), message_id: Some("m1".into()) }
        );
        assert_eq!(baggage(""), Baggage::default());
    }
}
