//! What the engine tells about itself (contract 00 §9).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::trigger::{Binding, Owner, TriggerType};
use super::{Builtin, Core, answer, builtins, input};
use crate::bus::{FunctionDef, FunctionInfo, Invocation};
use crate::error::{Error, Result};
use crate::model::lenient;

const PART: &str = "iii-engine";
const MAX_INFO_BATCH: usize = 32;
const MAX_SUMMARY_CHARS: usize = 120;

/// A function that answers any well-formed question.
macro_rules! list {
    ($id:literal, $description:literal, $function:ident) => {
        Builtin {
            id: $id,
            description: $description,
            part: PART,
            handler: |core, call: Invocation| {
                answer(input($id, call.payload).map(|request| $function(core, request)))
            },
        }
    };
}

/// A function that may not know what it is asked for.
macro_rules! info {
    ($id:literal, $description:literal, $function:ident) => {
        Builtin {
            id: $id,
            description: $description,
            part: PART,
            handler: |core, call: Invocation| {
                answer(input($id, call.payload).and_then(|request| $function(core, request)))
            },
        }
    };
}

pub(super) const FUNCTIONS: &[Builtin] = &[
    list!(
        "engine::functions::list",
        "List the registered functions",
        list_functions
    ),
    info!(
        "engine::functions::info",
        "Describe one function, or several", function_info
    ),
    list!("engine::triggers::list", "List the trigger types", list_types),
    info!("engine::triggers::info", "Describe a trigger type", type_info),
    list!(
        "engine::registered-triggers::list",
        "List the trigger bindings",
        list_bindings
    ),
    info!(
        "engine::registered-triggers::info",
        "Describe a trigger binding", binding_info
    ),
    list!("engine::workers::list", "List the workers", list_workers),
    info!("engine::workers::info", "Describe a worker", worker_info),
];

/// A function with the worker it is shown under.
struct Row {
    info: FunctionInfo,
    worker: String,
    /// The program's own function, whose schemas are made on demand.
    ours: Option<FunctionDef>,
}

impl Row {
    fn is_internal(&self) -> bool {
        is_internal_id(&self.info.id)
            || self
                .info
                .metadata
                .as_ref()
                .and_then(|metadata| metadata.get("internal"))
                == Some(&Value::Bool(true))
    }

    fn to_json(&self) -> Value {
        let mut row = Map::new();
        row.insert("function_id".into(), json!(self.info.id));
        row.insert("worker_name".into(), json!(self.worker));
        if !self.info.description.is_empty() {
            row.insert("description".into(), json!(self.info.description));
        }
        if let Some(metadata) = &self.info.metadata {
            row.insert("metadata".into(), metadata.clone());
        }
        Value::Object(row)
    }
}

fn is_internal_id(id: &str) -> bool {
    id.starts_with("engine::") && !id.starts_with("engine::queue::")
}

/// Every function that is answered here, sorted by id. An outside worker hides the program, the program the engine.
fn rows(core: &Core) -> Vec<Row> {
    let mut rows = BTreeMap::new();
    for builtin in builtins() {
        let info = FunctionInfo {
            id: builtin.id.into(),
            description: builtin.description.to_owned(),
            request_schema: None,
            response_schema: None,
            metadata: None,
        };
        rows.insert(
            info.id.clone(),
            Row {
                info,
                worker: builtin.part.to_owned(),
                ours: None,
            },
        );
    }
    for function in core.bus().map(|bus| bus.functions()).unwrap_or_default() {
        // Without schemas: they are large, and a list does not show them.
        let info = FunctionInfo {
            id: function.id().clone(),
            description: function.description().to_owned(),
            request_schema: None,
            response_schema: None,
            metadata: function.metadata(),
        };
        rows.insert(
            info.id.clone(),
            Row {
                info,
                worker: core.options.worker_name.clone(),
                ours: Some(function),
            },
        );
    }
    for peer in core.peers.list() {
        for info in peer.functions {
            let worker = peer.facts.name.clone().unwrap_or_else(|| first_segment(&info.id));
            let id = info.id.clone();
            rows.insert(
                id,
                Row {
                    info,
                    worker,
                    ours: None,
                },
            );
        }
    }
    rows.into_values().collect()
}

/// Rows of all functions, the internal ones too.
pub(super) fn all_rows(core: &Core) -> Vec<Value> {
    rows(core).iter().map(Row::to_json).collect()
}

fn first_segment(id: &str) -> String {
    id.split("::").next().unwrap_or(id).to_owned()
}

#[derive(Deserialize)]
struct ListFunctions {
    #[serde(default, deserialize_with = "lenient::optional")]
    search: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    prefix: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    worker: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    workers: Option<Vec<String>>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    include_internal: bool,
}

fn list_functions(core: &Arc<Core>, request: ListFunctions) -> Value {
    let ListFunctions {
        search,
        prefix,
        worker,
        workers,
        include_internal,
    } = request;
    let mut rows = rows(core);
    rows.retain(|row| {
        (include_internal || !row.is_internal())
            && prefix
                .as_ref()
                .is_none_or(|prefix| row.info.id.starts_with(prefix))
            && worker.as_ref().is_none_or(|worker| row.worker == *worker)
            && workers
                .as_ref()
                .is_none_or(|workers| workers.contains(&row.worker))
    });
    if let Some(search) = search.filter(|search| !search.is_empty()) {
        let search = search.to_lowercase();
        rows.retain(|row| rank(row, &search) > 0);
        // Stable: equal ranks stay in order of their ids.
        rows.sort_by_key(|row| Reverse(rank(row, &search)));
    }
    json!({ "functions": rows.iter().map(Row::to_json).collect::<Vec<_>>() })
}

