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
    pub(super) fn register_function(&self, function: RegisterFunction, bytes: usize) {
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
            let used = peer.usage();
            let most = self.limits.functions;
            if let Err(why) = self
                .limits
                .room_for(used.functions, most, "functions", &used, bytes)
            {
                tracing::warn!(worker = %self.id, function = id, why, "not registered");
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
                Some(url) => peer.register_function_via(url, function, bytes),
                None => peer.register_function(function, bytes),
            }
        });
    }

    pub(super) fn register_type(&self, offered: RegisterTriggerType, bytes: usize) {
        if let Some(namespace) = offered.namespace.foreign() {
            tracing::warn!(worker = %self.id, trigger_type = offered.id, namespace, "not offered: no such namespace");
            return;
        }
        self.with(|peer| {
            let used = peer.usage();
            let most = self.limits.trigger_types;
            if let Err(why) = self.limits.room_for(used.types, most, "trigger types", &used, bytes) {
                tracing::warn!(worker = %self.id, trigger_type = offered.id, why, "not offered");
                return;
            }
            let provider = Arc::new(WorkerType(Arc::clone(&self.wire)));
            let type_of_worker = OfferedType {
                description: offered.description.unwrap_or_default(),
                configuration_schema: present(offered.trigger_request_format),
                request_schema: present(offered.call_request_format),
                provider,
                bytes,
            };
            if !peer.offer_type(&offered.id, type_of_worker) {
                tracing::warn!(worker = %self.id, trigger_type = offered.id, "not offered: the type is the engine's own");
            }
        });
    }

    pub(super) fn register_trigger(&self, trigger: RegisterTrigger, bytes: usize) {
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
            let used = peer.usage();
            let most = self.limits.triggers;
            let outcome = foreign
                .map_or(Ok(()), Err)
                .and_then(|()| {
                    self.limits
                        .room_for(used.bindings, most, "bindings", &used, bytes)
                })
                .map_err(|why| Error::coded("trigger_registration_failed", why))
                .and_then(|()| peer.bind(spec.clone(), bytes));
            if let Err(error) = outcome {
                tracing::warn!(worker = %self.id, trigger = spec.id, %error, "binding refused");
                self.wire
                    .notify(&refused(&spec, error.wire_code(), &error.to_string()));
            }
        });
    }
}
