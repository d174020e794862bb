//! Workers: who is connected.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Core, builtins};
use super::bindings::{Owners, binding_row};
use super::functions::{Row, rows};
use super::types::type_worker;
use crate::error::{Error, Result};
use crate::model::lenient;

#[derive(Deserialize)]
pub(super) struct ListWorkers {
    #[serde(default, deserialize_with = "lenient::optional")]
    search: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    runtime: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    status: Option<String>,
}

pub(super) fn list_workers(core: &Arc<Core>, request: ListWorkers) -> Value {
    let ListWorkers {
        search,
        runtime,
        status,
    } = request;
    let search = search.map(|search| search.to_lowercase());
    let text = |worker: &Value, member: &str| worker[member].as_str().unwrap_or_default().to_owned();
    let mut workers = worker_rows(core);
    workers.retain(|worker| {
        runtime
            .as_ref()
            .is_none_or(|wanted| text(worker, "runtime") == *wanted)
            && status
                .as_ref()
                .is_none_or(|wanted| text(worker, "status") == *wanted)
            && search.as_ref().is_none_or(|search| {
                text(worker, "name").to_lowercase().contains(search)
                    || text(worker, "description").to_lowercase().contains(search)
            })
    });
    json!({ "workers": workers })
}

/// The parts of the engine, the program and the outside workers that said who they are, sorted by name.
pub(super) fn worker_rows(core: &Core) -> Vec<Value> {
    let mut counts = BTreeMap::<String, usize>::new();
    for row in rows(core) {
        *counts.entry(row.worker).or_default() += 1;
    }
    let started = core.peers.program().map_or(0, |program| program.started_at_ms);
    let mut workers = BTreeMap::<String, Value>::new();
    for part in builtins().map(|builtin| builtin.part) {
        let row = json!({
            "name": part, "description": null, "version": env!("CARGO_PKG_VERSION"), "id": part,
            "runtime": "engine", "os": std::env::consts::OS, "status": "available",
            "function_count": counts.get(part).copied().unwrap_or_default(),
            "connected_at_ms": started, "active_invocations": 0, "isolation": "in-process", "ip_address": null,
        });
        workers.insert(part.to_owned(), row);
    }
    let mut rows: Vec<_> = workers.into_values().collect();
    let name = &core.options.worker_name;
    rows.push(json!({
        "name": name, "description": env!("CARGO_PKG_DESCRIPTION"), "version": env!("CARGO_PKG_VERSION"),
        "id": core.peers.program().map(|program| program.id.to_string()),
        "runtime": "rust", "os": std::env::consts::OS, "status": "available",
        "function_count": counts.get(name).copied().unwrap_or_default(),
        "connected_at_ms": started, "active_invocations": core.bus().map_or(0, |bus| bus.served_now()),
        "isolation": "in-process", "ip_address": null,
    }));
    for peer in core
        .peers
        .list()
        .into_iter()
        .filter(|peer| peer.facts.pid.is_some())
    {
        let facts = peer.facts;
        rows.push(json!({
            "name": facts.name, "description": facts.description, "version": facts.version, "id": &*peer.id,
            "runtime": facts.runtime, "os": facts.os, "status": "available",
            "function_count": peer.functions.len(), "connected_at_ms": peer.connected_at_ms,
            "active_invocations": peer.active, "isolation": facts.isolation, "ip_address": facts.ip_address,
        }));
    }
    rows.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    rows
}

#[derive(Deserialize)]
pub(super) struct ByName {
    name: String,
}

pub(super) fn worker_info(core: &Arc<Core>, request: ByName) -> Result<Value> {
    let ByName { name } = request;
    let found = worker_rows(core)
        .into_iter()
        .find(|worker| worker["name"] == json!(name));
    let worker = found.ok_or_else(|| Error::coded("NOT_FOUND", format!("Worker {name} not found")))?;
    let functions: Vec<_> = rows(core)
        .iter()
        .filter(|row| row.worker == name)
        .map(Row::to_json)
        .collect();
    let types: Vec<_> = core
        .triggers
        .types()
        .into_iter()
        .filter(|(id, offered)| type_worker(core, id, offered) == name)
        .map(|(id, offered)| json!({ "id": id, "worker_name": name, "description": offered.description }))
        .collect();
    let owners = Owners::of(core);
    let bindings: Vec<_> = core
        .triggers
        .bindings()
        .iter()
        .filter(|binding| owners.name(binding) == name)
        .map(|binding| binding_row(binding, &owners))
        .collect();
    Ok(json!({
        "worker": worker,
        "functions": functions,
        "trigger_types": types,
        "registered_triggers": bindings,
    }))
}
