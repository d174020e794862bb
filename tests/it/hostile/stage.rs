//! What has to be there before a function can do what it is asked for, and the request that names it.

use harness::bus::FunctionInfo;
use serde_json::{Map, Value, json};

use super::payloads::sample;
use super::world::{PAGE, World};

const MODEL: &str = "gpt-5";

/// A request with all members that its schema has, which the function takes and carries out.
pub(super) async fn whole(world: &World, function: &FunctionInfo) -> Value {
    let schema = function.request_schema.clone().unwrap_or_default();
    let mut request = match sample(&schema) {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    let real = Real::of(world, function.id.as_str()).await;
    for (name, value) in real.for_every_function() {
        if let Some(member) = request.get_mut(&name) {
            *member = value;
        }
    }
    request.extend(real.beyond(function.id.as_str()));
    Value::Object(request)
}

/// The members of such a request that the function cannot do without.
pub(super) fn minimal(function: &FunctionInfo, whole: &Value) -> Value {
    let schema = function.request_schema.clone().unwrap_or_default();
    let required = schema["required"].as_array().into_iter().flatten();
    let mut needed: Vec<&str> = required.map(|name| name.as_str().unwrap()).collect();
    // What a schema cannot say, or a function asks for in its own words.
    needed.extend(match function.id.as_str() {
        "budget::alert_set" => &["threshold_pct", "callback_function_id"][..],
        "budget::check" => &["estimated_cost_usd"],
        "budget::create" => &["ceiling_usd", "period"],
        "budget::enforce" => &["enforced"],
        "budget::pause" => &["paused"],
        "budget::record" => &["cost_usd"],
        "budget::update" => &["patch"],
        "context-compaction::compact_now" | "provider::lmstudio::load_model" => &["model"],
        "context-compaction::on_agent_event" => &["groupId", "event"],
        "harness::fanout::agent_event_handler" | "hook-fanout::reply_handler" => &["group_id", "data"],
        "harness::fanout::session_created" => &["event_type", "key"],
        "models::register" => &["id", "provider", "display_name"],
        "provider::lmstudio::unload_model" => &["instance_id"],
        "session-tree::update_parts" => &["items"],
        "turn::on_approval" => &["event_type", "scope", "key", "new_value"],
        id if id.ends_with("::complete") => &["messages"],
        _ => &[],
    });
    let members = needed
        .iter()
        .map(|name| ((*name).to_owned(), whole[name].clone()));
    Value::Object(members.collect())
}

/// Things that exist.
struct Real {
    session: Value,
    /// A message of the session, and after it the result of a function.
    entry: Value,
    result: Value,
    budget: Value,
    /// A channel that nobody has written to.
    writer: Value,
    page: String,
}

impl Real {
    async fn of(world: &World, id: &str) -> Self {
        let session = world.ok("session-tree::create", json!({})).await["session_id"].take();
        let append = async |message: Value| {
            let request = json!({ "session_id": session, "message": message });
            world.ok("session-tree::append", request).await["entry_id"].take()
        };
        let entry = append(user_message()).await;
        let result = append(json!({
            "role": "function_result", "function_call_id": "c", "function_id": "f", "content": [text("out")], "details": {},
            "is_error": false, "timestamp": 2,
        }))
        .await;
        if id.starts_with("turn::") {
            let start = json!({ "session_id": session, "provider": "openai", "model": MODEL });
            world.ok("run::start", start).await;
            world.has_ended(&session).await;
        }
        if id.starts_with("models::") {
            world.ok("provider::openai::refresh_models", json!({})).await;
        }
        let budget = if id.starts_with("budget::") || id == "run::start" {
            let request = json!({ "ceiling_usd": 10, "period": "month" });
            world.ok("budget::create", request).await["budget_id"].take()
        } else {
            Value::Null
        };
        let writer = if id.ends_with("::stream") {
            world.ok("engine::channels::create", json!({})).await["writer"].take()
        } else {
            Value::Null
        };
        Self {
            session,
            entry,
            result,
            budget,
            writer,
            page: world.url(PAGE),
        }
    }

    /// Members that mean the same wherever they are.
    fn for_every_function(&self) -> Map<String, Value> {
        members(json!({
            "session_id": self.session, "source_session_id": self.session, "from_entry_id": self.entry,
            "tail_start_id": self.entry, "branch_leaf": self.result, "before": self.result, "parent_id": null,
            "budget_id": self.budget, "reservation_id": null, "remove_alert_id": null, "provider": "openai",
            "model_id": MODEL,
            "writer_ref": self.writer, "messages": [user_message()], "tools": [], "url": self.page,
        }))
    }

    /// What is special to a function.
    fn beyond(&self, id: &str) -> Map<String, Value> {
        let compact_model = json!({ "id": MODEL, "providerID": "openai", "limit": { "context": 1000, "input": 1000, "output": 100 } });
        members(match id {
            "budget::alert_set" => json!({ "threshold_pct": 0.5 }),
            "budget::create" => json!({ "period": "month", "time_zone": "UTC" }),
            "budget::update" => json!({ "patch": { "name": "n" }, "assign": { "agent_id": "a" } }),
            "budget::usage" => json!({ "window": "month" }),
            "context-compaction::compact_now" | "context-compaction::compact_session" => {
                json!({ "model": compact_model })
            }
            "context-compaction::on_agent_event" => {
                json!({ "groupId": self.session, "event": { "type": "create", "data": { "type": "turn_end",
                    "message": { "role": "assistant", "model": MODEL, "provider": "openai", "usage": { "input": 9 } } } } })
            }
            "harness::fanout::agent_event_handler" | "hook-fanout::reply_handler" => {
                json!({ "group_id": self.session, "data": { "type": "x" } })
            }
            "harness::fanout::session_created" => {
                json!({ "type": "state", "event_type": "state:created", "scope": "turn_state", "key": self.session,
                    "old_value": null, "new_value": {} })
            }
            "harness::trigger" => {
                json!({ "function_id": "run::start",
                    "payload": { "session_id": self.session, "provider": "openai", "model": MODEL } })
            }
            "models::register" => json!({ "id": "m1", "provider": "p1", "display_name": "M" }),
            "models::supports" => json!({ "capability": "tools" }),
            "run::start" => json!({ "model": MODEL, "estimated_cost_usd": 0.1 }),
            "session-tree::update_part" => json!({ "entry_id": self.result }),
            "session-tree::update_parts" => json!({ "items": [{ "entry_id": self.result, "output": "o" }] }),
            "turn::on_approval" => {
                let key = format!("{}/c", self.session.as_str().unwrap());
                json!({ "type": "state", "event_type": "state:created", "scope": "approvals", "key": key,
                    "old_value": null, "new_value": { "decision": "allow" } })
            }
            "web::fetch" => {
                json!({ "method": "POST", "timeout_ms": 10_000, "max_bytes": 1000, "response_format": "json" })
            }
            id if id.ends_with("::complete") || id.ends_with("::stream") => json!({ "model": MODEL }),
            _ => json!({}),
        })
    }
}

fn members(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(members) => members,
        other => panic!("{other}"),
    }
}

fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn user_message() -> Value {
    json!({ "role": "user", "content": [text("hi")], "timestamp": 1 })
}

/// What is wrong with the answer to a request that must be carried out.
pub(super) fn failure(id: &str, answer: &Value) -> Option<String> {
    let did_it = match id {
        "harness::trigger" => answer["status_code"] == 200,
        "run::start" => answer["started"] == true,
        "models::get" => answer["id"] == MODEL,
        "session-tree::update_part" | "session-tree::update_parts" => answer["updated"] == 1,
        id if id.ends_with("::refresh_models") => answer["registered"] == json!([MODEL]),
        id if id.ends_with("::complete") => answer["stop_reason"] == "end",
        _ => answer["ok"] != false && answer.get("error").is_none_or(Value::is_null),
    };
    (!did_it).then(|| format!("{id} did not do it: {answer}"))
}
