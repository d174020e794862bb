//! What is registered on the connection. The SDK replays it after a reconnect; here is who owns which id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iii_sdk::protocol::RegisterTriggerInput;
use iii_sdk::runtime::FunctionRef;
use iii_sdk::trigger::Trigger;
use iii_sdk::{IIIClient, RegisterFunction};

use super::{Core, serve};
use crate::bus::{FunctionDef, TriggerSpec};
use crate::error::{Error, Result};
use crate::model::FunctionId;

/// Functions and bindings of this process.
#[derive(Default)]
pub(super) struct Registrations(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    functions: HashMap<FunctionId, FunctionRef>,
    triggers: HashMap<String, (TriggerSpec, Trigger)>,
}

/// Registers a function; one that is registered already stays as it is, which the SDK would answer with a panic.
pub(super) fn function(core: &Arc<Core>, client: &IIIClient, function: &FunctionDef) {
    let mut inner = core.registrations.lock();
    if inner.functions.contains_key(function.id()) {
        return;
    }
    let info = function.info();
    let handler = serve::handler(Arc::downgrade(core), info.id.clone());
    let mut registration = RegisterFunction::new_async(handler)
        .description(info.description)
        .local_dispatch(false);
    if let Some(schema) = info.request_schema {
        registration = registration.request_format(schema);
    }
    if let Some(schema) = info.response_schema {
        registration = registration.response_format(schema);
    }
    if let Some(metadata) = info.metadata {
        registration = registration.metadata(metadata);
    }
    let registered = client.register_function(info.id.to_string(), registration);
    inner.functions.insert(info.id, registered);
}

impl Registrations {
    /// Takes a function away.
    pub(super) fn forget(&self, id: &str) {
        let taken = self.lock().functions.remove(id);
        if let Some(function) = taken {
            function.unregister();
        }
    }

    /// Forgets everything, because the connection is gone; answers what was bound.
    pub(super) fn start_over(&self) -> Vec<TriggerSpec> {
        let inner = std::mem::take(&mut *self.lock());
        inner.triggers.into_values().map(|(spec, _)| spec).collect()
    }

    /// Takes everything away.
    pub(super) fn clear(&self) {
        let inner = std::mem::take(&mut *self.lock());
        for (_, (_, trigger)) in inner.triggers {
            trigger.unregister();
        }
        for function in inner.functions.into_values() {
            function.unregister();
        }
    }

    /// Binds a trigger. The SDK names it; one of the same id of ours is taken away first.
    pub(super) fn bind(&self, client: &IIIClient, spec: TriggerSpec) -> Result<()> {
        let mut input = RegisterTriggerInput::new(
            spec.trigger_type.clone(),
            spec.function_id.to_string(),
            spec.config.clone(),
        );
        input.metadata.clone_from(&spec.metadata);
        let mut inner = self.lock();
        if let Some((_, earlier)) = inner.triggers.remove(&spec.id) {
            earlier.unregister();
        }
        #[expect(
            deprecated,
            reason = "what replaces it needs an engine of 0.25; this one works with all"
        )]
        let trigger = client
            .register_trigger(input)
            .map_err(|error| Error::coded("trigger_registration_failed", error.to_string()))?;
        inner.triggers.insert(spec.id.clone(), (spec, trigger));
        Ok(())
    }

    /// Ids of the functions, sorted.
    pub(super) fn functions(&self) -> Vec<FunctionId> {
        let mut ids: Vec<FunctionId> = self.lock().functions.keys().cloned().collect();
        ids.sort();
        ids
    }

    /// Type and function of each binding, sorted.
    pub(super) fn triggers(&self) -> Vec<(String, FunctionId)> {
        let inner = self.lock();
        let specs = inner.triggers.values().map(|(spec, _)| spec);
        let mut bound: Vec<_> = specs
            .map(|spec| (spec.trigger_type.clone(), spec.function_id.clone()))
            .collect();
        bound.sort();
        bound
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
