//! Stands in for the functions of the session tree that are not there yet, over the same rows of state.

use harness::bus::{Bus, CallContext, CallOptions, FunctionDef};
use harness::error::{Error, Result};
use serde_json::{Value, json};

use crate::support::TestBus;

/// Registers what is missing. All of it or nothing: two writers of one session would not know each other.
pub(super) fn complete(t: &TestBus) {
    if t.bus().hosts("session-tree::compact") {
        return;
    }
    for name in [
        "append",
        "messages",
        "compactions",
        "compact",
        "append_synthetic",
        "update_parts",
    ] {
        let id = format!("session-tree::{name}");
        t.bus().unregister(&id);
        let bus = t.bus().downgrade();
        let handler = move |request: Value, _: CallContext| {
            let bus = bus.upgrade();
            async move { answer(&bus.ok_or(Error::Stopped)?, name, request).await }
        };
        t.bus().register(FunctionDef::ad_hoc(id, handler)).unwrap();
    }
}

async fn answer(bus: &Bus, name: &str, request: Value) -> Result<Value> {
    let _alone = bus.hold("stand-in").await;
    let scope = format!("session_tree:{}", request["session_id"].as_str().unwrap());
    let rows = invoke(bus, "list", json!({ "scope": scope })).await?;
    let mut rows = rows.as_array().cloned().unwrap_or_default();
    rows.sort_by_key(|row| row["timestamp"].as_i64());
    let last = rows.last();
    let mut entry = json!({
        "id": bus.uuid(), "parent_id": last.map(|row| &row["id"]),
        "timestamp": last.map_or(0, |row| row["timestamp"].as_i64().unwrap() + 1).max(bus.now_ms()),
    });
    match name {
        "messages" => {
            let messages = rows.iter().filter(|row| row["type"] == "message");
            let messages: Vec<Value> = messages.map(message_row).collect();
            return Ok(json!({ "messages": messages }));
        }
        "compactions" => return Ok(json!({ "entries": compaction_rows(&rows) })),
        "update_parts" => return update(bus, &scope, &rows, &request["items"]).await,
        "append" => {
            entry["type"] = json!("message");
            entry["message"] = request["message"].clone();
            if request["entry_id"].is_string() {
                entry["id"] = request["entry_id"].clone();
                if rows.iter().any(|row| row["id"] == entry["id"]) {
                    return Ok(json!({ "entry_id": entry["id"] }));
                }
            }
        }
        "append_synthetic" => {
            entry["type"] = json!("message");
            entry["parent_id"] = request["parent_id"].clone();
            entry["metadata"] = request["metadata"].clone();
            let content = json!([{ "type": "text", "text": request["text"] }]);
            entry["message"] = json!({ "role": "user", "content": content, "timestamp": bus.now_ms() });
        }
        _ => {
            entry["type"] = json!("compaction");
            for key in ["summary", "tokens_before", "tail_start_id", "details"] {
                entry[key] = request[key].clone();
            }
        }
    }
    let id = entry["id"].clone();
    invoke(bus, "set", json!({ "scope": scope, "key": id, "value": entry })).await?;
    Ok(json!({ "entry_id": id }))
}

fn message_row(row: &Value) -> Value {
    let mut message = json!({ "entry_id": row["id"], "message": row["message"] });
    if !row["metadata"].is_null() {
        message["metadata"] = row["metadata"].clone();
    }
    message
}

fn compaction_rows(rows: &[Value]) -> Vec<Value> {
    let mut before = 0;
    let mut found = Vec::new();
    for row in rows {
        if row["type"] == "message" {
            before += 1;
        } else {
            found.push(json!({
                "id": row["id"], "summary": row["summary"], "tokens_before": row["tokens_before"],
                "tail_start_id": row["tail_start_id"], "details": row["details"], "timestamp": row["timestamp"],
                "on_path": true, "messages_before": before,
            }));
        }
    }
    found
}

async fn update(bus: &Bus, scope: &str, rows: &[Value], items: &Value) -> Result<Value> {
    let mut updated = 0;
    for item in items.as_array().into_iter().flatten() {
        let Some(mut row) = rows.iter().find(|row| row["id"] == item["entry_id"]).cloned() else {
            continue;
        };
        row["message"]["content"] = json!([{ "type": "text", "text": "[output pruned]" }]);
        row["message"]["details"]["compacted_at"] = item["compacted_at"].clone();
        let request = json!({ "scope": scope, "key": row["id"], "value": row });
        invoke(bus, "set", request).await?;
        updated += 1;
    }
    Ok(json!({ "updated": updated }))
}

async fn invoke(bus: &Bus, operation: &str, payload: Value) -> Result<Value> {
    let id = format!("state::{operation}");
    bus.invoke(&CallContext::default(), &id, payload, CallOptions::default())
        .await
}
