//! The whole program with the openai provider, and the scripted server it talks to.

use harness::scripted::{Script, Server};
use serde_json::{Value, json};

use super::support::{TestBus, TestOptions};
use super::turn::user;

/// The credential, from the environment; it must never be seen anywhere but at the server.
pub(crate) const KEY: &str = "sk-live-0123456789abcdef";

pub(crate) struct ModelRig {
    pub(crate) t: TestBus,
    pub(crate) server: Server,
}

impl ModelRig {
    pub(crate) async fn start(script: Script) -> Self {
        Self::with(script, |_| {}).await
    }

    /// `free` is allowed, `forbidden` is denied, the rest is asked; failed requests are not tried again.
    pub(crate) async fn with(script: Script, change: impl FnOnce(&mut TestOptions)) -> Self {
        let server = Server::start(script).unwrap();
        let mut options = TestOptions {
            rules: Some("rules: ['!forbidden', free]"),
            ..TestOptions::default()
        };
        options.config.provider_openai.default_api_url = server.url();
        options.config.provider.max_retries = 0;
        options.env.insert("OPENAI_API_KEY".into(), KEY.into());
        change(&mut options);
        let t = TestBus::with(options).await;
        Self { t, server }
    }

    /// Asks and waits until the session has ended `runs` runs; answers the events of this run.
    pub(crate) async fn run(&self, session: &str, text: &str, runs: usize) -> Vec<Value> {
        let before = self.t.events(session).await.len();
        let request = json!({ "session_id": session, "provider": "openai", "model": "gpt-5", "messages": [user(text)] });
        assert_eq!(self.t.ok("run::start", request).await["started"], true);
        self.t.ended(session, runs).await.split_off(before)
    }

    pub(crate) async fn transcript(&self, session: &str) -> Vec<Value> {
        let mut reply = self
            .t
            .ok("session-tree::messages", json!({ "session_id": session }))
            .await;
        let Value::Array(rows) = reply["messages"].take() else {
            panic!("{reply}")
        };
        rows.into_iter().map(|mut row| row["message"].take()).collect()
    }

    /// All that this program has stored, shown or counted, as one text.
    pub(crate) async fn everything(&self) -> String {
        format!("{}\n{}", self.t.measured(), self.t.stored().await)
    }
}
