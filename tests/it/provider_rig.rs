//! A provider with doubles of the registry and the catalog, and the scripted server it talks to over real HTTP.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::bus::{CallContext, CallOptions, ChannelPair, FunctionDef, WorkerDef};
use harness::config::{Config, Flags, LoadInput, MapEnv};
use harness::error::Error;
use harness::model::AgentMessage;
use harness::scripted::{Reply, Script, Server};
use harness::workers::providers::{anthropic, kimi, llamacpp, lmstudio, openai};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::support::engine::within;
use super::support::{TestBus, TestOptions};

/// The credential, of the registry's double.
pub(crate) const KEY: &str = "sk-test-0123456789";

/// A double that is to answer this fails.
const REFUSED: &str = "refused";

/// The provider with doubles of the registry and the catalog, and the server it talks to.
pub(crate) struct Rig {
    pub(crate) test: TestBus,
    pub(crate) server: Server,
    provider: &'static str,
    /// Calls to the doubles: id and payload.
    pub(crate) seen: Arc<Mutex<Vec<(String, Value)>>>,
}

/// What the doubles answer.
pub(crate) struct World {
    pub(crate) provider: &'static str,
    pub(crate) config: Config,
    /// Where the provider is, when not at the scripted server.
    pub(crate) api_url: Option<String>,
    pub(crate) credential: Value,
    /// Whether the registry can be asked.
    pub(crate) registry_fails: bool,
    pub(crate) max_tokens_stored: bool,
    pub(crate) model: Value,
    pub(crate) listed: Value,
}

impl Default for World {
    fn default() -> Self {
        let mut config = Config::default();
        config.provider.max_retries = 0;
        Self {
            provider: "openai",
            config,
            api_url: None,
            credential: json!({"type": "api_key", "key": KEY}),
            registry_fails: false,
            max_tokens_stored: false,
            model: Value::Null,
            listed: json!([]),
        }
    }
}

/// How a turn went.
#[derive(Debug, PartialEq)]
pub(crate) struct Turn {
    /// Frames in order.
    pub(crate) events: Vec<Value>,
    pub(crate) answer: Value,
}

impl Rig {
    pub(crate) async fn start(script: Script) -> Self {
        Self::with(script, World::default()).await
    }

    pub(crate) async fn with(script: Script, world: World) -> Self {
        let provider = world.provider;
        let server = Server::start(script).unwrap();
        let (worker, url) = match provider {
            "anthropic" => (anthropic::worker(), server.messages_url()),
            "kimi" => (kimi::worker(), server.url()),
            "llamacpp" => (llamacpp::worker(), server.url()),
            "lmstudio" => (lmstudio::worker(), server.url()),
            "openai" => (openai::worker(), server.url()),
            other => panic!("no provider {other}"),
        };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let double = |id: &'static str, answer: Value| {
            let seen = Arc::clone(&seen);
            FunctionDef::ad_hoc(id, move |payload, _| {
                seen.lock().unwrap().push((id.to_owned(), payload));
                let answer = if answer == REFUSED {
                    Err(Error::Unavailable("away".into()))
                } else {
                    Ok(answer.clone())
                };
                std::future::ready(answer)
            })
        };
        let mut config = world.config;
        for local in [
            &mut config.provider_llamacpp.default_api_url,
            &mut config.provider_lmstudio.default_api_url,
        ] {
            url.clone_into(local);
        }
        let elsewhere = world.api_url.is_some() || world.registry_fails;
        let url = world.api_url.unwrap_or(url);
        let resolved = json!({
            "configured": !world.credential.is_null(),
            "source": "stored",
            "credential": world.credential,
            "api_url": url,
            "max_tokens": 8192.0,
            "max_tokens_stored": world.max_tokens_stored,
        });
        let resolved = if world.registry_fails {
            json!(REFUSED)
        } else {
            resolved
        };
        let doubles = WorkerDef {
            name: "doubles",
            description: "",
            functions: vec![
                double("harness::provider::resolve", resolved),
                double("harness::provider::register", json!({"ok": true})),
                double("models::get", world.model),
                double("models::list", json!({"models": world.listed})),
                double("models::register", json!({"key": "k", "registered": true})),
            ],
            triggers: vec![],
            prepare: vec![],
            background: vec![],
            reconnected: vec![],
        };
        let test = TestBus::with(TestOptions {
            config,
            workers: vec![doubles, worker],
            ..TestOptions::default()
        })
        .await;
        let rig = Self {
            test,
            server,
            provider,
            seen,
        };
        // The discovery of the start is over before a test begins.
        // The listing of LM Studio is at a path that the scripted server does not have.
        if provider != "lmstudio" && !elsewhere {
            rig.test
                .eventually(async || rig.is_refreshed().then_some(()))
                .await;
        }
        rig
    }

    fn is_refreshed(&self) -> bool {
        self.test.calls_of("models::list") > 0 || self.server.listings() > 0
    }

    /// A function of the provider.
    pub(crate) fn id(&self, function: &str) -> String {
        format!("provider::{}::{function}", self.provider)
    }

    pub(crate) fn calls(&self, id: &str) -> Vec<Value> {
        let seen = self.seen.lock().unwrap();
        let of = seen.iter().filter(|(called, _)| called == id);
        of.map(|(_, payload)| payload.clone()).collect()
    }

    pub(crate) async fn say(&self, text: &str) -> Turn {
        self.turn(json!({"messages": [user(text)]})).await
    }

    /// A turn to its end.
    pub(crate) async fn turn(&self, request: Value) -> Turn {
        let mut events: Vec<Value> = Vec::new();
        let keep = |text: &str| {
            events.push(serde_json::from_str(text).unwrap());
            true
        };
        let answer = self.read_turn(request, keep).await;
        Turn { events, answer }
    }

    /// A turn whose reader looks at each frame and goes when it wants no more; answers what the call answers.
    pub(crate) async fn read_turn(&self, request: Value, wants_more: impl FnMut(&str) -> bool) -> Value {
        let (writer, reader) = self.test.channel().await;
        let stream = self.id("stream");
        let call = self.test.ok(&stream, self.request(&writer, request));
        let reading = self.test.read_channel(&reader, wants_more);
        within(async { tokio::join!(call, reading) }).await.0
    }

    /// A turn called from within the program, with what no wire carries.
    pub(crate) async fn say_inside(&self, channel: &ChannelPair, context: CallContext) -> Value {
        let request = self.request(&json!(channel.writer), json!({"messages": [user("hi")]}));
        let (bus, stream) = (self.test.bus(), self.id("stream"));
        let call = bus.invoke(&context, &stream, request, CallOptions::default());
        call.await.unwrap()
    }

    fn request(&self, writer: &Value, mut request: Value) -> Value {
        if self.provider == "anthropic" {
            let members = request.as_object_mut().unwrap();
            members.entry("model").or_insert(json!("claude-sonnet-4-5"));
        }
        stream_request(writer, request)
    }

    pub(crate) async fn server_is_idle(&self) {
        let mut open = self.server.open_replies();
        let idle = open.wait_for(|open| *open == 0);
        tokio::time::timeout(Duration::from_secs(1), idle)
            .await
            .expect("the connection stayed open")
            .unwrap();
    }
}

