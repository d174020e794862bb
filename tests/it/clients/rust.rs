//! The story with the official Rust SDK.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use iii_sdk::errors::Error;
use iii_sdk::protocol::{RegisterTriggerInput, TriggerAction, TriggerRequest};
use iii_sdk::trigger::{TriggerConfig, TriggerHandler};
use iii_sdk::{RegisterFunction, RegisterTriggerType, helpers};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::process::Program;
use super::story::{self, Client};
use super::worker::{Worker, bytes, failure};
use crate::support::engine::within;

fn types(events: &[Value]) -> Value {
    let mut types: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
    types.dedup();
    json!(types)
}

fn said(events: &[Value]) -> String {
    let deltas = events.iter().map(|event| &event["llm_event"]);
    deltas
        .filter(|event| event["type"] == "text_delta")
        .map(|event| event["delta"].as_str().unwrap())
        .collect()
}

async fn play(worker: &Worker, client: &Client) -> Value {
    let name = client.name;
    let (browser, session) = (format!("console-{name}"), format!("console-chat-{name}"));
    let mut seen = json!({});

    // What is there.
    let prefix = json!({ "prefix": "harness::trigger" });
    seen["listed"] = worker.ok("engine::functions::list", prefix).await["functions"].take();
    let id = json!({ "function_id": "harness::trigger" });
    let info = worker.ok("engine::functions::info", id).await;
    let mut takes: Vec<_> = info["request_schema"]["properties"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    takes.sort();
    seen["takes"] = json!(takes);

    // Its own functions, as a page of the console and as a tool.
    let mut pushes = worker.record(&format!("ui::session::event::{browser}"));
    let mut items = worker.record(&format!("demo::stream::{name}"));
    let weather_id = format!("demo::weather::{name}");
    let city =
        json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    let described = |function: RegisterFunction| {
        function
            .description("The weather of a city")
            .request_format(city)
            .response_format(Value::Null)
            .metadata(json!({ "made_by": name }))
    };
    let (_, mut weather) = worker.serve(&weather_id, described, |request| {
        Ok(json!({ "sky": "clear", "city": request["city"] }))
    });
    let note_id = format!("demo::note::{name}");
    let (_, mut notes) = worker.serve(
        &note_id,
        |function| function,
        |note| Ok(json!({ "length": note["text"].as_str().map_or(0, str::len) })),
    );
    let fails_id = format!("demo::fails::{name}");
    let (fails, _attempts) = worker.serve(
        &fails_id,
        |function| function,
        |_| Err(Error::Handler("on purpose".to_owned())),
    );
    let events = json!({ "stream_name": "agent::events", "group_id": session });
    worker.bind("stream", &format!("demo::stream::{name}"), events);
    let id = json!({ "function_id": weather_id });
    seen["own"] = worker.ok("engine::functions::info", id).await;
    let listed = worker
        .ok("engine::workers::list", json!({ "search": name }))
        .await;
    let rows = listed["workers"].as_array().unwrap().iter().map(|row| {
        json!({
            "name": row["name"], "runtime": row["runtime"], "status": row["status"],
            "description": row["description"], "function_count": row["function_count"],
        })
    });
    seen["workers"] = rows.collect();

    // A turn in which the agent calls it, once a person has approved.
    let subscription = json!({ "browser_id": browser, "session_id": session });
    seen["subscribed"] = worker.ok("ui::subscribe", subscription.clone()).await;
    let user = json!({ "role": "user", "content": [{ "type": "text", "text": name }], "timestamp": 1_780_000_000_000_i64 });
    let request = json!({
        "session_id": session, "message_id": "m1", "payload": {
            "session_id": session, "message_id": "m1", "provider": "openai", "model": "gpt-5", "messages": [user],
        },
    });
    seen["started"] = worker.ok("harness::trigger", request).await;
    let event = |mut push: Value| push["event"].take();
    let is_parked = |event: &Value| {
        event["type"] == "turn_state_changed" && event["new_value"]["state"] == "function_awaiting_approval"
    };
    let is_last = |event: &Value| event["type"] == "agent_end";
    let mut pushed = pushes.until(event, is_parked).await;
    let parked = pushed.last().unwrap()["new_value"]["awaiting_approval"].clone();
    let asks = parked.as_array().unwrap().iter();
    seen["asks"] = asks
        .map(|row| json!({ "function_id": row["function_id"], "args": row["args"] }))
        .collect();
    let decision = json!({
        "session_id": session, "function_call_id": parked[0]["function_call_id"], "decision": "allow",
    });
    seen["approved"] = worker.ok("approval::resolve", decision).await;
    seen["called_with"] = weather.next().await;
    pushed.extend(pushes.until(event, is_last).await);
    let streamed = items
        .until(|mut item| item["event"]["data"].take(), is_last)
        .await;
    seen["pushed"] = types(&pushed);
    seen["streamed"] = types(&streamed);
    seen["said"] = json!([said(&pushed), said(&streamed)]);
    let end = pushed
        .iter()
        .find(|event| event["type"] == "function_execution_end");
    seen["result"] = end.unwrap()["result"]["details"].clone();
    let tree = worker
        .ok("session-tree::messages", json!({ "session_id": session }))
        .await;
    let rows = tree["messages"].as_array().unwrap().iter();
    seen["transcript"] = rows.map(|row| row["message"]["role"].clone()).collect();
    seen["unsubscribed"] = worker.ok("ui::unsubscribe", subscription).await;

    // Calls that nobody waits for, a job, and what comes beside the payload.
    let with = |text: &str, action: Option<TriggerAction>| TriggerRequest {
        action,
        ..TriggerRequest::new(note_id.clone(), json!({ "text": text }))
    };
    let void = with("void", Some(TriggerAction::Void)).metadata(json!({ "by": "void" }));
    worker.sdk.trigger(void).await.unwrap();
    seen["void"] = notes.call().await;
    let queue = "default".to_owned();
    let job = within(
        worker
            .sdk
            .trigger(with("job", Some(TriggerAction::Enqueue { queue }))),
    )
    .await
    .unwrap();
    seen["receipt"] = json!(job.as_object().unwrap().keys().collect::<Vec<_>>());
    seen["job"] = notes.next().await;
    let large = "x".repeat(client.large);
    seen["large"] = within(worker.sdk.trigger(with(&large, None))).await.unwrap();
    seen["large_came"] = json!(notes.next().await["text"] == large);

    web(worker, client, &mut seen).await;
    timer(worker, client, &mut seen).await;

    // Errors.
    let queue = "nowhere".to_owned();
    let job = TriggerRequest {
        action: Some(TriggerAction::Enqueue { queue }),
        ..TriggerRequest::new("no::such", json!({}))
    };
    seen["errors"] = json!({
        "own": worker.error(&fails_id, json!({})).await,
        "unknown": worker.error("no::such", json!({})).await,
        "engine": worker.error("state::set", json!({ "scope": "x" })).await,
        "program": worker.error("harness::trigger", json!({})).await,
        "queue": failure(within(worker.sdk.trigger(job)).await),
    });
    fails.unregister();
    seen["errors"]["unregistered"] = worker.error(&fails_id, json!({})).await;

    seen["channel"] = channel(worker).await;
    seen
}

/// A function that is a URL.
async fn web(worker: &Worker, client: &Client, seen: &mut Value) {
    let id = format!("demo::models::{}", client.name);
    let place = serde_json::from_value(json!({ "url": client.models, "method": "GET" })).unwrap();
    worker
        .sdk
        .register_function(id.clone(), RegisterFunction::http(place));
    let listing = worker.ok(&id, json!({})).await;
    let rows = listing["data"].as_array().unwrap().iter();
    seen["models"] = rows.map(|row| row["id"].clone()).collect();
}

/// A trigger type that never fires.
struct Timer {
    bound: mpsc::Sender<TriggerConfig>,
    unbound: mpsc::Sender<String>,
}

impl TriggerHandler for Timer {
    fn register_trigger<'a, 'b>(&'a self, config: TriggerConfig) -> BoxFuture<'b, Result<(), Error>>
    where
        'a: 'b,
    {
        let told = self.bound.try_send(config);
        std::future::ready(told.map_err(|error| Error::Runtime(error.to_string()))).boxed()
    }

    fn unregister_trigger<'a, 'b>(&'a self, config: TriggerConfig) -> BoxFuture<'b, Result<(), Error>>
    where
        'a: 'b,
    {
        let told = self.unbound.try_send(config.id);
        std::future::ready(told.map_err(|error| Error::Runtime(error.to_string()))).boxed()
    }
}

/// A trigger type of its own.
#[expect(
    deprecated,
    reason = "what replaces it needs a feature that engines of today do not have"
)]
async fn timer(worker: &Worker, client: &Client, seen: &mut Value) {
    let id = format!("demo::timer::{}", client.name);
    let ((bound, mut bindings), (unbound, mut removals)) = (mpsc::channel(4), mpsc::channel(4));
    let timer = RegisterTriggerType::new(id.clone(), "Fires now and then", Timer { bound, unbound });
    worker.sdk.register_trigger_type(timer);
    let mut binding = RegisterTriggerInput::new(
        id.clone(),
        format!("demo::note::{}", client.name),
        json!({ "every": 5 }),
    );
    binding.metadata = Some(json!({ "by": "timer" }));
    let binding = worker.sdk.register_trigger(binding).unwrap();
    let TriggerConfig {
        id: binding_id,
        function_id,
        config,
        metadata,
        ..
    } = within(bindings.recv()).await.unwrap();
    seen["bound"] = json!({ "function_id": function_id, "config": config, "metadata": metadata });
    let info = worker.ok("engine::triggers::info", json!({ "id": id })).await;
    seen["offered"] = json!({
        "worker_name": info["worker_name"], "description": info["description"],
        "instance_count": info["instance_count"],
    });
    binding.unregister();
    seen["unbound"] = json!(within(removals.recv()).await.unwrap() == binding_id);
}

/// What goes in at one end of a channel comes out at the other.
async fn channel(worker: &Worker) -> Value {
    let channel = within(helpers::create_channel(&worker.sdk, None)).await.unwrap();
    let (sender, mut frames) = mpsc::channel(16);
    let texts = sender.clone();
    channel
        .reader
        .on_message(move |text| texts.try_send(json!(text)).unwrap())
        .await;
    let reading = async move {
        while let Some(chunk) = bytes(&channel.reader).await.unwrap() {
            sender.try_send(json!(chunk)).unwrap();
        }
    };
    let writer = channel.writer;
    let writing = async move {
        writer.send_message("first").boxed().await.unwrap();
        writer.write(&[1, 2, 255]).boxed().await.unwrap();
        writer.send_message("last").boxed().await.unwrap();
        writer.close().await.unwrap();
    };
    tokio::join!(reading, writing);
    let mut seen = Vec::new();
    while let Ok(frame) = frames.try_recv() {
        seen.push(frame);
    }
    json!(seen)
}

#[tokio::test]
async fn the_rust_sdk() {
    let program = Program::start().await;
    let client = Client {
        name: "rust-client",
        runtime: "rust",
        large: 20 * 1024 * 1024,
        models: program.models(),
        failed: "handler error: on purpose",
    };
    let worker = Worker::join(&program.url(), client.name);
    within(worker.sdk.wait_until_registered(Duration::from_secs(20)))
        .await
        .unwrap();
    let seen = play(&worker, &client).await;
    assert_eq!(seen, story::told(&client));
    worker.leave().await;
    story::has_gone(&program, client.name).await;
}
