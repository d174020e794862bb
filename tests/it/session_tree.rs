//! `session-tree::*`: acceptance cases of contract 06, field lessons S6 and S8, a sequential model, hostile payloads.

mod append;
mod list;
mod model;
mod path;
mod payload;
mod storage;

use pretty_assertions::assert_eq;
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

#[tokio::test]
async fn the_worker_registers_what_the_catalog_names() {
    let rig = Rig::start().await;
    let catalog: Vec<_> = rig
        .bus()
        .catalog()
        .into_iter()
        .filter(|info| info.id.starts_with("session-tree::"))
        .map(|info| (info.id.to_string(), info.description))
        .collect();
    let expected = [
        (
            "session-tree::append",
            "Append an AgentMessage entry to a session",
        ),
        (
            "session-tree::compactions",
            "Return all compaction entries for a session, sorted by timestamp ascending",
        ),
        ("session-tree::create", "Create a new empty session record"),
        (
            "session-tree::ensure",
            "Idempotently ensure a session exists with the given id",
        ),
        (
            "session-tree::list",
            "List sessions with optional pagination and ordering",
        ),
        (
            "session-tree::messages",
            "Load every AgentMessage on the active path of a session, paired with its entry_id, oldest first",
        ),
    ]
    .map(|(id, description)| (id.to_owned(), description.to_owned()));
    assert_eq!(catalog, expected);
}
