//! `iii::durable::publish` and the trigger type `durable:subscriber` (contract 00 §6.5).

use std::sync::Arc;

use futures::FutureExt;
use serde::Deserialize;
use serde_json::Value;

use super::jobs::{self, Kind, NewJob, Stored};
use super::line::{self, Line};
use super::policy::Policy;
use super::{MAX_DEPTH, MAX_TOPIC_LINES, Queues};
use crate::bus::embedded::store::Doc;
use crate::bus::embedded::trigger::{Binding, Provider, text_member};
use crate::bus::embedded::{Core, carried, failed, input_and, with_code};
use crate::bus::{CallFuture, Invocation, TriggerSpec};
use crate::error::{Error, Result};

/// What the trigger type fires on.
pub(in crate::bus::embedded) const TRIGGER: &str = "Fires for each message published durably to a topic";

const ID: &str = "iii::durable::publish";
const CODE: &str = "enqueue_error";

#[derive(Deserialize)]
struct Publish {
    topic: String,
}

/// Stores one copy of a message per subscribed function.
pub(super) fn publish(core: &Arc<Core>, call: Invocation) -> CallFuture {
    submit(core, call).unwrap_or_else(failed)
}

fn submit(core: &Arc<Core>, call: Invocation) -> Result<CallFuture> {
    let (Publish { topic }, data) = input_and::<Publish>(ID, call.payload, &["data"])?;
    if topic.is_empty() {
        return Err(Error::coded("topic_not_set", "Topic is not set"));
    }
    let payload = Arc::new(Doc::new(Arc::new(data)).map_err(with_code(CODE))?);
    let bus = core.bus()?;
    let context = carried(&call.context);
    let message = |target: Option<String>, group: Option<String>| NewJob {
        id: bus.uuid(),
        kind: Kind::Topic,
        line: topic.clone(),
        target,
        group,
        payload: Arc::clone(&payload),
        context: context.clone(),
    };
    let copies = core.queues.copies(&topic)?;
    let messages: Vec<NewJob> = if copies.is_empty() {
        vec![message(None, None)]
    } else {
        copies
            .iter()
            .map(|(function, _)| message(Some(function.clone()), Some(String::new())))
            .collect()
    };
    let (ticker, now_ms) = (core.queues.ticker, bus.now_ms());
    let pending = core.store.transact_then(
        move |connection| {
            messages
                .iter()
                .map(|message| jobs::insert(connection, message))
                .collect::<Result<Vec<_>>>()
        },
        move |stored: &Vec<Option<Stored>>| {
            for (stored, (_, line)) in stored.iter().zip(&copies) {
                if let Some(stored) = stored {
                    line.push(line::job(stored, ticker, now_ms));
                }
            }
        },
    );
    Ok(async move { pending.await.map(|_| Value::Null).map_err(with_code(CODE)) }.boxed())
}

impl Queues {
    /// The functions that get a copy of a message now, each with its line, sorted.
    fn copies(&self, topic: &str) -> Result<Vec<(String, Arc<Line>)>> {
        let lines = self.read();
        let Some(topic_lines) = lines.topics.get(topic) else {
            return Ok(Vec::new());
        };
        let mut copies: Vec<_> = topic_lines
            .iter()
            .filter(|(_, line)| line.is_open())
            .map(|(function, line)| (function.to_string(), Arc::clone(line)))
            .collect();
        copies.sort_by(|a, b| a.0.cmp(&b.0));
        match copies.iter().find(|(_, line)| line.depth() >= MAX_DEPTH) {
            Some((function, _)) => Err(Error::coded(
                CODE,
                format!("Topic '{topic}' is full for {function} ({MAX_DEPTH} messages)"),
            )),
            None => Ok(copies),
        }
    }

    /// Follows the subscriptions of one function to one topic; the newest one's `queue_config` counts.
    fn follow(&self, line: &Arc<Line>) {
        let newest = line.subscribers().last().cloned();
        let Some(newest) = newest else {
            line.close();
            return;
        };
        match Policy::of_subscriber(newest.spec.config.get("queue_config")) {
            Ok(policy) => line.open(policy),
            // Checked when it was bound.
            Err(error) => tracing::warn!(trigger = %newest.spec.id, %error, "queue_config ignored"),
        }
        if let Some(core) = self.core() {
            self.run(&core, line);
        }
    }
}

fn topic_of(spec: &TriggerSpec) -> Result<String, String> {
    text_member(&spec.config, "topic")?.ok_or_else(|| "config: topic is required".to_owned())
}

impl Provider for Queues {
    fn check(&self, spec: &TriggerSpec) -> Result<(), String> {
        let topic = topic_of(spec)?;
        let policy = Policy::of_subscriber(spec.config.get("queue_config"));
        policy.map_err(|error| format!("config: queue_config: {error}"))?;
        let lines = self.read();
        let known = lines
            .topics
            .get(&topic)
            .is_some_and(|copies| copies.contains_key(&spec.function_id));
        let count: usize = lines.topics.values().map(std::collections::HashMap::len).sum();
        if !known && count >= MAX_TOPIC_LINES {
            return Err(format!("too many subscribed functions ({MAX_TOPIC_LINES})"));
        }
        Ok(())
    }

    fn bind(&self, binding: &Arc<Binding>) {
        let Ok(topic) = topic_of(&binding.spec) else {
            return;
        };
        let line = self.topic_line(&topic, &binding.spec.function_id);
        line.subscribers().push(Arc::clone(binding));
        self.follow(&line);
    }

    fn unbind(&self, binding: &Arc<Binding>) {
        let Ok(topic) = topic_of(&binding.spec) else {
            return;
        };
        let line = self.topic_line(&topic, &binding.spec.function_id);
        line.subscribers().retain(|other| !Arc::ptr_eq(other, binding));
        self.follow(&line);
    }
}
