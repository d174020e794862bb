//! Functions about queues and topics (contract 00 §6.2, §6.6).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::jobs;
use super::policy::Policy;
use super::{CONFIGURATION_ID, Queues, dead_letters, enqueue, topics};
use crate::bus::embedded::configuration::Configuration;
use crate::bus::embedded::{Builtin, Core, failed, input, input_and, with_code};
use crate::bus::{Baggage, CallContext, CallFuture, Invocation};
use crate::error::{Error, Result};
use crate::model::lenient;

const PART: &str = "iii-queue";
pub(super) const BROKER: &str = "builtin";

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
    function!(
        "engine::queue::enqueue",
        "Put a job on a named queue",
        enqueue_job
    ),
    Builtin {
        id: "engine::queue::list_topics",
        description: "List the topics",
        part: PART,
        handler: |core, _| list_topics(core),
    },
    function!(
        "engine::queue::topic_stats",
        "Figures of a topic or queue",
        topic_stats
    ),
    Builtin {
        id: "engine::queue::dlq_topics",
        description: "List the topics and queues with dead letters",
        part: PART,
        handler: |core, _| dead_letters::topics(core),
    },
    function!(
        "engine::queue::dlq_messages",
        "List the dead letters of a topic or queue",
        dead_letters::messages
    ),
    function!(
        "iii::queue::redrive",
        "Deliver all dead letters of a queue again",
        dead_letters::redrive
    ),
    function!(
        "iii::queue::redrive_message",
        "Deliver one dead letter again",
        dead_letters::redrive_message
    ),
    function!(
        "iii::queue::discard_message",
        "Forget a dead letter",
        dead_letters::discard_message
    ),
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
        baggage: request
            .baggage
            .as_deref()
            .map_or(call.context.baggage, Baggage::parse),
        traceparent: request.traceparent.map(Arc::from).or(call.context.traceparent),
        ..CallContext::default()
    };
    let invocation = Invocation {
        function_id: request.function_id.into(),
        payload: data,
        context,
    };
    Ok(enqueue(
        core,
        &request.queue,
        request.message_receipt_id,
        invocation,
    ))
}

fn list_topics(core: &Arc<Core>) -> CallFuture {
    let core = Arc::clone(core);
    let answer = async move {
        let stored = core
            .store
            .read(jobs::topics)
            .await
            .map_err(with_code("list_topics_failed"))?;
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
    answer.boxed()
}

/// Request about one topic or queue.
#[derive(Deserialize)]
pub(super) struct OfTopic {
    #[serde(default)]
    pub(super) topic: String,
    #[serde(default, deserialize_with = "lenient::optional")]
    pub(super) offset: Option<u32>,
    #[serde(default, deserialize_with = "lenient::optional")]
    pub(super) limit: Option<u32>,
}

impl OfTopic {
    pub(super) fn read(id: &str, payload: Value) -> Result<Self> {
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
    let counts = core
        .store
        .read(move |connection| jobs::counts(connection, &topic));
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
    let change = move |now: &Value| declared_with(now, name, &config);
    let changed = Configuration::change(core, CONFIGURATION_ID, change, &call.context);
    Ok(async move { Ok(json!({ "queue": queue, "changed": changed.await?.is_some() })) }.boxed())
}

/// The declarations with one more; `None` when it is there already.
fn declared_with(now: &Value, queue: String, config: &Value) -> Option<Value> {
    let mut root = now.as_object().cloned().unwrap_or_default();
    let configs = root
        .entry("queue_configs")
        .or_insert_with(|| Value::Object(Map::new()));
    if !configs.is_object() {
        *configs = Value::Object(Map::new());
    }
    let before = configs.as_object_mut()?.insert(queue, config.clone());
    (before.as_ref() != Some(config)).then_some(Value::Object(root))
}

impl Queues {
    /// Subscribed functions per topic.
    fn subscriber_counts(&self) -> BTreeMap<String, usize> {
        let lines = self.read();
        let topics = lines.topics.iter().map(|(topic, copies)| {
            (
                topic.clone(),
                copies.values().filter(|line| line.is_open()).count(),
            )
        });
        topics.filter(|(_, count)| *count > 0).collect()
    }

    /// How many consume a queue or topic, and how it is worked off.
    fn consumers(&self, name: &str) -> (usize, Value) {
        if let Some(line) = self.declared(name) {
            return (1, line.schedule().policy().to_json());
        }
        let lines = self.read();
        let open = lines
            .topics
            .get(name)
            .into_iter()
            .flatten()
            .filter(|(_, line)| line.is_open());
        let configs: BTreeMap<String, Value> = open
            .map(|(function, line)| (function.to_string(), line.schedule().policy().to_json()))
            .collect();
        match configs.len() {
            0 => (0, Value::Null),
            count => (count, json!(configs)),
        }
    }

    pub(super) fn knows(&self, name: &str) -> bool {
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
        let first = declared_with(&Value::Null, "a".into(), &config);
        assert_eq!(first, Some(json!({"queue_configs": {"a": {"concurrency": 2}}})));
        let now = json!({"other": 1, "queue_configs": {"b": {}}});
        assert_eq!(
            declared_with(&now, "a".into(), &config),
            Some(json!({"other": 1, "queue_configs": {"b": {}, "a": {"concurrency": 2}}}))
        );
        assert_eq!(declared_with(&first.unwrap(), "a".into(), &config), None);
    }
}
