//! The providers that share the Chat Completions engine, each in the whole program: real registry, real catalog, a real HTTP
//! server (contract 08).

mod fallback;
mod hot_keys;
mod kimi;
mod limits;
mod llamacpp;
mod lmstudio;
mod lmstudio_memory;
mod overflow;
mod real_llama_cpp;
mod sixth;
mod starts;

use harness::scripted::{Reply, Script, Server};
use serde_json::{Value, json};

use super::provider_rig::{Turn, chunk, config_of, stream_request, user};
use super::support::engine::within;
use super::support::{TestBus, TestOptions, three_ways};

/// One provider, and the server it talks to.
struct Rig {
    test: TestBus,
    server: Server,
    id: &'static str,
}

impl Rig {
    /// Failed requests are not tried again. `change` gets the options and the address of the server.
    async fn start(id: &'static str, script: Script, change: impl FnOnce(&mut TestOptions, &str)) -> Self {
        let server = Server::start(script).unwrap();
        let mut options = TestOptions::default();
        options.config.provider.max_retries = 0;
        change(&mut options, &server.url());
        let test = TestBus::with(options).await;
        let rig = Self { test, server, id };
        // The discovery of the start is over before a test begins.
        let refresh = format!("provider::{id}::refresh_models");
        rig.test.ok(&refresh, json!({})).await;
        rig
    }

    async fn call(&self, function: &str, payload: Value) -> Value {
        self.test
            .ok(&format!("provider::{}::{function}", self.id), payload)
            .await
    }

    async fn say(&self, model: &str, text: &str) -> Turn {
        self.turn(json!({"model": model, "messages": [user(text)]})).await
    }

    /// A turn to its end.
    async fn turn(&self, request: Value) -> Turn {
        let (writer, reader) = self.test.channel().await;
        let mut events: Vec<Value> = Vec::new();
        let call = self.call("stream", stream_request(&writer, request));
        let reading = self.test.read_channel(&reader, |text| {
            events.push(serde_json::from_str(text).unwrap());
            true
        });
        let (answer, ()) = within(async { tokio::join!(call, reading) }).await;
        Turn { events, answer }
    }

    async fn refresh(&self) -> Value {
        self.call("refresh_models", json!({})).await["registered"].take()
    }

    /// The catalog's records of this provider.
    async fn listed(&self) -> Value {
        self.test.ok("models::list", json!({ "provider": self.id })).await["models"].take()
    }

    async fn store(&self, slice: Value) {
        let value = json!({"permissions": {"default_mode": "manual"}, "providers": { self.id: slice }});
        self.test
            .ok("configuration::set", json!({"id": "harness", "value": value}))
            .await;
    }

    /// The bodies of requests to a path that is neither chat nor models.
    fn posted(&self, path: &str) -> Vec<Value> {
        let others = self.server.others();
        let to_it = others.into_iter().filter(|(at, _)| at == path);
        to_it.map(|(_, body)| body).collect()
    }

    /// The one chat request so far, or the last one.
    fn last_body(&self) -> Value {
        self.server.requests().last().unwrap().body.clone()
    }
}

/// A JSON answer.
fn answers(body: &Value) -> Reply {
    Reply::fails(200, body.to_string())
}

fn event(chunk: &Value) -> String {
    format!("data: {chunk}\n\n")
}

/// Text that a model says, as its whole content.
fn says(text: &str) -> Value {
    json!([{"type": "text", "text": text}])
}
