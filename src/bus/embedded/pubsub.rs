//! `publish` and the trigger type `subscribe` (contract 00 §10): nothing is stored, nobody waits.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::trigger::{Binding, Provider, text_member};
use super::{Builtin, Core, answer, carried, input_and, run};
use crate::bus::{Invocation, TriggerSpec};
use crate::error::{Error, Result};

/// What the trigger type fires on.
pub(super) const TRIGGER: &str = "Fires for each message published to a topic";

/// Messages that one subscriber may be working on; more are dropped for it.
const MAX_AT_WORK: usize = 1_024;

pub(super) const FUNCTIONS: &[Builtin] = &[Builtin {
    id: "publish",
    description: "Publish a message to a topic",
    part: "iii-pubsub",
    handler: |core, call| answer(publish(core, call)),
}];

/// Who listens to which topic.
#[derive(Default)]
pub(super) struct PubSub {
    topics: RwLock<HashMap<String, Vec<Subscriber>>>,
}

#[derive(Clone)]
struct Subscriber {
    binding: Arc<Binding>,
    permits: Arc<Semaphore>,
}

#[derive(Deserialize)]
struct Publish {
    topic: String,
}

fn publish(core: &Arc<Core>, call: Invocation) -> Result<Value> {
    let (Publish { topic }, data) = input_and::<Publish>("publish", call.payload, &["data"])?;
    if topic.is_empty() {
        return Err(Error::coded("topic_not_set", "Topic is not set"));
    }
    let bus = core.bus()?;
    for Subscriber { binding, permits } in core.pubsub.subscribers(&topic) {
        let function = &binding.spec.function_id;
        let Ok(permit) = permits.try_acquire_owned() else {
            core.triggers.count_dropped();
            tracing::warn!(topic, %function, "the subscriber cannot keep up, a message is dropped");
            continue;
        };
        // Condition and metadata of the binding do not count here (contract 00 §2.5, §10).
        let invocation = Invocation {
            function_id: function.clone(),
            payload: data.clone(),
            context: carried(&call.context),
        };
        let core = Arc::clone(core);
        bus.spawn(async move {
            if let Err(error) = run::within(&core, invocation, core.options.trigger_timeout).await {
                tracing::debug!(function = %binding.spec.function_id, %error, "subscriber failed");
            }
            drop(permit);
        });
    }
    Ok(Value::Null)
}

impl PubSub {
    fn subscribers(&self, topic: &str) -> Vec<Subscriber> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(topic).cloned().unwrap_or_default()
    }
}

fn topic_of(spec: &TriggerSpec) -> Result<String, String> {
    text_member(&spec.config, "topic")?.ok_or_else(|| "config: topic is required".to_owned())
}

impl Provider for PubSub {
    fn check(&self, spec: &TriggerSpec) -> Result<(), String> {
        topic_of(spec).map(|_| ())
    }

    fn bind(&self, binding: &Arc<Binding>) {
        let Ok(topic) = topic_of(&binding.spec) else {
            return;
        };
        let subscriber = Subscriber {
            binding: Arc::clone(binding),
            permits: Arc::new(Semaphore::new(MAX_AT_WORK)),
        };
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.entry(topic).or_default().push(subscriber);
    }

    fn unbind(&self, binding: &Arc<Binding>) {
        let Ok(topic) = topic_of(&binding.spec) else {
            return;
        };
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(subscribers) = topics.get_mut(&topic) {
            subscribers.retain(|subscriber| !Arc::ptr_eq(&subscriber.binding, binding));
            if subscribers.is_empty() {
                topics.remove(&topic);
            }
        }
    }
}
