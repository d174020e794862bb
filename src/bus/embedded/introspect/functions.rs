//! Functions: who answers what.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::trigger::Binding;
use super::super::{Core, builtins};
use crate::bus::{FunctionDef, FunctionInfo};
use crate::error::{Error, Result};
use crate::model::lenient;

const MAX_INFO_BATCH: usize = 32;

/// A function with the worker it is shown under.
pub(super) struct Row {
    pub(super) info: FunctionInfo,
    pub(super) worker: String,
    /// The program's own function, whose schemas are made on demand.
    pub(super) ours: Option<FunctionDef>,
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

    pub(super) fn to_json(&self) -> Value {
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

pub(super) fn is_internal_id(id: &str) -> bool {
    id.starts_with("engine::") && !id.starts_with("engine::queue::")
}

/// Every function that is answered here, sorted by id. An outside worker hides the program, the program the engine.
pub(super) fn rows(core: &Core) -> Vec<Row> {
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
pub(in crate::bus::embedded) fn all_rows(core: &Core) -> Vec<Value> {
    rows(core).iter().map(Row::to_json).collect()
}

pub(super) fn first_segment(id: &str) -> String {
    id.split("::").next().unwrap_or(id).to_owned()
}

#[derive(Deserialize)]
pub(super) struct ListFunctions {
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

pub(super) fn list_functions(core: &Arc<Core>, request: ListFunctions) -> Value {
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
pub(super) fn rank(row: &Row, search: &str) -> u8 {
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
pub(super) struct FunctionInfoRequest {
    #[serde(default)]
    function_id: Option<String>,
    #[serde(default)]
    function_ids: Option<Vec<String>>,
}

pub(super) fn function_info(core: &Arc<Core>, request: FunctionInfoRequest) -> Result<Value> {
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

pub(super) fn function_detail(row: &Row, bindings: &[Arc<Binding>]) -> Value {
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
