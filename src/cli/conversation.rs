//! One session of an agent, seen from a client (contract 11).

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Trouble;
use super::client::Client;
use super::ears::Ears;
use super::feed::{EVENTS, Feed, Frame, Store, inlet};
use crate::bus::{CallOptions, Link};
use crate::config::Loaded;
use crate::model::{AwaitingCall, TurnStateView};

/// After so long without an event, a run is asked how it stands.
const QUIET: Duration = Duration::from_secs(5);
/// Reading one event of the stream.
const READ_MS: u64 = 5_000;
/// Longer than the 270 s a compaction may take (contract 10 §6.2).
const COMPACT_MS: u64 = 300_000;

/// How an agent is asked.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Settings {
    /// Model, as `gpt-5` or `openai::gpt-5`; the session's last one, or the only one of the engine, when absent.
    #[arg(long)]
    model: Option<String>,
    /// Provider of the model; found by the model's name when absent.
    #[arg(long)]
    provider: Option<String>,
    /// What the agent should do: plan, ask or agent.
    #[arg(long, value_parser = ["plan", "ask", "agent"])]
    mode: Option<String>,
    /// How much the model should think: off, minimal, low, medium, high or xhigh.
    #[arg(long, value_parser = ["off", "minimal", "low", "medium", "high", "xhigh"])]
    thinking: Option<String>,
    /// Replaces the system prompt.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Most model turns of a run.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_turns: Option<u32>,
    /// Permission mode of the session from now on: manual, auto or full.
    #[arg(long, value_parser = ["manual", "auto", "full"])]
    permissions: Option<String>,
}

/// A session with its settings and its events.
pub(super) struct Conversation {
    client: Client,
    /// The function that is called with events.
    handler: String,
    feed: Feed,
    settings: Settings,
    heard: Instant,
}

/// What happened.
#[derive(Debug)]
pub(super) enum News {
    /// An event of the session.
    Event(Value),
    /// The state of the run, asked for because events may have been missed.
    State(TurnStateView),
    /// Something to tell.
    Notice(String),
}

impl Conversation {
    /// Connects; a session is begun or continued.
    pub(super) async fn open(
        loaded: Loaded,
        session: Option<String>,
        settings: Settings,
    ) -> Result<(Self, Ears)> {
        let handler = format!("harness-cli::session_event::{}", std::process::id());
        let (function, frames) = inlet(&handler);
        let client = Client::connect(loaded, vec![function]).await?;
        let session = session.unwrap_or_else(|| fresh(&client));
        let mut this = Self {
            client,
            handler,
            feed: Feed::of(&session),
            settings,
            heard: Instant::now(),
        };
        this.switch(session).await?;
        let ears = Ears::new(frames, this.client.link())?;
        Ok((this, ears))
    }

    /// Goes over to a new session.
    pub(super) async fn begin(&mut self) -> Result<()> {
        let session = fresh(&self.client);
        self.switch(session).await
    }

    /// Goes over to another session.
    pub(super) async fn switch(&mut self, session: String) -> Result<()> {
        self.client.listen(&self.handler, &session).await?;
        self.feed = Feed::of(&session);
        if let Some(mode) = &self.settings.permissions {
            let request = json!({ "session_id": session, "mode": mode });
            answered(&self.client.call("approval::set_mode", request).await?)?;
        }
        Ok(())
    }

    pub(super) fn session(&self) -> &str {
        self.feed.session()
    }

    /// Goes on with another model.
    pub(super) fn choose_model(&mut self, model: String) {
        self.settings.model = Some(model);
        self.settings.provider = None;
    }

    /// Finds out which model to ask, unless it was said: the one that the session asked last, or the only one there is.
    pub(super) async fn settle_model(&mut self) -> Result<String> {
        if self.settings.model.is_none() {
            let last = self
                .messages()
                .await?
                .into_iter()
                .rev()
                .find_map(|message| key(&message, "model"));
            self.settings.model = match last {
                Some(model) => Some(model),
                None => Some(self.only_model().await?),
            };
        }
        Ok(self.settings.model.clone().unwrap_or_default())
    }

