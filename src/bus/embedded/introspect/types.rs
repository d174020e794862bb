//! Trigger types: what can be bound to.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Core;
use super::super::trigger::TriggerType;
use super::functions::first_segment;
use super::{ById, PART};
use crate::error::{Error, Result};
use crate::model::lenient;

#[derive(Deserialize)]
pub(super) struct ListTypes {
    #[serde(default, deserialize_with = "lenient::optional")]
    search: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    prefix: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    worker: Option<String>,
}

pub(super) fn list_types(core: &Arc<Core>, request: ListTypes) -> Value {
    let ListTypes {
        search,
        prefix,
        worker,
    } = request;
    let search = search.map(|search| search.to_lowercase());
    let types = core.triggers.types().into_iter().filter(|(id, offered)| {
        prefix.as_ref().is_none_or(|prefix| id.starts_with(prefix))
            && worker
                .as_ref()
                .is_none_or(|worker| *worker == type_worker(core, id, offered))
            && search.as_ref().is_none_or(|search| {
                id.to_lowercase().contains(search) || offered.description.to_lowercase().contains(search)
            })
    });
    let rows = types.map(|(id, offered)| {
        json!({
            "id": id,
            "worker_name": type_worker(core, &id, &offered),
            "description": offered.description,
        })
    });
    json!({ "triggers": rows.collect::<Vec<_>>() })
}

/// The part of the engine, or the outside worker, that offers a trigger type.
pub(super) fn type_worker(core: &Core, id: &str, offered: &TriggerType) -> String {
    if let Some(worker) = &offered.worker {
        let peers = core.peers.list();
        let peer = peers.into_iter().find(|peer| peer.id == *worker);
        return peer
            .and_then(|peer| peer.facts.name)
            .unwrap_or_else(|| first_segment(id));
    }
    match id.split(':').next().unwrap_or(id) {
        "state" => "iii-state".to_owned(),
        "stream" => "iii-stream".to_owned(),
        "subscribe" => "iii-pubsub".to_owned(),
        "durable" => "iii-queue".to_owned(),
        "cron" => "iii-cron".to_owned(),
        "configuration" => "iii-configuration".to_owned(),
        _ => PART.to_owned(),
    }
}

pub(super) fn type_info(core: &Arc<Core>, request: ById) -> Result<Value> {
    let ById { id } = request;
    let types = core.triggers.types();
    let offered = types
        .iter()
        .find(|(other, _)| *other == id)
        .map(|(_, offered)| offered);
    let offered = offered.ok_or_else(|| Error::coded("NOT_FOUND", format!("Trigger type {id} not found")))?;
    let mut detail = json!({
        "id": id,
        "worker_name": type_worker(core, &id, offered),
        "description": offered.description,
        "instance_count": core.triggers.bindings_of(&id).len(),
    });
    if let Some(schema) = &offered.configuration_schema {
        detail["configuration_schema"] = schema.clone();
    }
    if let Some(schema) = &offered.request_schema {
        detail["request_schema"] = schema.clone();
    }
    Ok(detail)
}
