//! Trigger bindings: what is bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Core;
use super::super::trigger::{Binding, Owner};
use super::ById;
use super::functions::{first_segment, is_internal_id, rows};
use crate::error::{Error, Result};
use crate::model::lenient;

const MAX_SUMMARY_CHARS: usize = 120;

#[derive(Deserialize)]
pub(super) struct ListBindings {
    #[serde(default, deserialize_with = "lenient::optional")]
    search: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    trigger_type: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    function_id: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    worker: Option<String>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    include_internal: bool,
}

pub(super) fn list_bindings(core: &Arc<Core>, request: ListBindings) -> Value {
    let ListBindings {
        search,
        trigger_type,
        function_id,
        worker,
        include_internal,
    } = request;
    let search = search.map(|search| search.to_lowercase());
    let workers = Owners::of(core);
    let found = core.triggers.bindings().into_iter().filter(|binding| {
        let spec = &binding.spec;
        (include_internal || !is_internal_id(&spec.function_id))
            && trigger_type
                .as_ref()
                .is_none_or(|wanted| spec.trigger_type == *wanted)
            && function_id
                .as_ref()
                .is_none_or(|wanted| spec.function_id.as_str() == wanted)
            && worker
                .as_ref()
                .is_none_or(|wanted| workers.name(binding) == *wanted)
            && search.as_ref().is_none_or(|search| {
                [&spec.id, &spec.trigger_type, spec.function_id.as_str()]
                    .iter()
                    .any(|text| text.to_lowercase().contains(search))
            })
    });
    let rows: Vec<_> = found.map(|binding| binding_row(&binding, &workers)).collect();
    json!({ "registered_triggers": rows })
}

pub(super) fn binding_info(core: &Arc<Core>, request: ById) -> Result<Value> {
    let ById { id } = request;
    let bindings = core.triggers.bindings();
    let binding = bindings.iter().find(|binding| binding.spec.id == id);
    let binding = binding.ok_or_else(|| Error::coded("NOT_FOUND", format!("Trigger {id} not found")))?;
    Ok(binding_row(binding, &Owners::of(core)))
}

pub(super) fn binding_row(binding: &Binding, workers: &Owners) -> Value {
    let spec = &binding.spec;
    json!({
        "id": spec.id,
        "trigger_type": spec.trigger_type,
        "function_id": spec.function_id,
        "worker_name": workers.name(binding),
        "config": spec.config,
        "config_summary": summary(&spec.config),
    })
}

/// `scope=demo, key=k1`, cut to a line's length.
pub(super) fn summary(config: &Value) -> String {
    let Some(fields) = config.as_object() else {
        return String::new();
    };
    let parts: Vec<_> = fields
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        })
        .collect();
    parts.join(", ").chars().take(MAX_SUMMARY_CHARS).collect()
}

/// Names of the workers that own bindings.
pub(super) struct Owners {
    program: String,
    peers: BTreeMap<Arc<str>, Option<String>>,
    functions: BTreeMap<String, String>,
}

impl Owners {
    pub(super) fn of(core: &Core) -> Self {
        Self {
            program: core.options.worker_name.clone(),
            peers: core
                .peers
                .list()
                .into_iter()
                .map(|peer| (peer.id, peer.facts.name))
                .collect(),
            functions: rows(core)
                .into_iter()
                .map(|row| (row.info.id.to_string(), row.worker))
                .collect(),
        }
    }

    /// A binding that nobody owns is shown with the worker of its function.
    pub(super) fn name(&self, binding: &Binding) -> String {
        let function = binding.spec.function_id.as_str();
        match &binding.owner {
            Owner::Program => self.program.clone(),
            Owner::Peer(id) => self
                .peers
                .get(id)
                .cloned()
                .flatten()
                .unwrap_or_else(|| first_segment(function)),
            Owner::Nobody => self
                .functions
                .get(function)
                .cloned()
                .unwrap_or_else(|| first_segment(function)),
        }
    }
}