    async fn only_model(&self) -> Result<String> {
        let models = self.models().await?;
        match models.as_slice() {
            [model] => Ok(model.clone()),
            [] => Err(Trouble::Unusable(
                "which model? the engine knows none; name one (--model, in a chat /model)".into(),
            )
            .into()),
            many => Err(Trouble::Unusable(format!(
                "which model? name one (--model, in a chat /model):\n  {}",
                many.join("\n  ")
            ))
            .into()),
        }
    }

    /// The models of the engine, as `provider::id`.
    pub(super) async fn models(&self) -> Result<Vec<String>> {
        let list = self
            .client
            .call("models::list", json!({}))
            .await
            .context("models::list")?;
        let rows = list["models"].as_array().into_iter().flatten();
        Ok(rows.filter_map(|row| key(row, "id")).collect())
    }

    /// The messages of the session, oldest first.
    pub(super) async fn messages(&self) -> Result<Vec<Value>> {
        let request = json!({ "session_id": self.session() });
        let list = self
            .client
            .call("session-tree::messages", request)
            .await
            .context("session-tree::messages")?;
        let rows = list["messages"].as_array().cloned().unwrap_or_default();
        Ok(rows.into_iter().map(|mut row| row["message"].take()).collect())
    }

    /// The sessions of the engine, last changed first.
    pub(super) async fn sessions(&self, most: usize) -> Result<Vec<Value>> {
        let list = self
            .client
            .call("session-tree::list", json!({ "limit": most }))
            .await
            .context("session-tree::list")?;
        Ok(list["sessions"].as_array().cloned().unwrap_or_default())
    }

    /// Begins a run. False: the one before is still going on, and nothing was sent.
    pub(super) async fn send(&mut self, text: &str) -> Result<bool> {
        let model = self.settle_model().await?;
        let (provider, model) = match (&self.settings.provider, model.split_once("::")) {
            (Some(provider), _) => (provider.as_str(), model.as_str()),
            (None, Some((provider, model))) if !provider.is_empty() => (provider, model),
            (None, _) => ("", model.as_str()),
        };
        let message_id = format!("msg-{}", self.client.uuid());
        let message = json!({
            "role": "user", "content": [{ "type": "text", "text": text }], "timestamp": self.client.now_ms(),
        });
        let mut payload = json!({
            "session_id": self.session(), "message_id": message_id, "provider": provider, "model": model,
            "messages": [message],
        });
        let settings = &self.settings;
        let optional: [(&str, Option<Value>); 4] = [
            ("mode", settings.mode.clone().map(Value::from)),
            ("thinking_level", settings.thinking.clone().map(Value::from)),
            ("system_prompt", settings.system.clone().map(Value::from)),
            ("max_turns", settings.max_turns.map(Value::from)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                payload[name] = value;
            }
        }
        let kickoff = json!({ "session_id": self.session(), "message_id": message_id, "payload": payload });
        self.feed.expect_run();
        let reply = self
            .client
            .call("harness::trigger", kickoff)
            .await
            .context("harness::trigger")?;
        self.heard = Instant::now();
        Ok(reply["body"]["started"] != false)
    }

    /// Takes in a frame.
    pub(super) async fn frame(&mut self, frame: Frame) -> Vec<News> {
        self.heard = Instant::now();
        let events = self.feed.accept(frame, &self.client).await;
        self.with_losses(events)
    }

    /// The link went down or came up.
    pub(super) async fn linked(&mut self, link: Link) -> Vec<News> {
        let up = link != Link::Down;
        let text = if up {
            "the engine is back"
        } else {
            "the engine is gone; waiting for it"
        };
        let mut news = vec![News::Notice(text.into())];
        if up {
            news.extend(self.catch_up().await);
        }
        news
    }

    /// Looks after a run that has been quiet for long.
    pub(super) async fn look(&mut self) -> Vec<News> {
        if self.heard.elapsed() > QUIET && self.is_connected() {
            self.catch_up().await
        } else {
            Vec::new()
        }
    }

    fn is_connected(&self) -> bool {
        *self.client.link().borrow() != Link::Down
    }