/// 3: a segment of the id begins with the text; 2: the id holds it; 1: the description does; 0: no hit.
fn rank(row: &Row, search: &str) -> u8 {
    let id = row.info.id.to_lowercase();
    if id.starts_with(search) || id.split("::").any(|segment| segment.starts_with(search)) {
        3
    } else if id.contains(search) {
        2
    } else {
        u8::from(row.info.description.to_lowercase().contains(search))
    }
}

#[derive(Deserialize)]
struct FunctionInfoRequest {
    #[serde(default)]
    function_id: Option<String>,
    #[serde(default)]
    function_ids: Option<Vec<String>>,
}

fn function_info(core: &Arc<Core>, request: FunctionInfoRequest) -> Result<Value> {
    let rows: BTreeMap<_, _> = rows(core)
        .into_iter()
        .map(|row| (row.info.id.to_string(), row))
        .collect();
    let bindings = core.triggers.bindings();
    match (request.function_id, request.function_ids) {
        (Some(id), None) => {
            let row = rows
                .get(&id)
                .ok_or_else(|| Error::coded("NOT_FOUND", format!("Function {id} not found")))?;
            Ok(function_detail(row, &bindings))
        }
        (None, Some(ids)) if ids.len() <= MAX_INFO_BATCH => {
            let detail = |id: &String| match rows.get(id) {
                Some(row) => function_detail(row, &bindings),
                None => json!({ "function_id": id, "error": "not_found" }),
            };
            Ok(json!({ "functions": ids.iter().map(detail).collect::<Vec<_>>() }))
        }
        (None, Some(_)) => Err(Error::coded(
            "INVALID_ARGUMENTS",
            format!("function_ids takes at most {MAX_INFO_BATCH} ids"),
        )),
        (None, None) | (Some(_), Some(_)) => Err(Error::coded(
            "INVALID_ARGUMENTS",
            "give either function_id or function_ids",
        )),
    }
}

fn function_detail(row: &Row, bindings: &[Arc<Binding>]) -> Value {
    let mut detail = row.to_json();
    let full = row.ours.as_ref().map(FunctionDef::info);
    let info = full.as_ref().unwrap_or(&row.info);
    if let Some(schema) = &info.request_schema {
        detail["request_schema"] = schema.clone();
    }
    if let Some(schema) = &info.response_schema {
        detail["response_schema"] = schema.clone();
    }
    let theirs = bindings
        .iter()
        .filter(|binding| binding.spec.function_id == row.info.id);
    let rows = theirs.map(|binding| {
        json!({
            "id": binding.spec.id,
            "trigger_type": binding.spec.trigger_type,
            "config": binding.spec.config,
        })
    });
    detail["registered_triggers"] = rows.collect();
    detail
}

#[derive(Deserialize)]
struct ListTypes {
    #[serde(default, deserialize_with = "lenient::optional")]
    search: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    prefix: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    worker: Option<String>,
}

fn list_types(core: &Arc<Core>, request: ListTypes) -> Value {
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
fn type_worker(core: &Core, id: &str, offered: &TriggerType) -> String {
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

#[derive(Deserialize)]
struct ById {
    id: String,
}

fn type_info(core: &Arc<Core>, request: ById) -> Result<Value> {
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

#[derive(Deserialize)]
struct ListBindings {
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

fn list_bindings(core: &Arc<Core>, request: ListBindings) -> Value {
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

fn binding_info(core: &Arc<Core>, request: ById) -> Result<Value> {
    let ById { id } = request;
    let bindings = core.triggers.bindings();
    let binding = bindings.iter().find(|binding| binding.spec.id == id);
    let binding = binding.ok_or_else(|| Error::coded("NOT_FOUND", format!("Trigger {id} not found")))?;
    Ok(binding_row(binding, &Owners::of(core)))
}

fn binding_row(binding: &Binding, workers: &Owners) -> Value {
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
fn summary(config: &Value) -> String {
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
struct Owners {
    program: String,
    peers: BTreeMap<Arc<str>, Option<String>>,
    functions: BTreeMap<String, String>,
}

impl Owners {
    fn of(core: &Core) -> Self {
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
    fn name(&self, binding: &Binding) -> String {
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

#[derive(Deserialize)]
struct ListWorkers {
    #[serde(default, deserialize_with = "lenient::optional")]
    search: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    runtime: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    status: Option<String>,
}

fn list_workers(core: &Arc<Core>, request: ListWorkers) -> Value {
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
fn worker_rows(core: &Core) -> Vec<Value> {
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
        "connected_at_ms": started, "active_invocations": 0, "isolation": "in-process", "ip_address": null,
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
            "active_invocations": 0, "isolation": facts.isolation, "ip_address": facts.ip_address,
        }));
    }
    rows.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    rows
}

#[derive(Deserialize)]
struct ByName {
    name: String,
}

fn worker_info(core: &Arc<Core>, request: ByName) -> Result<Value> {
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
