//! Trigger types: who knows one, and how others may know it.

use std::sync::Arc;

use serde_json::Value;

use super::Binding;
use crate::bus::TriggerSpec;
use crate::bus::embedded::peer::OfferedType;

/// Types that the engine fires itself, or accepts and never fires (contract 00 §16).
pub(in crate::bus::embedded) const PASSIVE: &[(&str, &str)] = &[
    (
        "engine::functions-available",
        "Fires when the set of registered functions changes",
    ),
    (
        "engine::workers-available",
        "Fires when a worker connects, describes itself or disconnects",
    ),
    (
        "stream:join",
        "Accepted for compatibility; there is no stream socket server here",
    ),
    (
        "stream:leave",
        "Accepted for compatibility; there is no stream socket server here",
    ),
];

/// The part of the engine that knows a trigger type.
pub trait Provider: Send + Sync {
    /// Whether the binding makes sense; the text goes to the binder.
    fn check(&self, spec: &TriggerSpec) -> Result<(), String>;

    /// A checked binding is live.
    fn bind(&self, binding: &Arc<Binding>);

    /// It is gone; no event may be delivered to it any more.
    fn unbind(&self, binding: &Arc<Binding>);
}

/// For types without a filter: events go to all bindings of the type.
pub(in crate::bus::embedded) struct Passive;

impl Provider for Passive {
    fn check(&self, _: &TriggerSpec) -> Result<(), String> {
        Ok(())
    }

    fn bind(&self, _: &Arc<Binding>) {}

    fn unbind(&self, _: &Arc<Binding>) {}
}

/// A trigger type as others may know it.
#[derive(Clone)]
pub struct TriggerType {
    /// What it fires on.
    pub description: String,
    /// The outside worker that provides it; `None` for the engine's own.
    pub worker: Option<Arc<str>>,
    /// JSON Schema of a binding's configuration, as the worker gave it.
    pub configuration_schema: Option<Value>,
    /// JSON Schema of the payload of its events, as the worker gave it.
    pub request_schema: Option<Value>,
    pub(super) provider: Arc<dyn Provider>,
    /// Size of its registration.
    pub(super) bytes: usize,
}

impl TriggerType {
    /// A type that an outside worker provides.
    pub(in crate::bus::embedded) fn outside(worker: Arc<str>, offered: OfferedType) -> Self {
        let OfferedType {
            description,
            configuration_schema,
            request_schema,
            provider,
            bytes,
        } = offered;
        Self {
            description,
            worker: Some(worker),
            configuration_schema,
            request_schema,
            provider,
            bytes,
        }
    }
}

impl std::fmt::Debug for TriggerType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TriggerType")
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}
