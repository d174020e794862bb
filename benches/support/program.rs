//! The whole program in this process: embedded engine on disk, the openai provider, a scripted model over real HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use harness::app::{App, Parts};
use harness::bus::{Bus, CallContext, CallOptions, StreamItem};
use harness::config::{Config, EngineChoice, MapEnv};
use harness::scripted::{Script, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

pub(crate) use harness::config::Durability;

/// A running program with its model.
pub(crate) struct Program {
    app: App,
    pub(crate) server: Server,
    ends: Arc<Mutex<HashMap<String, oneshot::Sender<()>>>>,
    _directory: TempDir,
}

impl Program {
    pub(crate) async fn start(
        durability: Durability,
        script: Script,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let engine = EngineChoice::Embedded {
            reason: "bench".into(),
        };
        Self::on(engine, durability, script, change).await
    }

    /// On an engine of any kind.
    pub(crate) async fn on(
        engine: EngineChoice,
        durability: Durability,
        script: Script,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let server = Server::start(script).expect("a model server");
        let mut config = Config::default();
        config.http.listen = String::new();
        config.engine.listen = "127.0.0.1:0".into();
        config.engine.durability = durability;
        config.engine.data_dir = directory
            .path()
            .join("data")
            .to_string_lossy()
            .into_owned()
            .into();
        config.permissions_path = directory.path().join("iii-permissions.yaml");
        config.provider_openai.default_api_url = server.url();
        change(&mut config);
        let app = App::start(Parts {
            config,
            engine,
            env: Arc::new(MapEnv::from([("OPENAI_API_KEY", "not-a-secret")])),
            workers: harness::workers::all(),
        })
        .await
        .expect("a program");
        let ends: Arc<Mutex<HashMap<String, oneshot::Sender<()>>>> = Arc::default();
        let waiting = Arc::clone(&ends);
        let tap = move |item: &StreamItem| {
            if item.data.get("type").is_some_and(|kind| kind == "agent_end")
                && let Some(end) = waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&*item.group)
            {
                end.send(()).ok();
            }
        };
        app.bus().tap_stream("agent::events", Arc::new(tap));
        let program = Self {
            app,
            server,
            ends,
            _directory: directory,
        };
        program.models_known().await;
        program
    }

    /// The models are listed in the background; a turn before that asks less of the catalog.
    async fn models_known(&self) {
        let request = json!({ "provider": "openai", "model_id": "gpt-5" });
        while self.call("models::get", request.clone()).await.is_null() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn bus(&self) -> &Bus {
        self.app.bus()
    }

    pub(crate) async fn call(&self, id: &str, payload: Value) -> Value {
        self.bus()
            .invoke(&CallContext::default(), id, payload, CallOptions::default())
            .await
            .map_err(|error| format!("{id}: {error}"))
            .expect("an answer")
    }

    /// One run, from the request to its last event.
    pub(crate) async fn turn(&self, session: &str, text: &str) {
        let (end, ended) = oneshot::channel();
        self.ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(session.to_owned(), end);
        let request = json!({
            "session_id": session, "provider": "openai", "model": "gpt-5",
            "messages": [{ "role": "user", "content": [{ "type": "text", "text": text }],
                           "timestamp": self.bus().now_ms() }],
        });
        let reply = self.call("run::start", request).await;
        assert_eq!(reply["started"], true, "{reply}");
        ended.await.expect("an end");
    }

    /// What the program sent to the model last.
    pub(crate) fn last_request(&self) -> Value {
        self.server
            .requests()
            .pop()
            .map(|request| request.body)
            .unwrap_or_default()
    }

    pub(crate) async fn stop(self) {
        assert_eq!(self.server.violations(), Vec::<String>::new());
        assert!(self.app.stop().await, "work was left running");
    }
}
