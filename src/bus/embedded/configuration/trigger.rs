//! Trigger type `configuration` (contract 00 §7).

use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};

use super::{Configuration, Entry, template};
use crate::bus::embedded::Core;
use crate::bus::embedded::trigger::{Binding, Event, Provider, text_member};
use crate::bus::{CallContext, TriggerSpec};
use crate::config::Env;

/// What the trigger type fires on.
pub(in crate::bus::embedded) const TRIGGER: &str =
    "Fires when a configuration is registered or its value is set";

pub(super) const REGISTERED: &str = "configuration:registered";
pub(super) const UPDATED: &str = "configuration:updated";

/// What happened to an entry.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) event_type: &'static str,
    pub(super) id: String,
    pub(super) old: Arc<Value>,
    /// The entry now.
    pub(super) entry: Entry,
}

impl Change {
    /// Values are expanded as far as possible: a variable that is not set leaves its text (a reader who asks for the
    /// value gets the error).
    fn payload(&self, env: &dyn Env) -> Value {
        let mut payload = json!({ "type": "configuration", "event_type": self.event_type });
        if let Some(members) = payload.as_object_mut() {
            members.extend(self.entry.row(&self.id));
            let metadata = members.shift_remove("metadata");
            members.insert("old_value".into(), template::expand(&self.old, env).value);
            members.insert("new_value".into(), template::expand(&self.entry.value, env).value);
            members.extend(metadata.map(|metadata| ("metadata".to_owned(), metadata)));
        }
        payload
    }
}

impl Configuration {
    /// Tells the subscribers, in the order of the changes of one id.
    pub(super) fn fire(&self, core: &Core, change: Change, context: CallContext, env: Arc<dyn Env>) {
        let bindings = self
            .bindings
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let wanted: Vec<_> = bindings
            .iter()
            .filter(|binding| wants(binding, &change))
            .collect();
        if wanted.is_empty() {
            return;
        }
        let id = change.id.clone();
        let event = Event::new(context, 0, move || Ok(change.payload(env.as_ref())));
        for binding in wanted {
            core.triggers.deliver(binding, &id, &event);
        }
    }
}

fn wants(binding: &Binding, change: &Change) -> bool {
    let config = &binding.spec.config;
    let id = text_member(config, "configuration_id").ok().flatten();
    let types = config
        .get("event_types")
        .and_then(Value::as_array)
        .filter(|types| !types.is_empty());
    id.is_none_or(|id| id == change.id)
        && types.is_none_or(|types| types.iter().any(|wanted| wanted == change.event_type))
}

impl Provider for Configuration {
    fn check(&self, spec: &TriggerSpec) -> Result<(), String> {
        text_member(&spec.config, "configuration_id")?;
        match spec.config.get("event_types") {
            None | Some(Value::Null) => Ok(()),
            Some(Value::Array(types)) if types.iter().all(Value::is_string) => Ok(()),
            Some(_) => Err("config: event_types must be an array of strings".to_owned()),
        }
    }

    fn bind(&self, binding: &Arc<Binding>) {
        self.bindings
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(binding));
    }

    fn unbind(&self, binding: &Arc<Binding>) {
        let mut bindings = self.bindings.write().unwrap_or_else(PoisonError::into_inner);
        bindings.retain(|other| !Arc::ptr_eq(other, binding));
    }
}