    /// What may have been missed: the events behind the last one, then how the run stands.
    pub(super) async fn catch_up(&mut self) -> Vec<News> {
        let events = self.feed.rest(&self.client).await;
        let mut news = self.with_losses(events);
        let request = json!({ "session_id": self.session() });
        if let Ok(state) = self.client.call("turn::get_state", request).await
            && let Ok(view) = TurnStateView::deserialize(state)
        {
            // What was stored before that answer, its last event included.
            let events = self.feed.rest(&self.client).await;
            news.extend(self.with_losses(events));
            news.push(News::State(view));
        }
        self.heard = Instant::now();
        news
    }

    fn with_losses(&mut self, events: Vec<Value>) -> Vec<News> {
        let mut news: Vec<News> = events.into_iter().map(News::Event).collect();
        match self.feed.lost() {
            0 => {}
            lost => news.push(News::Notice(format!("{lost} events were lost"))),
        }
        news
    }

    /// Decides a call that waits.
    pub(super) async fn resolve(
        &self,
        call: &AwaitingCall,
        decision: &str,
        reason: Option<&str>,
    ) -> Result<()> {
        let request = json!({
            "session_id": self.session(), "function_call_id": call.function_call_id,
            "decision": decision, "reason": reason,
        });
        answered(&self.client.call("approval::resolve", request).await?)
    }

    /// Remembers that this session may call a function without being asked.
    pub(super) async fn approve_always(&self, call: &AwaitingCall) -> Result<()> {
        let request = json!({ "session_id": self.session(), "function_id": call.function_id });
        answered(&self.client.call("approval::approve_always", request).await?)
    }

    /// Stops the run; false where the engine has nothing that stops one, or is not there.
    pub(super) async fn abort(&self) -> Result<bool> {
        if !self.is_connected() || !self.client.offers("run::abort").await? {
            return Ok(false);
        }
        let request = json!({ "session_id": self.session() });
        self.client
            .call("run::abort", request)
            .await
            .context("run::abort")?;
        Ok(true)
    }

    /// Replaces the history by a summary (contract 11 §6); answers what came of it.
    pub(super) async fn compact(&mut self) -> Result<String> {
        const COMPACT: &str = "context-compaction::compact_session";
        if !self.client.offers(COMPACT).await? {
            bail!("this engine has no compaction yet");
        }
        let key = self.settle_model().await?;
        let (provider, model) = key.split_once("::").unwrap_or(("", &key));
        let provider = self.settings.provider.as_deref().unwrap_or(provider);
        let request =
            json!({ "session_id": self.session(), "model": { "id": model, "providerID": provider } });
        let options = CallOptions::timeout_ms(COMPACT_MS);
        let reply = self
            .client
            .call_with(COMPACT, request, options)
            .await
            .context(COMPACT)?;
        let text = |name: &str| reply[name].as_str().unwrap_or_default();
        match text("status") {
            "ok" => Ok(format!("compacted {} tokens", reply["tokens_before"])),
            "empty" => Ok("there is nothing to compact".into()),
            "busy" => Ok("a compaction is under way; it goes on and is shown when it is done".into()),
            other => bail!("not compacted: {other} {}", text("message")),
        }
    }

    pub(super) async fn leave(self) {
        self.client.stop().await;
    }
}

impl Store for Client {
    async fn get(&self, session: &str, item: &str) -> Option<Value> {
        let request = json!({ "stream_name": EVENTS, "group_id": session, "item_id": item });
        let event = self
            .call_with("stream::get", request, CallOptions::timeout_ms(READ_MS))
            .await;
        event.ok().filter(|event| !event.is_null())
    }
}

fn fresh(client: &Client) -> String {
    format!("cli-{}", client.uuid())
}

/// `provider::id` of a row that names a model.
fn key(row: &Value, member: &str) -> Option<String> {
    let text = |name: &str| row.get(name)?.as_str().filter(|text| !text.is_empty());
    let model = text(member)?;
    Some(match text("provider") {
        Some(provider) => format!("{provider}::{model}"),
        None => model.to_owned(),
    })
}

/// Functions of the approval family answer `{ok: false, error}` instead of failing (contract 03 §2).
fn answered(reply: &Value) -> Result<()> {
    if reply["ok"] == false {
        bail!(
            "refused: {}",
            reply["error"].as_str().unwrap_or("no reason given")
        );
    }
    Ok(())
}