impl Turn {
    pub(crate) fn kinds(&self) -> Vec<&str> {
        self.events
            .iter()
            .map(|event| event["type"].as_str().unwrap())
            .collect()
    }

    /// The final message; there is exactly one terminal event, and it is the last.
    pub(crate) fn message(&self) -> &Value {
        let terminal = |event: &&Value| event["type"] == "done" || event["type"] == "error";
        assert_eq!(
            self.events.iter().filter(terminal).count(),
            1,
            "{:?}",
            self.kinds()
        );
        let last = self.events.last().filter(terminal).unwrap();
        assert_eq!(self.answer, json!({"ok": true}));
        let message = last.get("message").or_else(|| last.get("error")).unwrap();
        assert_eq!(message["role"], "assistant");
        assert!(
            serde_json::from_value::<AgentMessage>(message.clone()).is_ok(),
            "{message}"
        );
        message
    }

    /// `stop_reason`, `error_kind` and `error_message` of a failed turn.
    pub(crate) fn failure(&self) -> (&str, &str, &str) {
        let message = self.message();
        let text = |key: &str| message[key].as_str().unwrap();
        assert_eq!(self.kinds().last(), Some(&"error"));
        (text("stop_reason"), text("error_kind"), text("error_message"))
    }
}

/// One chunk of text of Chat Completions, as a frame.
pub(crate) fn chunk(text: &str) -> String {
    let chunk = json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    format!("data: {chunk}\n\n")
}

/// An event of the Messages protocol, as a frame.
pub(crate) fn event(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())
}

/// The events of the Messages protocol up to the first text, and that text.
pub(crate) fn half(text: &str) -> String {
    [
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 10, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
    ]
    .iter()
    .map(event)
    .collect()
}

/// The configuration that a variable makes.
pub(crate) fn config_of(name: &str, value: &str) -> Config {
    let input = LoadInput {
        path: None,
        flags: Flags::default(),
        env: Arc::new(MapEnv::from([(name, value)])),
    };
    Config::load(&input).unwrap().config
}

pub(crate) fn user(text: &str) -> Value {
    json!({"role": "user", "content": [{"type": "text", "text": text}], "timestamp": 1})
}

pub(crate) fn queue<const N: usize>(replies: [Reply; N]) -> Script {
    Script::queue(replies)
}

/// A request with what it needs at least.
pub(crate) fn stream_request(writer: &Value, mut request: Value) -> Value {
    let members = request.as_object_mut().unwrap();
    for (key, value) in [
        ("writer_ref", writer.clone()),
        ("model", json!("gpt-4o")),
        ("system_prompt", Value::Null),
        ("tools", json!([])),
    ] {
        members.entry(key).or_insert(value);
    }
    request
}
