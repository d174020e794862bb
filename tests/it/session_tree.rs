//! `session-tree::*`: acceptance cases of contract 06, field lessons S6 and S8, a sequential model, hostile payloads.

mod append;
mod browser;
mod compact;
mod copies;
mod delete;
mod export;
mod histories;
mod leftovers;
mod lessons;
mod list;
mod model;
mod pages;
mod parts;
mod path;
mod payload;
mod reconcile;
mod storage;
mod tree;

use serde_json::{Value, json};

use crate::session_rig::{Rig, u};

const UNUSED: [&str; 0] = [];

async fn list(rig: &Rig, request: Value) -> Value {
    rig.call("session-tree::list", request).await.unwrap()
}

fn ids(reply: &Value) -> Vec<&str> {
    let rows = reply["sessions"].as_array().unwrap();
    rows.iter()
        .map(|row| row["session_id"].as_str().unwrap())
        .collect()
}

fn entry(id: &str, parent: Option<&str>, timestamp: i64) -> Value {
    json!({"type": "message", "id": id, "parent_id": parent, "timestamp": timestamp, "message": u(id)})
}

/// Calls a function that answers a session, and answers its id.
async fn made(rig: &Rig, id: &str, request: Value) -> String {
    let reply = rig.call(id, request).await.unwrap();
    reply["session_id"].as_str().unwrap().to_owned()
}

/// Rows in stored order.
fn in_stored_order(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_key(|row| {
        let id = row["id"].as_str().unwrap().to_owned();
        (row["timestamp"].as_i64().unwrap(), id)
    });
    rows
}

/// Adds a compaction, and answers the id of its entry.
async fn compact(rig: &Rig, session: &str, tail: Option<&str>) -> String {
    let request = json!({"session_id": session, "summary": "s", "tokens_before": 9, "tail_start_id": tail});
    let reply = rig.call("session-tree::compact", request).await.unwrap();
    reply["entry_id"].as_str().unwrap().to_owned()
}
