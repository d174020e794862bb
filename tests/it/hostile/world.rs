//! The whole program, and everything it has written.

use std::net::SocketAddr;
use std::time::Duration;

use harness::error::Result;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::engine::within;
use crate::support::{TestBus, TestOptions};

/// Longest answer to bad input.
const PROMPT: Duration = Duration::from_secs(20);

pub(super) struct World {
    t: TestBus,
}

impl World {
    pub(super) async fn start() -> Self {
        let mut options = TestOptions::default();
        // Nobody listens there.
        options.config.provider_openai.default_api_url = "http://127.0.0.1:9/v1/chat/completions".into();
        options.config.provider.max_retries = 0;
        // Nobody answers hooks.
        options.config.hook_fanout.default_timeout_ms = 1;
        let t = TestBus::with(options).await;
        Self { t }
    }

    pub(super) async fn call(&self, id: &str, payload: Value) -> Result<Value> {
        match tokio::time::timeout(PROMPT, self.t.call(id, payload)).await {
            Ok(outcome) => outcome,
            Err(late) => panic!("{id} did not answer: {late}"),
        }
    }

    /// All state, all streams, all sessions, the settings and the providers.
    pub(super) async fn dump(&self) -> Value {
        let scopes = self.t.ok("state::list_groups", json!({})).await;
        let mut state = serde_json::Map::new();
        for scope in scopes["groups"].as_array().unwrap() {
            let values = self.t.ok("state::list", json!({ "scope": scope })).await;
            state.insert(scope.as_str().unwrap().to_owned(), values);
        }
        json!({
            "state": state,
            "streams": self.t.ok("stream::list_all", json!({})).await,
            "sessions": self.t.ok("session-tree::list", json!({})).await,
            "settings": self.t.ok("configuration::get", json!({ "id": "harness", "raw": true })).await,
            "providers": self.t.ok("harness::provider::list", json!({})).await,
        })
    }

    /// The same, once every run that was started has ended and nothing moves any more.
    pub(super) async fn settled(&self) -> Value {
        let mut before = Value::Null;
        let settling = async {
            loop {
                let now = self.dump().await;
                let rows = now["state"]["turn_state"].as_array();
                let is_over = |row: &Value| row["state"] == "stopped" || row["state"] == "failed";
                if now == before && rows.is_none_or(|rows| rows.iter().all(is_over)) {
                    return now;
                }
                before = now;
            }
        };
        within(settling).await
    }

    /// What is good is still taken, stored and read back.
    pub(super) async fn proves_to_live(&self) {
        let message =
            json!({ "role": "user", "content": [{ "type": "text", "text": "alive" }], "timestamp": 1 });
        let session = self.t.ok("session-tree::create", json!({})).await["session_id"].take();
        let append = json!({ "session_id": session, "message": message });
        let entry = self.t.ok("session-tree::append", append).await["entry_id"].take();
        assert_eq!(
            self.t
                .ok("session-tree::messages", json!({ "session_id": session }))
                .await,
            json!({ "messages": [{ "entry_id": entry, "message": message }] })
        );
    }

    /// Lets others in over a socket.
    pub(super) async fn listen(&self) -> SocketAddr {
        self.t.listen().await
    }

    /// Waits until no call from outside is at work.
    pub(super) async fn is_idle(&self) {
        let at_work = async || (self.t.bus().served_now() == 0).then_some(());
        self.t.eventually(at_work).await;
    }

    pub(super) async fn stop(self) {
        self.t.stop().await;
    }
}
