//! The official Rust SDK.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use iii_sdk::errors::Error;
use iii_sdk::protocol::{RegisterTriggerInput, TriggerAction, TriggerRequest};
use iii_sdk::runtime::WorkerMetadata;
use iii_sdk::{IIIClient, InitOptions, RegisterFunction, helpers, register_worker};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::process::Program;
use super::story::{self, Client};
use crate::support::engine::within;

/// A worker that tells its values to a test.
pub(super) struct Worker {
    pub(super) sdk: IIIClient,
}

/// Values that come from a handler.
pub(super) struct Inbox(mpsc::Receiver<Value>);

impl Worker {
    pub(super) fn join(url: &str, name: &str) -> Self {
        Self::with(url, name, |_| {})
    }

    pub(super) fn with(url: &str, name: &str, change: impl FnOnce(&mut InitOptions)) -> Self {
        let mut options = InitOptions {
            metadata: Some(WorkerMetadata {
                name: name.to_owned(),
                description: Some("A test client".to_owned()),
                ..WorkerMetadata::default()
            }),
            otel: Some(Default::default()),
            ..InitOptions::default()
        };
        if let Some(otel) = &mut options.otel {
            // It is global to the process, which is that of all tests.
            otel.enabled = Some(false);
        }
        change(&mut options);
        Self {
            sdk: register_worker(url, options),
        }
    }

    /// Registers a function that shows its calls, each as `[request, metadata]`.
    pub(super) fn serve(
        &self,
        id: &str,
        change: impl FnOnce(RegisterFunction) -> RegisterFunction,
        answer: impl Fn(&Value) -> Result<Value, Error> + Send + Sync + 'static,
    ) -> (iii_sdk::runtime::FunctionRef, Inbox) {
        let (sender, receiver) = mpsc::channel(1024);
        let handler =
            move |request: Value, metadata: Option<Value>| -> BoxFuture<'static, Result<Value, Error>> {
                let answer = answer(&request);
                let told = sender.try_send(json!([request, metadata]));
                async move {
                    told.map_err(|error| Error::Runtime(error.to_string()))?;
                    answer
                }
                .boxed()
            };
        let function = self
            .sdk
            .register_function(id, change(RegisterFunction::new_async(handler)));
        (function, Inbox(receiver))
    }

    /// A function that answers null.
    pub(super) fn record(&self, id: &str) -> Inbox {
        self.serve(id, |function| function, |_| Ok(Value::Null)).1
    }

    #[expect(
        deprecated,
        reason = "what replaces it needs a feature that engines of today do not have"
    )]
    pub(super) fn bind(&self, trigger_type: &str, function_id: &str, config: Value) {
        let binding = RegisterTriggerInput::new(trigger_type, function_id, config);
        self.sdk.register_trigger(binding).unwrap();
    }

    pub(super) async fn call(&self, id: &str, payload: Value) -> Result<Value, Error> {
        within(self.sdk.trigger(TriggerRequest::new(id, payload))).await
    }

    pub(super) async fn ok(&self, id: &str, payload: Value) -> Value {
        self.call(id, payload).await.unwrap()
    }

    /// Code and message of a call that must fail.
    pub(super) async fn error(&self, id: &str, payload: Value) -> Value {
        failure(self.call(id, payload).await)
    }

    /// Leaves, and waits for the end of the connection.
    pub(super) async fn leave(self) {
        tokio::task::spawn_blocking(move || self.sdk.shutdown())
            .await
            .unwrap();
    }
}

impl Inbox {
    /// The request and the metadata of the next call.
    pub(super) async fn call(&mut self) -> Value {
        within(self.0.recv()).await.unwrap()
    }

    pub(super) async fn next(&mut self) -> Value {
        self.call().await[0].take()
    }

    async fn until(&mut self, take: impl Fn(Value) -> Value, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut taken = Vec::new();
        while !taken.last().is_some_and(&wanted) {
            taken.push(take(self.next().await));
        }
        taken
    }
}

pub(super) fn failure(outcome: Result<Value, Error>) -> Value {
    match outcome {
        Err(Error::Remote { code, message, .. }) => json!({ "code": code, "message": message }),
        other => json!({ "unexpected": format!("{other:?}") }),
    }
}

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
        while let Some(bytes) = channel.reader.next_binary().await.unwrap() {
            sender.try_send(json!(bytes)).unwrap();
        }
    };
    let writer = channel.writer;
    let writing = async move {
        writer.send_message("first").await.unwrap();
        writer.write(&[1, 2, 255]).await.unwrap();
        writer.send_message("last").await.unwrap();
        writer.close().await.unwrap();
    };
    within(async { tokio::join!(reading, writing) }).await;
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
