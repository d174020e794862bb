//! What a worker registers: functions, trigger types and bindings, each within its limit.

use std::sync::Arc;

use super::frame::{RegisterFunction, RegisterTrigger, RegisterTriggerType};
use super::session::{Session, present};
use super::web::WebLink;
use super::wire::{WorkerType, refused};
use crate::bus::embedded::peer::OfferedType;
use crate::bus::{FunctionInfo, TriggerSpec};
use crate::error::Error;

impl Session {
    pub(super) fn register_function(&self, function: RegisterFunction) {
        let RegisterFunction {
            id,
            description,
            request_format,
            response_format,
            metadata,
            invocation,
        } = function;
        if id.is_empty() {
            tracing::warn!(worker = %self.id, "not registered: a function without an id");
            return;
        }
        let url = present(invocation)
            .map(|given| Arc::new(WebLink::new(given, Arc::clone(&self.wire), self.hub().http())));
        self.with(|peer| {
            if peer.function_count() >= self.limits.functions {
                tracing::warn!(worker = %self.id, function = id, "not registered: the worker has too many functions");
                return;
            }
            let function = FunctionInfo {
                id: id.into(),
                description: description.unwrap_or_default(),
                request_schema: present(request_format),
                response_schema: present(response_format),
                metadata: present(metadata),
            };
            match url {
                Some(url) => peer.register_function_via(url, function),
                None => peer.register_function(function),
            }
        });
    }

    pub(super) fn register_type(&self, offered: RegisterTriggerType) {
        if let Some(namespace) = offered.namespace.foreign() {
            tracing::warn!(worker = %self.id, trigger_type = offered.id, namespace, "not offered: no such namespace");
            return;
        }
        self.with(|peer| {
            if peer.type_count() >= self.limits.trigger_types {
                tracing::warn!(worker = %self.id, trigger_type = offered.id, "not offered: the worker has too many types");
                return;
            }
            let provider = Arc::new(WorkerType(Arc::clone(&self.wire)));
            let type_of_worker = OfferedType {
                description: offered.description.unwrap_or_default(),
                configuration_schema: present(offered.trigger_request_format),
                request_schema: present(offered.call_request_format),
                provider,
            };
            if !peer.offer_type(&offered.id, type_of_worker) {
                tracing::warn!(worker = %self.id, trigger_type = offered.id, "not offered: the type is the engine's own");
            }
        });
    }

    pub(super) fn register_trigger(&self, trigger: RegisterTrigger) {
        let namespaces = [&trigger.namespace, &trigger.trigger_namespace];
        let foreign = namespaces.into_iter().find_map(|namespace| namespace.foreign());
        let foreign = foreign.map(|name| format!("there is no namespace {name}, only default"));
        let spec = TriggerSpec {
            id: trigger.id,
            trigger_type: trigger.trigger_type,
            function_id: trigger.function_id.into(),
            config: trigger.config,
            metadata: present(trigger.metadata),
        };
        self.with(|peer| {
            let full = || format!("the worker has {} bindings already", self.limits.triggers);
            let is_full = peer.binding_count() >= self.limits.triggers;
            let outcome = match foreign.or_else(|| is_full.then(full)) {
                Some(why) => Err(Error::coded("trigger_registration_failed", why)),
                None => peer.bind(spec.clone()),
            };
            if let Err(error) = outcome {
                tracing::warn!(worker = %self.id, trigger = spec.id, %error, "binding refused");
                self.wire
                    .notify(&refused(&spec, error.wire_code(), &error.to_string()));
            }
        });
    }
}
